"""`ctrkit sample-logs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def sample_logs(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("logs_sample"),
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Write the logs of a synthetic market with known truth; the same seed gives the same bytes."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.sample_logs(out, seed=seed or 0)

    common.execute(common.Output(json, quiet, debug), work)
