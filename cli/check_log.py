"""`ctrkit check-log`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.check_log import LogCheck


def check_log(
    logs: Annotated[
        list[str] | None,
        typer.Argument(help="Files and globs that make up one log (default: the sample log)."),
    ] = None,
    named: Annotated[
        list[str] | None, typer.Option("--logs", help="The same files, given as for `ctrkit ope --logs`.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format: table, obp, open-bandit, dsjson or criteo (default: found from the content)."
        ),
    ] = None,
    skip_bad_lines: common.SkipBadLines = False,
    map: common.ColumnMap = None,
    propensity: common.Propensity = None,
    out: common.RunFolder = Path("runs/check-log"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Audit a bandit log: propensities, support, drift, duplicates. Exit code 1 if it is not fit for use."""
    failed = False
    files = [*(logs or ()), *(named or ())]

    def work(progress: OnStep) -> LogCheck:
        nonlocal failed
        import ctrkit

        result = ctrkit.check_log(
            (files[0] if len(files) == 1 else files) or None,
            format=format,
            config=config,
            overrides=overrides or (),
            out=out,
            **common.given(map=map, propensity=propensity, skip_bad_lines=skip_bad_lines or None),
        )
        failed = result.failed
        return result

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=files,
        config=config,
    )
    if failed:
        raise typer.Exit(1)
