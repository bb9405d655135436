"""`ctrkit recalibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def recalibrate(
    model: Annotated[Path, typer.Argument(help="Artifact whose calibrators are updated.")],
    data: Annotated[Path, typer.Argument(help="Table of new labelled rows.")],
    save: Annotated[
        Path | None, typer.Option(help="File for the updated artifact (default: replace the model).")
    ] = None,
    out: common.RunFolder = Path("runs/recalibrate"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Update the calibrators of a model with new labelled rows, unless that makes predictions worse."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.recalibrate(model, data, config=config, overrides=overrides or (), save=save, out=out)

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"model: {save or model}   report: {out / 'report.html'}",
        tables=(data,),
        models=(model,),
        config=config,
    )
