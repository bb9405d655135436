"""The auctions to bid on: of a log or a simulated market, resampled, shocked or miscalibrated."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import polars as pl

from ctrkit.api.bidding.config import BiddingConfig
from ctrkit.api.bidding.scored_auctions import opened_auctions, scored_auctions, unused_columns, value_notes
from ctrkit.api.models.model import Model
from ctrkit.api.scores.calibrator import ScoreCalibrator
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
        kind: what another seed gives: another market, or another resample of the same log.
        notes: notes on the auctions.
        table: the log as read, None without a log; its rows are the auctions of `plain`.
        calibrated: whether the model that scores is calibrated; True for the log's own pCTR.
        ad_column: the column in which a model reads the ad.
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
        """The auctions of another seed."""

    @abstractmethod
    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        """The posterior of the model's last layer before a run of this seed (None: the plain run)."""

    @abstractmethod
    def history(self, given: str | int) -> Auctions:
        """Auctions of an earlier time.

        Args:
            given: the setting `history`.
        """


class LogSupply(Supply):
    """A replay of a log; other seeds are resamples of the log.

    Args:
        auctions: an auction log; None for the sample log.
        model: an artifact or a path to one (see `opened_auctions`).
        settings: the settings of the simulation.
        on_step: called after each chunk that is scored.
        calibrator: the calibrator of the log's own `pctr` and `pcvr`; None for none.
    """

    kind = "resamples"

    def __init__(
        self,
        auctions: TableLike | None,
        model: str | os.PathLike[str] | Model | None,
        settings: BiddingConfig,
        on_step: OnStep,
        calibrator: ScoreCalibrator | None = None,
    ) -> None:
        self._calibrator = calibrator
        self.table, file, self.model, self.notes = opened_auctions(
            auctions, model, settings.time_zone, settings.map, calibrator
        )
        self._settings, self._on_step = settings, on_step
        self.calibrated = self.model is None or bool(self.model.calibrators)
        if self.model is not None and self.model.spec.candidate is not None:
            self.ad_column = self.model.spec.candidate.id
        unused = unused_columns(self.table, self.model, settings.value_per_click, _unused_by(settings))
        told = value_notes(self.table, self.model, settings.value_per_click, settings.conversion_value)
        self.notes = (*told, *unused, *self.notes)
        _check_slots(self.table, len(settings.auction.slot_effects), file)
        # Where users are known, whole users are resampled: their auctions belong together.
        sampled = settings.seeds > 1 and "user_id" in self.table.columns
        users = sampled or settings.frequency_cap is not None
        self._plain = self._scored(self.table, file, users=users)
        if users and (unknown := self.table["user_id"].null_count()):
            self.notes += (f"{unknown:,} auctions have no user; each of them counts as a new user.",)

    def plain(self) -> AuctionStream:
        return self._plain

    def drawn(self, seed: int) -> AuctionStream:
        found = list(resampled(self._plain, self._settings.seed + seed))
        if not found:
            raise DataError(
                f"a resample of the log's {length(self._plain)} auctions has no auctions",
                hint="Give a longer log, or leave out the seeds",
            )
        return found

    def posterior(self, seed: int | None) -> LastLayerPosterior | None:
        if self.model is None or self.model.network.last_layer is None:
            return None
        return self.model.posterior

    def history(self, given: str | int) -> Auctions:
        table, file, _, notes = opened_auctions(
            str(given), self.model, self._settings.time_zone, self._settings.map, self._calibrator
        )
        self.notes += tuple(f"History: {note}" for note in notes if note not in self.notes)
        users = self._settings.frequency_cap is not None and "user_id" in table.columns
        return joined([replace(chunk, hidden=None) for chunk in self._scored(table, file, users)])

    def _scored(self, table: pl.DataFrame, file: str | None, users: bool) -> AuctionStream:
        settings = self._settings
        return list(
            scored_auctions(
                table, self.model, settings.value_per_click, file, self._on_step,
                users=users, conversion_value=settings.conversion_value,
            )
        )  # fmt: skip


def _check_slots(table: pl.DataFrame, slots: int, file: str | None) -> None:
    """Raise a DataError for a log without the prices of this number of slots per page."""
    known = int(table["slot_prices"].list.len()[0] or 0) if "slot_prices" in table.columns else None
    if slots > 1 and (known or 0) < slots:
        what = "the log has no such column" if known is None else f"there are {known}"
        raise DataError(
            f"pages of {slots} slots need {slots} prices per auction, but {what}",
            file=file,
            column="slot_prices",
            hint="Give the highest competing bids of each auction, or fewer slot effects",
        )


def _unused_by(settings: BiddingConfig) -> dict[str, str]:
    """Columns of an auction log that these settings do not use, and why."""
    why = {}
    if settings.daily_budget is None and settings.episode_length is None:
        why["episode"] = "the budget is for all auctions; for episodes give episode_length or daily_budget"
    else:
        why["episode"] = "the settings define the episodes"
    if settings.frequency_cap is None and settings.seeds == 1:
        why["user_id"] = "there is no frequency cap, and one seed"
    if len(settings.auction.slot_effects) == 1:
        why["slot_prices"] = "the exchange sells one slot"
    return why


@dataclass(frozen=True)
class MarketSupply(Supply):
    """A simulated market; other seeds are other markets with the same settings."""

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
                f"the history of a simulated market must be a number of auctions, not '{given}'",
                hint="Give for example --history 100000",
            )
        return self.market.history(int(given))


def open_supply(
    auctions: TableLike | None,
    model: str | os.PathLike[str] | Model | None,
    market: str | None,
    settings: BiddingConfig,
    on_step: OnStep,
    calibrator: str | os.PathLike[str] | ScoreCalibrator | None = None,
) -> Supply:
    """The scored log, or the simulated market of a text.

    Raises:
        ConfigError: a market together with a log, a model or a value of clicks, or a text that is no market.
        DataError: a log that cannot be read.
    """
    if market is None:
        held = calibrator
        if held is not None and not isinstance(held, ScoreCalibrator):
            held = ScoreCalibrator.load(held)
        return LogSupply(auctions, model, settings, on_step, held)
    if auctions is not None or model is not None or calibrator is not None:
        raise ConfigError(
            "a simulated market has its own auctions and model, but a log or a model is given too",
            hint="Leave out --market, or --replay, --model and --calibrator",
        )
    if settings.value_per_click is not None:
        raise ConfigError(
            "a simulated market has its own value of a click, but value_per_click is given too",
            hint=f"Give --market value={settings.value_per_click:g}",
        )
    if settings.time_zone is not None:
        raise ConfigError(
            "a simulated market has its own clock, but a time_zone is given too",
            hint="Leave the time_zone out",
        )
    simulated = parse_market(market)
    return MarketSupply(replace(simulated, seed=simulated.seed + settings.seed))


def length(stream: AuctionStream) -> int:
    """The number of auctions."""
    return sum(map(len, stream))


def worth_bidding(stream: AuctionStream) -> int:
    """The number of auctions that are worth bidding."""
    return sum(int(chunk.worth_bidding.sum()) for chunk in stream)


def changed(stream: AuctionStream, settings: BiddingConfig, seed: int) -> AuctionStream:
    """The auctions under the shocks of the settings."""
    if not settings.shocks:
        return stream
    found = list(shocked(stream, settings.shocks, length(stream), seed))
    if not found:
        raise DataError("the shocks leave no auctions", hint="Give traffic a factor above 0")
    return found


def seen(stream: AuctionStream, settings: BiddingConfig) -> AuctionStream:
    """The auctions with the miscalibration of the settings."""
    return (
        stream if settings.miscalibration is None else list(miscalibrated(stream, *settings.miscalibration))
    )
