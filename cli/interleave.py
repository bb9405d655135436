"""`ctrkit interleave`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def interleave(
    logs: Annotated[list[str], typer.Argument(help="Files and globs of one log: a row for each candidate.")],
    a: Annotated[str, typer.Option("--a", metavar="COLUMN", help="Scores of the first ranker.")],
    b: Annotated[str, typer.Option("--b", metavar="COLUMN", help="Scores of the second ranker.")],
    request: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Request of a candidate.", show_default="request_id"),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Clicks, 0 or 1.", show_default="click")
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="User of a request (default: each request is of another)."),
    ] = None,
    method: Annotated[
        Literal["team-draft", "probabilistic", "balanced"] | None,
        typer.Option(help="How lists are made.", show_default="team-draft"),
    ] = None,
    length: Annotated[int | None, typer.Option(min=1, help="Candidates of a list.", show_default="3")] = None,
    out: common.RunFolder = Path("runs/interleave"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Interleave two rankers on a log: which one is preferred, and what an A/B test would take."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.interleave(
            logs[0] if len(logs) == 1 else logs,
            a=a,
            b=b,
            config=config,
            overrides=overrides or (),
            out=out,
            **common.given(request=request, label=label, user=user, method=method, length=length, seed=seed),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=logs,
        config=config,
    )
