"""`ctrkit prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def prepare(
    data: Annotated[
        Path | None,
        typer.Argument(help="Table, glob, or the folder of a data source (default: the sample log)."),
    ] = None,
    config: common.ConfigFile = None,
    out: Annotated[Path, typer.Option(help="Folder for the prepared data.")] = Path("prepared"),
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Encode training data once, in bounded memory; `ctrkit train FOLDER` then reads them from disk."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.prepare(
            config,
            data,
            out=out,
            overrides=overrides or (),
            on_step=progress,
            **common.given(seed=seed),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"train: ctrkit train {out}   report: {out / 'report.html'}",
        tables=(data,),
        config=config,
    )
