"""The auctions that are bid on: of a log or a made-up market, resampled, shocked and seen askew."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import polars as pl

from ctrkit.api.bidding.config import BiddingConfig
from ctrkit.api.bidding.scored_auctions import opened_auctions, scored_auctions, unused_columns
from ctrkit.api.models.model import Model
from ctrkit.bidding import Auctions
from ctrkit.bidding.market.auctions import joined
from ctrkit.bidding.simulation.repeats import RepeatKind
from ctrkit.bidding.supply import (
    SyntheticMarket,
    miscalibrated,
    parse_market,
    resampled,
    shocked,
)
from ctrkit.errors import ConfigError, DataError
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.progress import OnStep
from ctrkit.tables import TableLike

AuctionStream: TypeAlias = list[Auctions]


class Supply(ABC):
    """Where auctions come from.

    Attributes:
        kind: what another seed is: another market, or another sample of the same log.
        notes: what is to be said of it.
        table: the log as read, None where there is none; its rows are the auctions of `plain`.
        calibrated: whether the model that scores is; also where the log's own pCTR does.
        ad_column: under which a model reads the ad.
    """

    kind: ClassVar[RepeatKind]
    notes: tuple[str, ...] = ()
    table: pl.DataFrame | None = None
    calibrated: bool = True
    ad_column: str = "ad_id"

    @abstractmethod
    def plain(self) -> AuctionStream:
        """The auctions themselves."""

    @abstractmethod
    def drawn(self, seed: int) -> AuctionStream:
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
        auctions: an auction log, None for the sample log.
        model: see `opened_auctions`.
    """

    kind = "resamples"

    def __init__(
        self,
        auctions: TableLike | None,
        model: str | os.PathLike[str] | Model | None,
        settings: BiddingConfig,
        on_step: OnStep,
    ) -> None:
        self.table, file, self.model, self.notes = opened_auctions(auctions, model, settings.time_zone)
        self._settings, self._on_step = settings, on_step
        self.calibrated = self.model is None or bool(self.model.calibrators)
        if self.model is not None and self.model.spec.candidate is not None:
            self.ad_column = self.model.spec.candidate.id
        unused = unused_columns(self.table, self.model, settings.value_per_click, _unused_by(settings))
        self.notes = (*unused, *self.notes)
        _check_slots(self.table, len(settings.auction.slot_effects), file)
        # Resamples are of whole users where they are known: their auctions go together.
        sampled = settings.seeds > 1 and "user_id" in self.table.columns
        users = sampled or settings.frequency_cap is not None
        self._plain = self._scored(self.table, file, users=users)
        if users and (unknown := self.table["user_id"].null_count()):
            self.notes += (f"{unknown:,} auctions without a user are each taken for one of another user.",)

    def plain(self) -> AuctionStream:
        return self._plain

    def drawn(self, seed: int) -> AuctionStream:
        found = list(resampled(self._plain, self._settings.seed + seed))
        if not found:
            raise DataError(
                f"a resample of the log's {length(self._plain)} auctions holds none of them",
                hint="Give a longer log, or leave out the seeds",
            )
        return found

    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        return None if self.model is None else self.model.posterior

    def history(self, given: str | int) -> Auctions:
        table, file, _, notes = opened_auctions(str(given), self.model, self._settings.time_zone)
        self.notes += tuple(f"History: {note}" for note in notes if note not in self.notes)
        users = self._settings.frequency_cap is not None and "user_id" in table.columns
        return joined([replace(chunk, hidden=None) for chunk in self._scored(table, file, users)])

    def _scored(self, table: pl.DataFrame, file: str | None, users: bool) -> AuctionStream:
        value = self._settings.value_per_click
        return list(scored_auctions(table, self.model, value, file, self._on_step, users=users))


def _check_slots(table: pl.DataFrame, slots: int, file: str | None) -> None:
    """Raise a DataError for a log without the prices of so many slots a page."""
    known = int(table["slot_prices"].list.len()[0] or 0) if "slot_prices" in table.columns else None
    if slots > 1 and (known or 0) < slots:
        what = "the log does not have it" if known is None else f"there are {known}"
        raise DataError(
            f"pages of {slots} slots need {slots} prices an auction, and {what}",
            file=file,
            column="slot_prices",
            hint="Give the highest competing bids of each auction, or fewer slot effects",
        )


def _unused_by(settings: BiddingConfig) -> dict[str, str]:
    """Columns of an auction log on which nothing hangs under these settings, and why."""
    why = {}
    if settings.daily_budget is None and settings.episode_length is None:
        why["episode"] = "the budget is for all auctions; for episodes give episode_length or daily_budget"
    else:
        why["episode"] = "episodes are those of the settings"
    if settings.frequency_cap is None and settings.seeds == 1:
        why["user_id"] = "there is no frequency cap, and one seed"
    if len(settings.auction.slot_effects) == 1:
        why["slot_prices"] = "the exchange sells one slot"
    return why


@dataclass(frozen=True)
class MarketSupply(Supply):
    """A made-up market; other seeds are other markets of the same kind."""

    market: SyntheticMarket

    kind = "markets"

    def _of(self, seed: int | None) -> SyntheticMarket:
        return self.market if seed is None else replace(self.market, seed=self.market.seed + seed)

    def plain(self) -> AuctionStream:
        return list(self.market.chunks())

    def drawn(self, seed: int) -> AuctionStream:
        return list(self._of(seed).chunks())

    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        return self._of(seed).posterior

    def history(self, given: str | int) -> Auctions:
        if not str(given).isdigit() or int(given) < 1:
            raise ConfigError(
                f"the history of a made-up market is a number of auctions, and not '{given}'",
                hint="Give for example --history 100000",
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
        ConfigError: a market beside a log, a model or a value of clicks, or a text that is none.
        DataError: a log that cannot be read.
    """
    if market is None:
        return LogSupply(auctions, model, settings, on_step)
    if auctions is not None or model is not None:
        raise ConfigError(
            "a made-up market has auctions and a model of its own, and a log or a model is given too",
            hint="Leave out --market, or --replay and --model",
        )
    if settings.value_per_click is not None:
        raise ConfigError(
            "what a click is worth is set by the made-up market itself, and value_per_click is given too",
            hint=f"Give --market value={settings.value_per_click:g}",
        )
    if settings.time_zone is not None:
        raise ConfigError(
            "a made-up market has a clock of its own, and a time_zone is given too", hint="Leave it out"
        )
    made_up = parse_market(market)
    return MarketSupply(replace(made_up, seed=made_up.seed + settings.seed))


def length(stream: AuctionStream) -> int:
    """How many auctions there are."""
    return sum(map(len, stream))


def worth_bidding(stream: AuctionStream) -> int:
    """How many auctions are worth bidding."""
    return sum(int(chunk.worth_bidding.sum()) for chunk in stream)


def changed(stream: AuctionStream, settings: BiddingConfig, seed: int) -> AuctionStream:
    """The auctions under the shocks that were asked for."""
    if not settings.shocks:
        return stream
    found = list(shocked(stream, settings.shocks, length(stream), seed))
    if not found:
        raise DataError("the shocks leave no auctions", hint="Give a factor of traffic above 0")
    return found


def seen(stream: AuctionStream, settings: BiddingConfig) -> AuctionStream:
    """The auctions with the miscalibration that was asked for."""
    return (
        stream if settings.miscalibration is None else list(miscalibrated(stream, *settings.miscalibration))
    )
