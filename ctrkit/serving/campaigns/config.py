"""The campaigns that a server bids for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import polars as pl
from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.simulation.simulator import LONGEST_TICK, SHORTEST_TICK, TICKS_AN_EPISODE
from ctrkit.config import Config
from ctrkit.errors import DataError
from ctrkit.schema import unix_seconds
from ctrkit.serving.requests.body import Value
from ctrkit.settings import NotNegative, Positive

DAY = 86_400.0


def _moment(given: Any) -> Any:
    """Unix seconds, from a time in any form."""
    if given is None:
        return None
    try:
        return float(unix_seconds(pl.Series("time", [given]))[0])
    except (DataError, TypeError, pl.exceptions.PolarsError):
        raise ValueError("this is no time; give one such as 2026-03-10T00:00:00") from None


Moment = Annotated[float, BeforeValidator(_moment)]


class AdConfig(Config):
    """An ad that a campaign shows in auctions of an exchange.

    Attributes:
        adid: its name.
        crid: name of its creative; by default `adid`.
        adm: its markup; by default the exchange has it.
        features: column -> value of the model's features of the ad.
    """

    adid: str = Field(min_length=1)
    crid: str | None = None
    adm: str | None = None
    features: Mapping[str, Value] = Field(default_factory=dict)


class OpenRtbConfig(Config):
    """How bid requests of an exchange are read and answered.

    Paths lead into the request, such as `device.devicetype`; those that begin with `imp.` lead into the
    impression. Numbers between the dots are places in arrays.

    Attributes:
        notices: public address of the server, at which the exchange calls the notices.
        currency: the currency of all budgets, as in ISO 4217.
        features: column -> path of its value in the request; null for one that requests do not have.
        user: path of the user's key for the online store; by default users have none.
    """

    notices: str = Field(pattern=r"^https?://[^\s?#]+$")
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")
    features: Mapping[str, str | None] = Field(default_factory=dict)
    user: str | None = None


class CampaignConfig(Config):
    """A campaign.

    Attributes:
        name: its name.
        budget: money of a period, above 0, in the unit of the bids.
        auctions: expected number of auctions of a period in which a candidate has a value above 0.
        period: length of a period in seconds; the budget is new in each. By default a day.
        start: when the first period begins; by default periods begin at midnight, UTC.
        end: when the campaign ends; by default it does not.
        strategy: how it bids, as `ctrkit simulate-bidding --strategy` reads it.
        value_of_click: what a click is worth in units of money.
        value_of_conversion: what a conversion is worth, in place of a click.
        max_bid: the largest bid; by default there is no limit.
        integer_bids: whether bids are rounded down to whole units of money.
        tick: number of auctions between two updates of the strategy; by default a 200th of a period, between
            10 and 1000, as in the simulator.
        hold: seconds after which a bid without a notice counts as lost, and its money is free again. Set it
            longer than the exchange takes to tell: a later win is counted, but may exceed the budget.
        ads: its ads, for bids by OpenRTB; requests to `/v1/bid` bring theirs.
    """

    name: str = Field(pattern=r"^[\w.-]{1,100}$")
    budget: Positive
    auctions: PositiveInt
    period: Positive = DAY
    start: Moment = 0.0
    end: Moment | None = None
    strategy: str = "dual"
    value_of_click: NotNegative | None = None
    value_of_conversion: NotNegative | None = None
    max_bid: Positive | None = None
    integer_bids: bool = False
    tick: PositiveInt | None = None
    hold: Positive = 60.0
    ads: tuple[AdConfig, ...] = ()

    @model_validator(mode="after")
    def _is_worth_something(self) -> CampaignConfig:
        if (self.value_of_click is None) == (self.value_of_conversion is None):
            raise ValueError("give either value_of_click or value_of_conversion")
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self

    @property
    def terms(self) -> CampaignTerms:
        """The terms on which it bids."""
        return CampaignTerms(self.budget, max_bid=self.max_bid, integer_bids=self.integer_bids)

    @property
    def size(self) -> int:
        """The number of auctions of a tick."""
        usual = min(max(self.auctions // TICKS_AN_EPISODE, SHORTEST_TICK), LONGEST_TICK)
        return self.tick or usual

    def period_at(self, moment: float) -> int | None:
        """The index of the period at a moment; None before the start and from the end on."""
        if moment < self.start or (self.end is not None and moment >= self.end):
            return None
        return math.floor((moment - self.start) / self.period)

    def share_of_period(self, moment: float) -> float:
        """The share of the current period that has passed."""
        return (moment - self.start) / self.period % 1.0


class CampaignsConfig(Config):
    """The campaigns of a server.

    Attributes:
        campaigns: the campaigns.
        ledger: where their money is kept, for all processes: `sqlite:PATH` on one machine, or
            `redis://HOST:PORT/DB` (the password comes from the variable REDIS_PASSWORD).
        openrtb: how bid requests of an exchange are read; by default none are.
    """

    campaigns: tuple[CampaignConfig, ...] = Field(min_length=1)
    ledger: str = "sqlite:campaigns.db"
    openrtb: OpenRtbConfig | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> CampaignsConfig:
        names = [one.name for one in self.campaigns]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two campaigns have the name '{min(twice)}'")
        return self
