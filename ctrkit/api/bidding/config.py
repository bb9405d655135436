"""How `ctrkit simulate-bidding` is set: the campaign, the exchange, and what is done to the market."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from ctrkit.bidding import STRATEGIES, AuctionRule, BidStrategy, CampaignTerms, FrequencyCap
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.bidding.supply import SHOCKS, Shock
from ctrkit.config import Config
from ctrkit.errors import ConfigError
from ctrkit.settings import line_of

# Given as `Registry.read` takes it, and written down as a line.
StrategySetting: TypeAlias = Annotated[
    InstanceOf[BidStrategy[Any]], BeforeValidator(STRATEGIES.read), PlainSerializer(line_of)
]
ShockSetting: TypeAlias = Annotated[InstanceOf[Shock], BeforeValidator(SHOCKS.read), PlainSerializer(line_of)]
_SECONDS: Final = {"hour": HOUR, "day": DAY, "week": 7 * DAY}


def _split(value: Any) -> Any:
    """Numbers of a text like `1,0.6,0.4`."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class AuctionConfig(Config):
    """The rule of the exchange, see `ctrkit.bidding.AuctionRule`."""

    price: Literal["second", "first", "gsp"] = "second"
    hard_floor: float = 0.0
    soft_floor: float = 0.0
    wins_ties: bool = True
    slot_effects: Annotated[tuple[float, ...], BeforeValidator(_split)] = (1.0,)


class BiddingConfig(Config):
    """How to bid.

    Attributes:
        strategies: `NAME` or `NAME:key=value,...`, or mappings of `name` and settings; by default the
            baselines, dual pacing and, with a model, Thompson sampling.
        value_per_click: worth of a click. By default a click is worth p(conversion | click), of the model or
            the log's `pcvr`, times the log's `value` of a conversion where both are known, else it counts 1.
        bid_value: what strategies that explore bid on, see `ctrkit.bidding.strategies.ExploringBidding`.
        daily_budget: most that may be spent on a day; pacing starts afresh with each.
        time_zone: whose days and hours are meant, such as `Europe/Berlin`; by default those of the log's
            timestamps, which are UTC where they do not tell.
        episode_length: auctions an episode; the budget is then each episode's.
        max_bid: no bid goes above it.
        integer_bids: whether bids are rounded down to whole units of money.
        frequency_cap: how often one user may be shown the ads: `3` in all, or `3/hour`, `3/day`, `3/week`.
        pacing: `even`, `asap` (as soon as possible), or a table with the share of the budget by hour, such as
            the `plan.parquet` of `ctrkit plan-budget`.
        history: an earlier log to tune the strategies on; of a made-up market, a number of auctions.
        feedback_delay: how long until it is known whether an impression was clicked, in seconds, or in
            auctions where the log has no timestamps.
        tells_minimum_bid: whether the exchange tells all who bid by what bid they would have won.
        tick: auctions between two updates of the strategies.
        auction: the rule of the exchange.
        together: whether the strategies bid against each other in one market; else each has it to itself.
        shocks: `NAME:key=value,...` or mappings, see `ctrkit.bidding.supply.shocks`.
        miscalibration: a, b: what is seen is expit(a · logit(pCTR) + b).
        compare_models: whether to bid also with the model recalibrated, and with the truth where it is known.
        seeds: of so many resamples of the log, or made-up markets, intervals are made.
        confidence: of these.
        seed: of all that is drawn.
    """

    strategies: tuple[StrategySetting, ...] | None = None
    value_per_click: float | None = Field(default=None, gt=0.0)
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
                "episodes are days with a daily budget, and an episode_length is given too",
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
    """`3` or `3/day` as a cap.

    Raises:
        ConfigError: another text.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?:/(hour|day|week))?", str(text).replace(" ", ""))
    if found is None:
        raise ConfigError(
            f"the frequency cap is '{text}'",
            hint="Write impressions a user, such as 3, 3/hour, 3/day or 3/week",
        )
    impressions, period = found.groups()
    return FrequencyCap(int(impressions), _SECONDS.get(period))


def budgets(given: float | str) -> list[float]:
    """One budget, or those of a sweep `FROM:TO:COUNT`, each as many times the one before.

    Raises:
        ConfigError: not of that form, or not above 0.
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
            f"the budget is '{given}'", hint="Give a number, or a sweep FROM:TO:COUNT such as 100:10000:12"
        )
    low, high, count = numbers
    return [float(one) for one in np.geomspace(low, high, int(count))]
