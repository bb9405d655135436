"""`ctrkit monitor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def monitor(
    data: Annotated[
        Path | None, typer.Argument(help="Log to watch (default: the test rows of the training table).")
    ] = None,
    model: Annotated[Path, typer.Option(help="Artifact of the model.")] = Path(common.MODEL),
    by: Annotated[
        Literal["hour", "day", "week"] | None,
        typer.Option(help="Length of a period (default: one that suits the log)."),
    ] = None,
    segment: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column by whose values the log is judged too.")
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Exit with code 1, after the report, if a gate is broken."),
    ] = False,
    out: common.RunFolder = Path("runs/monitor"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Watch a log: drift since training, calibration, clicks and money, by period of time."""
    broken: list[str] = []

    def work(progress: OnStep) -> Result:
        import ctrkit

        result = ctrkit.monitor(
            data,
            model=model,
            config=config,
            overrides=overrides or (),
            out=out,
            on_step=progress,
            **common.given(by=by, segment=segment),
        )
        broken.extend(outcome.reason for outcome in result.broken)
        return result

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=(data,),
        models=(model,),
        config=config,
    )
    if gate:
        common.end_if_broken(broken)
