"""`ctrkit ope`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def ope(
    logs: Annotated[Path | None, typer.Option(help="Bandit log, parquet or CSV; else the sample.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Artifact of the new policy; else model.pt.")] = None,
    target_column: Annotated[
        str | None, typer.Option(help="Column with the new policy's probability of the action.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/ope"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Tell what a new policy would have earned on logged data, with intervals and a plain verdict."""

    def work(progress: common.Progress) -> Result:
        import ctrkit

        return ctrkit.evaluate_policy(
            logs,
            policy,
            target_column=target_column,
            config=config,
            overrides=common.overrides_of(overrides, seed=seed),
            out=out,
            on_step=progress,
        )

    common.execute(common.Output(json, quiet, debug), work, where=f"report: {out / 'report.html'}")
