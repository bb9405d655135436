"""`ctrkit summary`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def summary(
    runs: Annotated[Path, typer.Argument(help="Folder that holds the run folders.")] = Path("runs"),
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Put the results of the last runs into one table and one report."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.summary(runs, out=runs)

    common.execute(common.Output(json, quiet, debug), work, where=f"report: {runs / 'report.html'}")
