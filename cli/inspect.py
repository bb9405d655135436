"""`ctrkit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


_RUN = Path("runs/inspect")


def inspect(
    data: Annotated[Path, typer.Argument(help="Table to look at.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the report and the first config; a path with an ending, such as first.yaml, is "
            "a file for the config."
        ),
    ] = _RUN,
    label: Annotated[str | None, typer.Option(help="Column of clicks, if its name does not say so.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Public data set of which DATA is the file or the folder.")
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Look at a table: what its columns are, and a first config to train on it."""
    # A path with an ending is a file: `--out first.yaml`.
    folder, save = (_RUN, out) if out.suffix else (out, None)

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.inspect(data, label=label, source=source, save=save, out=folder)

    common.execute(
        common.Output(json, quiet, debug), work, where=f"report: {folder / 'report.html'}", tables=(data,)
    )
