"""`ctrkit sources`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def sources(json: common.Json = False, quiet: common.Quiet = False, debug: common.Debug = False) -> None:
    """List all public data sets that a config can read, and where their owners publish them."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.list_sources()

    common.execute(common.Output(json, quiet, debug), work)
