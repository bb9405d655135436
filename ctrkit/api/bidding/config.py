"""The settings of `ctrkit simulate-bidding`: the campaign, the exchange, and changes of the market."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from ctrkit.api.log_columns import LogColumns
from ctrkit.bidding import STRATEGIES, AuctionRule, BidStrategy, CampaignTerms, FrequencyCap
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.bidding.supply import SHOCKS, Shock
from ctrkit.config import Config
from ctrkit.errors import ConfigError
from ctrkit.settings import line_of

# Given in any form that `Registry.read` takes, and written to files as a line.
StrategySetting: TypeAlias = Annotated[
    InstanceOf[BidStrategy[Any]], BeforeValidator(STRATEGIES.read), PlainSerializer(line_of)
]
ShockSetting: TypeAlias = Annotated[InstanceOf[Shock], BeforeValidator(SHOCKS.read), PlainSerializer(line_of)]
# Whose value of a conversion bids expect, where the log and the model both know one.
ValueSource: TypeAlias = Literal["log", "model"]
_SECONDS: Final = {"hour": HOUR, "day": DAY, "week": 7 * DAY}


def _split(value: Any) -> Any:
    """Numbers of a text like `1,0.6,0.4`."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class AuctionConfig(Config):
    """The rule of the exchange.

    Attributes:
        price: price rule: `second`, `first` or `gsp`.
        hard_floor: a bid below it is refused.
        soft_floor: a winning bid below it pays its own bid (first price).
        wins_ties: whether a bid at the market price wins.
        slot_effects: for `gsp`, the share of users who look as far as each slot, best slot first.
    """

    price: Literal["second", "first", "gsp"] = "second"
    hard_floor: float = 0.0
    soft_floor: float = 0.0
    wins_ties: bool = True
    slot_effects: Annotated[tuple[float, ...], BeforeValidator(_split)] = (1.0,)


class BiddingConfig(LogColumns):
    """Settings of a simulation of bidding.

    Attributes:
        strategies: each a line `NAME` or `NAME:key=value,...`, or a mapping of `name` and settings; by
            default the baselines, dual pacing and, with a model, Thompson sampling.
        value_per_click: value of a click. By default it is p(conversion | click), from the model or the log's
            `pcvr`, times the log's `value` of a conversion; where one of both is unknown, it is 1.
        conversion_value: whose value of a conversion bids expect, if the model predicts one and the log has
            its own too: that of the `log` or of the `model`. Earned money counts the log's values where it
            has them, else the model's.
        bid_value: value that exploring strategies bid: `slot`, `mean`, `sample` or `ucb` (see
            `ctrkit.bidding.strategies.ExploringBidding`).
        daily_budget: largest spend of a day; pacing restarts each day.
        time_zone: time zone of days and hours, such as `Europe/Berlin`; by default that of the log's
            timestamps, else UTC.
        episode_length: number of auctions of an episode; the budget is then the budget of each episode.
        max_bid: largest bid; higher bids are lowered to it.
        integer_bids: whether bids are rounded down to whole units of money.
        frequency_cap: largest number of impressions per user: `3` in total, or `3/hour`, `3/day`, `3/week`.
        pacing: `even`, `asap` (as soon as possible), or a table with the share of the budget by hour, such as
            the `plan.parquet` of `ctrkit plan-budget`.
        history: an earlier log on which the strategies are tuned; for a simulated market, a number of
            auctions.
        feedback_delay: time until it is known whether an impression was clicked, in seconds; in auctions if
            the log has no timestamps.
        tells_minimum_bid: whether the exchange tells every bidder the minimum bid to win.
        tick: number of auctions between two updates of the strategies; by default a 200th of an episode.
        auction: the rule of the exchange.
        together: whether the strategies bid against each other in one market; else each has the market alone.
        shocks: market changes that bidders are not told of, each a line `NAME:key=value,...` or a mapping
            (see `ctrkit.bidding.supply.shocks`).
        miscalibration: a and b; bidders see the distorted pCTR expit(a · logit(pCTR) + b).
        compare_models: whether to bid also with the recalibrated model, and with the truth where it is known.
        seeds: number of resamples of the log, or of simulated markets, for intervals; 1 makes none.
        confidence: confidence level of all intervals.
        seed: seed of all random draws.
    """

    strategies: tuple[StrategySetting, ...] | None = None
    value_per_click: float | None = Field(default=None, gt=0.0)
    conversion_value: ValueSource = "log"
    bid_value: Literal["slot", "mean", "sample", "ucb"] | None = None
    daily_budget: float | None = Field(default=None, gt=0.0)
    time_zone: str | None = None
    episode_length: int | None = Field(default=None, ge=1)
    max_bid: float | None = Field(default=None, gt=0.0)
    integer_bids: bool = False
    frequency_cap: str | int | None = None
    pacing: str = "even"
    history: str | int | None = None
    feedback_delay: float = Field(default=0.0, ge=0.0)
    tells_minimum_bid: bool = False
    tick: int | None = Field(default=None, ge=1)
    auction: AuctionConfig = AuctionConfig()
    together: bool = False
    shocks: tuple[ShockSetting, ...] = ()
    miscalibration: Annotated[tuple[float, float] | None, BeforeValidator(_split)] = None
    compare_models: bool = True
    seeds: int = Field(default=1, ge=1)
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0)
    seed: int = Field(default=0, ge=0)

    def terms(self, budget: float) -> CampaignTerms:
        """The terms of a campaign with this budget.

        Raises:
            ConfigError: a frequency cap that cannot be read, or episodes by day and by length at once.
        """
        if self.daily_budget is not None and self.episode_length is not None:
            raise ConfigError(
                "with a daily_budget an episode is a day, but an episode_length is given too",
                hint="Leave one out",
            )
        return CampaignTerms(
            budget if self.daily_budget is None else self.daily_budget,
            lifetime_budget=None if self.daily_budget is None else budget,
            max_bid=self.max_bid,
            integer_bids=self.integer_bids,
            frequency_cap=frequency_cap(self.frequency_cap),
            feedback_delay=self.feedback_delay,
            tells_minimum_bid=self.tells_minimum_bid,
            rule=AuctionRule(**self.auction.model_dump()),
        )


def frequency_cap(text: str | int | None) -> FrequencyCap | None:
    """The frequency cap of a text such as `3` or `3/day`.

    Raises:
        ConfigError: a text of another form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:/(hour|day|week))?", str(text).replace(" ", ""))
    if found is None:
        raise ConfigError(
            f"the frequency cap '{text}' has the wrong form",
            hint="Write impressions per user, such as 3, 3/hour, 3/day or 3/week",
        )
    impressions, period = found.groups()
    return FrequencyCap(int(impressions), _SECONDS.get(period))


def budgets(given: float | str) -> list[float]:
    """One budget, or the budgets of a sweep `FROM:TO:COUNT`, with equal ratios between neighbours.

    Raises:
        ConfigError: a text of another form, or a budget not above 0.
    """
    parts = str(given).split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and np.isfinite(numbers[0]) and numbers[0] > 0:
        return numbers
    if len(numbers) == 1:
        raise ConfigError(
            f"the budget is {numbers[0]:g} and must be above 0", hint="Give for example --budget 1000"
        )
    if len(numbers) != 3 or not 0 < numbers[0] < numbers[1] < np.inf or numbers[2] not in range(2, 1001):
        raise ConfigError(
            f"the budget is '{given}', which has the wrong form",
            hint="Give a number, or a sweep FROM:TO:COUNT such as 100:10000:12",
        )
    low, high, count = numbers
    return [float(one) for one in np.geomspace(low, high, int(count))]
