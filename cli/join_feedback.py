"""`ctrkit join-feedback`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def join_feedback(
    journal: Annotated[Path, typer.Argument(help="Folder of `ctrkit serve --journal`.")],
    out: Annotated[Path, typer.Option(help="Parquet file of the log.")] = Path("feedback.parquet"),
    rows: Annotated[
        Literal["decisions", "impressions"],
        typer.Option(
            help="Decisions of the server's policy, for `ctrkit ope`, or impressions, for `ctrkit train`."
        ),
    ] = "decisions",
    reward: Annotated[
        Literal["click", "conversion", "value"], typer.Option(help="What a policy should earn.")
    ] = "click",
    window: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Time after a decision in which its events count; younger ones are left out (default: any).",
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the candidates' ids (default: the model's)."),
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Write the journal of a server as a log: decisions, or impressions, and what came of them."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.join_feedback(journal, out=out, rows=rows, reward=reward, window=window, id=id)

    common.execute(common.Output(json, quiet, debug), work)
