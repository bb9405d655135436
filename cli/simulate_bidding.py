"""`ctrkit simulate-bidding`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def simulate_bidding(
    budget: Annotated[float, typer.Option(help="Money to spend, in the unit of the market prices.")],
    replay: Annotated[Path | None, typer.Option(help="Auction log, parquet or CSV; else the sample.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Artifact that scores the ads; else the log's pctr, or model.pt.")
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:KEY=VALUE,...]", help="A bidding strategy; repeatable.")
    ] = None,
    episode_length: Annotated[
        int | None, typer.Option(help="Auctions an episode; the budget is then each episode's.")
    ] = None,
    max_bid: Annotated[float | None, typer.Option(help="No bid goes above this.")] = None,
    integer_bids: Annotated[
        bool | None, typer.Option("--integer-bids", help="Round bids down to whole units of money.")
    ] = None,
    auction: Annotated[str | None, typer.Option(help="second (default) or first price.")] = None,
    hard_floor: Annotated[float | None, typer.Option(help="No bid below it is taken.")] = None,
    soft_floor: Annotated[float | None, typer.Option(help="A winning bid below it pays itself.")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/simulate-bidding"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Replay auctions under a budget: Thompson sampling and Lagrangian pacing beside the baselines."""

    def work(progress: common.Progress) -> Result:
        import ctrkit

        rule = {"price": auction, "hard_floor": hard_floor, "soft_floor": soft_floor}
        settings = common.overrides_of(
            overrides,
            **{f"auction.{name}": value for name, value in rule.items()},
            seed=seed,
            strategies=strategy or None,
            episode_length=episode_length,
            max_bid=max_bid,
            integer_bids=integer_bids,
        )
        return ctrkit.simulate_bidding(
            replay, model, budget, config=config, overrides=settings, out=out, on_step=progress
        )

    common.execute(common.Output(json, quiet, debug), work, where=f"report: {out / 'report.html'}")
