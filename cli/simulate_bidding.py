"""`ctrkit simulate-bidding`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result

_SUPPLY, _CAMPAIGN, _EXCHANGE = "The auctions", "The campaign", "The exchange"


def simulate_bidding(
    budget: Annotated[
        str,
        typer.Option(
            metavar="MONEY|FROM:TO:COUNT",
            help="Money to spend, in the unit of the market prices; or a sweep, such as 100:10000:12.",
        ),
    ],
    strategy: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:KEY=VALUE,...]", help="A bidding strategy; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of resamples of the log, or of simulated markets, for intervals."),
    ] = None,
    auctions: Annotated[
        Path | None,
        typer.Option(
            "--auctions",
            "--replay",
            help="Auction log, parquet or CSV (default: the sample log).",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Artifact that scores the ads (default: the log's pctr, else model.pt).",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    calibrator: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A calibrator from `ctrkit calibrate --scores`, for the log's pctr and pcvr.",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    market: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="A simulated market in place of a log, such as auctions=100000,ads=12.",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    shock: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:KEY=VALUE,...",
            help="Market change that bidders are not told of, such as price:factor=2,start=0.5; repeatable.",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    miscalibration: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Bidders see the distorted pCTR expit(A · logit(pCTR) + B).",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(
            metavar="LOG",
            help="An earlier log to tune the strategies on; with --market, a number of auctions.",
            rich_help_panel=_SUPPLY,
        ),
    ] = None,
    daily_budget: Annotated[
        float | None,
        typer.Option(help="Largest spend of a day; pacing restarts each day.", rich_help_panel=_CAMPAIGN),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="Time zone of days and hours, such as Europe/Berlin (default: the log's, else UTC).",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    episode_length: Annotated[
        int | None,
        typer.Option(
            help="Auctions per episode; --budget is then the budget of each episode.",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    pacing: Annotated[
        str | None,
        typer.Option(
            metavar="even|asap|PLAN",
            help="Spend evenly (default), as soon as possible, or by the plan.parquet of plan-budget.",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    max_bid: Annotated[
        float | None,
        typer.Option(help="Largest bid; higher bids are lowered to it.", rich_help_panel=_CAMPAIGN),
    ] = None,
    integer_bids: Annotated[
        bool | None,
        typer.Option(
            "--integer-bids", help="Round bids down to whole units of money.", rich_help_panel=_CAMPAIGN
        ),
    ] = None,
    frequency_cap: Annotated[
        str | None,
        typer.Option(
            metavar="N[/hour|day|week]",
            help="Largest number of impressions per user.",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    bid_value: Annotated[
        str | None,
        typer.Option(
            help="Value that exploring strategies bid: slot, mean, sample or ucb.",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    conversion_value: Annotated[
        str | None,
        typer.Option(
            metavar="log|model",
            help="Whose value of a conversion bids expect, where both know it (default: the log's).",
            rich_help_panel=_CAMPAIGN,
        ),
    ] = None,
    feedback_delay: Annotated[
        float | None,
        typer.Option(help="Seconds until a click is known (default 0).", rich_help_panel=_CAMPAIGN),
    ] = None,
    auction: Annotated[
        str | None,
        typer.Option(help="Price rule: second (default), first or gsp.", rich_help_panel=_EXCHANGE),
    ] = None,
    hard_floor: Annotated[
        float | None, typer.Option(help="A bid below it is refused.", rich_help_panel=_EXCHANGE)
    ] = None,
    soft_floor: Annotated[
        float | None,
        typer.Option(
            help="A winning bid below it pays its own bid (first price).", rich_help_panel=_EXCHANGE
        ),
    ] = None,
    slot_effects: Annotated[
        str | None,
        typer.Option(
            metavar="1,E,...",
            help="For gsp: share of users who look as far as each slot, best slot first.",
            rich_help_panel=_EXCHANGE,
        ),
    ] = None,
    tells_minimum_bid: Annotated[
        bool | None,
        typer.Option(
            "--tells-minimum-bid",
            help="The exchange tells every bidder the minimum bid to win.",
            rich_help_panel=_EXCHANGE,
        ),
    ] = None,
    together: Annotated[
        bool | None,
        typer.Option(
            "--together", help="Strategies bid against each other in one market.", rich_help_panel=_EXCHANGE
        ),
    ] = None,
    map: common.ColumnMap = None,
    out: common.RunFolder = Path("runs/simulate-bidding"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Simulate bidding under a budget: Thompson sampling and Lagrangian pacing next to the baselines."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        rule = common.given(
            price=auction, hard_floor=hard_floor, soft_floor=soft_floor, slot_effects=slot_effects
        )
        settings = common.given(
            map=map,
            auction=rule or None,
            seed=seed,
            seeds=seeds,
            strategies=strategy or None,
            shocks=shock or None,
            miscalibration=miscalibration,
            history=history,
            daily_budget=daily_budget,
            time_zone=time_zone,
            episode_length=episode_length,
            pacing=pacing,
            max_bid=max_bid,
            integer_bids=integer_bids,
            frequency_cap=frequency_cap,
            bid_value=bid_value,
            conversion_value=conversion_value,
            feedback_delay=feedback_delay,
            tells_minimum_bid=tells_minimum_bid,
            together=together,
        )
        return ctrkit.simulate_bidding(
            auctions, model, budget, calibrator=calibrator, market=market, config=config,
            overrides=overrides or (), out=out, on_step=progress, **settings,
        )  # fmt: skip

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=(auctions, history),
        models=(model,),
        config=config,
    )
