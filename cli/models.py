"""`ctrkit models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def models(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Parquet or CSV table, or the folder of a data source (default: the sample log)."
        ),
    ] = None,
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """List all models, with their number of parameters and their cost per row on your features."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.list_models(config, data, overrides=overrides or ())

    common.execute(common.Output(json, quiet, debug), work, tables=(data,), config=config)
