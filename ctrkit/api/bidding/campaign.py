"""A campaign from its settings: strategies, episodes and the plan of its spend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ctrkit.api.bidding.config import BiddingConfig
from ctrkit.api.bidding.supply import AuctionStream
from ctrkit.arrays import Floats
from ctrkit.bidding import BidStrategy, SpendPlan, parse_strategy
from ctrkit.bidding.market.auctions import DAY
from ctrkit.bidding.market.coverage import Coverage
from ctrkit.config import fields_of
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.schema import ClosedSchema, Column

_WITH_MODEL = ("truthful", "linear", "dual", "thompson")
_WITHOUT_MODEL = ("truthful", "linear", "dual")
# In hours: a log that begins a little after midnight still covers the day.
_WHOLE_DAY = 22.0
PLAN = ClosedSchema(
    "spend plan",
    (
        Column("hour", "integer", "the hour of the day", required=True, low=0.0),
        Column("share", "number", "its share of the budget", required=True, low=0.0),
        Column("spend", "number", "its share in units of money (not read)"),
        Column("value", "number", "its expected value (not read)"),
    ),
)


def episodes(stream: AuctionStream, settings: BiddingConfig) -> int | list[int] | None:
    """The number of auctions of each episode; with a daily budget an episode is a day (UTC).

    Raises:
        DataError: a daily budget for auctions without times.
    """
    if settings.daily_budget is None:
        return settings.episode_length
    timestamp = _timestamp(stream, "a daily budget", "give an episode_length")
    return [int(count) for count in np.unique(np.floor(timestamp / DAY), return_counts=True)[1]]


def days_in_part(stream: AuctionStream, settings: BiddingConfig) -> tuple[str, ...]:
    """Notes on days that the log covers only in part, and on gaps of the log, for a daily budget."""
    if settings.daily_budget is None:
        return ()
    coverage = Coverage.of(_timestamp(stream, "a daily budget", "give an episode_length"))
    hours = coverage.hours_by_day()
    short = hours[(hours > 0) & (hours < _WHOLE_DAY)]
    if not len(short):
        return coverage.notes()
    part = f"The log covers {len(short)} of {(hours > 0).sum()} days only in part"
    least = f"(one of them for {short.min():.1f} hours)"
    return (*coverage.notes(), f"{part} {least}; each of them has the budget of a whole day.")


def _timestamp(stream: AuctionStream, what: str, instead: str) -> Floats:
    pieces = [chunk.timestamp for chunk in stream if chunk.timestamp is not None]
    if len(pieces) < len(stream):
        raise DataError(
            f"{what} needs the time of each auction", column="timestamp", hint=f"Add the column, or {instead}"
        )
    return np.concatenate(pieces)


def strategies_of(
    settings: BiddingConfig, posterior: LastLayerPosterior | None, plan: SpendPlan | None
) -> list[BidStrategy[Any]]:
    """The strategies of the settings; those that pace follow the plan.

    Raises:
        ConfigError: an unknown strategy, or a plan or bid value that no strategy uses.
    """
    chosen = settings.strategies or (_WITHOUT_MODEL if posterior is None else _WITH_MODEL)
    found = [parse_strategy(one, posterior) for one in chosen]
    if plan is not None:
        found = _with(found, "plan", plan, f"pacing={settings.pacing}")
    if settings.bid_value is not None:
        found = _with(found, "bid_value", settings.bid_value, "bid_value")
    return found


def _with(strategies: list[BidStrategy[Any]], name: str, value: Any, setting: str) -> list[BidStrategy[Any]]:
    """The strategies with this value where they have the field; the others as they are."""
    has = [name in fields_of(type(one)) for one in strategies]
    if not any(has):
        raise ConfigError(
            f"{setting}: none of the strategies uses it", hint="Add dual or thompson, or leave it out"
        )
    return [replace(one, **{name: value}) if had else one for one, had in zip(strategies, has, strict=True)]  # type: ignore[type-var]


def spend_plan(settings: BiddingConfig, stream: AuctionStream) -> SpendPlan | None:
    """The plan by which the budget is spent; None for even pacing.

    Raises:
        ConfigError: a plan by hour with episodes of a fixed length.
        DataError: a plan that cannot be read, or auctions without times.
    """
    if settings.pacing == "even":
        return None
    if settings.pacing == "asap":
        return SpendPlan.asap()
    if settings.episode_length is not None:
        raise ConfigError(
            "a plan by hour needs episodes that are days, but episodes have a fixed length",
            hint="Leave episode_length out",
        )
    table, _ = PLAN.read(settings.pacing)
    if (again := table["hour"].is_duplicated()).any():
        raise DataError(
            f"hour {table['hour'].filter(again)[0]} is given twice",
            file=settings.pacing,
            column="hour",
            row=int(again.arg_max() or 0),
            hint="Give one row per hour, as in the plan.parquet of plan-budget",
        )
    shares = dict(zip(table["hour"].to_list(), table["share"].to_list(), strict=True))
    timestamp = _timestamp(stream, "a plan by hour", "pace evenly")
    worth = np.concatenate([chunk.worth_bidding for chunk in stream])
    timestamp = timestamp[worth] if worth.any() else timestamp
    plan = SpendPlan.by_hour if settings.daily_budget is None else SpendPlan.of_day
    return plan(shares, timestamp)
