"""The auctions that are bid on: of a log or a made-up market, resampled, shocked and seen askew."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import polars as pl

from ctrkit.api.bidding_config import BiddingConfig
from ctrkit.api.model import Model
from ctrkit.api.scored_auctions import opened_auctions, scored_auctions
from ctrkit.bidding import Auctions, BidStrategy, SpendPlan, parse_strategy
from ctrkit.bidding.frequency import DAY
from ctrkit.bidding.repeats import Kind
from ctrkit.bidding.strategies import History
from ctrkit.bidding.strategies.base import fields_of
from ctrkit.bidding.supply import (
    SyntheticMarket,
    miscalibrated,
    parse_market,
    parse_shock,
    resampled,
    shocked,
)
from ctrkit.bidding.supply.rows import joined
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.schema import Column, LogSchema
from ctrkit.tables import TableLike, read_table
from ctrkit.training.loop import OnStep

_WITH_MODEL = ("truthful", "linear", "dual", "thompson")
_WITHOUT_MODEL = ("truthful", "linear", "dual")
_HOUR = 3600.0
PLAN = LogSchema(
    "spend plan",
    (
        Column("hour", "integer", "the hour of the day (UTC)", required=True, low=0.0),
        Column("share", "number", "its share of the budget", required=True, low=0.0),
    ),
)


class Supply(ABC):
    """Where auctions come from.

    Attributes:
        kind: what another seed is: another market, or another sample of the same log.
        notes: what is to be said of it.
        table: the log as read, None where there is none; its rows are the auctions of `plain`.
        calibrated: whether the model that scores is; also where the log's own pCTR does.
        ad_column: under which a model reads the ad.
    """

    kind: ClassVar[Kind]
    notes: tuple[str, ...] = ()
    table: pl.DataFrame | None = None
    calibrated: bool = True
    ad_column: str = "ad_id"

    @abstractmethod
    def plain(self) -> Auctions:
        """The auctions themselves."""

    @abstractmethod
    def drawn(self, seed: int) -> Auctions:
        """Those of another seed."""

    @abstractmethod
    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        """What is known of the model's last layer before a run of this seed, None for the plain one."""

    @abstractmethod
    def history(self, given: str | int) -> Auctions:
        """Auctions of an earlier time."""


class LogSupply(Supply):
    """A replay; other seeds are resamples of the log.

    Args:
        auctions: an auction log, None for the sample log. model: see `opened_auctions`.
    """

    kind = "resamples"

    def __init__(
        self,
        auctions: TableLike | None,
        model: str | os.PathLike[str] | Model | None,
        settings: BiddingConfig,
        on_step: OnStep,
    ) -> None:
        self.table, file, self.model, self.notes = opened_auctions(auctions, model)
        self._settings, self._on_step = settings, on_step
        self.calibrated = self.model is None or bool(self.model.calibrators)
        if self.model is not None and self.model.spec.candidate is not None:
            self.ad_column = self.model.spec.candidate.id
        # Resamples are of whole users where they are known: their auctions go together.
        sampled = settings.seeds > 1 and "user_id" in self.table.columns
        self._plain = self._scored(self.table, file, users=sampled or settings.frequency_cap is not None)

    def plain(self) -> Auctions:
        return self._plain

    def drawn(self, seed: int) -> Auctions:
        return joined(list(resampled([self._plain], seed)))

    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        return None if self.model is None else self.model.posterior

    def history(self, given: str | int) -> Auctions:
        table, file, _, _ = opened_auctions(str(given), self.model)
        return self._scored(table, file, users=False)

    def _scored(self, table: pl.DataFrame, file: str | None, users: bool) -> Auctions:
        value = self._settings.value_per_click
        return joined(list(scored_auctions(table, self.model, value, file, self._on_step, users=users)))


@dataclass(frozen=True)
class MarketSupply(Supply):
    """A made-up market; other seeds are other markets of the same kind."""

    market: SyntheticMarket

    kind = "markets"

    def _of(self, seed: int | None) -> SyntheticMarket:
        return self.market if seed is None else replace(self.market, seed=self.market.seed + seed)

    def plain(self) -> Auctions:
        return joined(list(self.market.chunks()))

    def drawn(self, seed: int) -> Auctions:
        return joined(list(self._of(seed).chunks()))

    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        return self._of(seed).posterior

    def history(self, given: str | int) -> Auctions:
        if not str(given).isdigit() or int(given) < 1:
            raise ConfigError(
                f"the history of a made-up market is a number of auctions, and not '{given}'",
                mend="Give for example --history 100000",
            )
        return self.market.history(int(given))


def open_supply(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    market: str | None,
    settings: BiddingConfig,
    on_step: OnStep,
) -> Supply:
    """The log, scored, or the market of a text.

    Raises:
        ConfigError: a market beside a log or a model, or a text that is none.
        DataError: a log that cannot be read.
    """
    if market is None:
        return LogSupply(auctions, model, settings, on_step)
    if auctions is not None or model is not None:
        raise ConfigError(
            "a made-up market has auctions and a model of its own, and a log or a model is given too",
            mend="Leave out --market, or --replay and --model",
        )
    return MarketSupply(parse_market(market))


def changed(auctions: Auctions, settings: BiddingConfig, seed: int) -> Auctions:
    """The auctions under the shocks that were asked for."""
    if not settings.shocks:
        return auctions
    shocks = [parse_shock(text) for text in settings.shocks]
    found = list(shocked([auctions], shocks, len(auctions), seed))
    if not found:
        raise DataError("the shocks leave no auctions", mend="Give a factor of traffic above 0")
    return joined(found)


def seen(auctions: Auctions, settings: BiddingConfig) -> Auctions:
    """The auctions with the miscalibration that was asked for."""
    if settings.miscalibration is None:
        return auctions
    return joined(list(miscalibrated([auctions], *settings.miscalibration)))


def episodes(auctions: Auctions, settings: BiddingConfig) -> int | list[int] | None:
    """The auctions of each episode: those of each day (UTC) with a daily budget."""
    if settings.daily_budget is None:
        return settings.episode_length
    if auctions.timestamp is None:
        raise DataError(
            "a daily budget needs the time of each auction",
            column="timestamp",
            mend="Add it, or give an episode_length",
        )
    days = np.unique(np.floor(auctions.timestamp / DAY), return_counts=True)[1]
    return [int(count) for count in days]


def strategies_of(
    settings: BiddingConfig, posterior: LastLayerPosterior | None, plan: SpendPlan | None
) -> list[BidStrategy[Any]]:
    """The strategies that were asked for, pacing along the plan where they pace.

    Raises:
        ConfigError: an unknown strategy, or a plan or bid value for which there is none.
    """
    names = settings.strategies or (_WITHOUT_MODEL if posterior is None else _WITH_MODEL)
    found = [parse_strategy(name, posterior) for name in names]
    if plan is not None:
        found = _with(found, "plan", plan, f"pacing={settings.pacing}")
    if settings.bid_value is not None:
        found = _with(found, "bid_value", settings.bid_value, "bid_value")
    return found


def _with(
    strategies: Iterable[BidStrategy[Any]], name: str, value: Any, setting: str
) -> list[BidStrategy[Any]]:
    """Those that have the field, with this value; the others as they are."""
    strategies = list(strategies)
    has = [name in (field.name for field in fields_of(type(one))) for one in strategies]
    if not any(has):
        raise ConfigError(
            f"{setting}: no strategy given heeds it", mend="Add dual or thompson, or leave it out"
        )
    return [replace(one, **{name: value}) if had else one for one, had in zip(strategies, has, strict=True)]  # type: ignore[type-var]


def tuned(
    strategies: list[BidStrategy[Any]], history: Auctions, budget_per_auction: float, episode: int | None
) -> list[BidStrategy[Any]]:
    """The strategies with what they learn from the past."""
    past = History.from_auctions(history)
    return [one.tuned(past, budget_per_auction, episode) for one in strategies]


def spend_plan(settings: BiddingConfig, auctions: Auctions) -> SpendPlan | None:
    """The plan along which the budget is spent; None where that is even.

    Raises:
        ConfigError: a plan by hour with episodes that are no days.
        DataError: a plan that cannot be read, or auctions without times.
    """
    if settings.pacing == "even":
        return None
    if settings.pacing == "asap":
        return SpendPlan.asap()
    if settings.episode_length is not None:
        raise ConfigError(
            "a plan by hour is for days, and episodes are of a fixed length", mend="Leave episode_length out"
        )
    table = PLAN.apply(read_table(settings.pacing), settings.pacing)
    shares = dict(zip(table["hour"].to_list(), table["share"].to_list(), strict=True))
    if auctions.timestamp is None:
        raise DataError(
            "a plan by hour needs the time of each auction", column="timestamp", mend="Add it, or pace evenly"
        )
    if settings.daily_budget is None:
        return SpendPlan.by_hour(shares, auctions.timestamp)
    hour = (auctions.timestamp // _HOUR).astype(np.int64) % 24
    by_hour = np.array([shares.get(h, 0.0) for h in range(24)])
    return SpendPlan(by_hour, np.bincount(hour, minlength=24).astype(np.float64))
