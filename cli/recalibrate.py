"""`ctrkit recalibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def recalibrate(
    model: Annotated[Path, typer.Argument(help="The artifact, whose calibrators are moved.")],
    data: Annotated[Path, typer.Argument(help="Table of new labelled rows.")],
    save: Annotated[Path | None, typer.Option(help="Write the artifact here instead.")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/recalibrate"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Move the calibrators of a model with new labelled rows, where these are better told so."""

    def work(progress: common.Progress) -> Result:
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
