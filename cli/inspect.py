"""`ctrkit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def inspect(
    data: Annotated[Path, typer.Argument(help="Table to look at.")],
    out: Annotated[Path | None, typer.Option(help="File for the first config.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of clicks, if its name does not say so.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Public data set of which DATA is the file or the folder.")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Look at a table: what its columns are, and a first config to train on it."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.inspect(data, label=label, source=source, out=out)

    common.execute(common.Output(json, quiet, debug), work, tables=(data,))
