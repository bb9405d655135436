"""Shocks: prices, values, click rates and traffic that change while bidders do not know of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import HOUR, Auctions
from ctrkit.bidding.supply.outcomes import Aftermath, clicks_of
from ctrkit.bidding.supply.rows import picked
from ctrkit.bidding.supply.settings import need, read_number, read_settings
from ctrkit.errors import ConfigError, DataError, nearest

Kind = Literal["traffic", "click-rate", "value", "price"]
# In the order in which they act, so that a new click brings what it would at its own moment.
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Shock:
    """One thing of the market times a factor for some of the time; outside of it all is as before.

    - `price`: market prices, of all slots.
    - `value`: the value of a click, the true value and the money earned; bidders know their own values.
    - `click-rate`: the truth moves, and what bidders see does not. Where the truth is unknown, the pCTR is
      taken for what it was. Below 1 clicks are thinned; above 1 clicks stay and others come, so that the new
      rate is met exactly in expectation; probabilities end at 1.
    - `traffic`: below 1 auctions are left out at random; above 1 they come more than once, at the same
      moment, by the whole part of the factor and at random by the rest. Clicks of the repeats are drawn anew
      where the truth is known.

    Attributes:
        factor: at least 0.
        start, end: as shares of the stream's auctions, or in hours of the day (UTC), where a start after the
            end goes over midnight; the end does not belong to the shock.
        hours: whether they are hours, which needs timestamps.
        drift: whether the factor goes from 1 at the start to its full size at the end in a straight line,
            rather than at a step.

    Raises:
        ConfigError: an unknown kind, or a number out of range.
    """

    kind: Kind
    factor: float
    start: float = 0.0
    end: float | None = None
    hours: bool = False
    drift: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"there is no shock of '{self.kind}'", mend=nearest(self.kind, KINDS))
        what = f"shock '{self.kind}'"
        need(what, "factor", self.factor, 0.0)
        for name, edge in (("start", self.start), ("end", self._end)):
            need(what, name, edge, 0.0, self._whole)
        backwards = self.start > self._end and not self.hours
        if backwards or self.start in (self._end, self._whole):
            raise ConfigError(
                f"{what}: it ends at {self._end:g}, and starts only at {self.start:g}",
                mend="Give a start before the end",
            )

    def factors(self, row: Floats, auctions: int, timestamp: Floats | None) -> Floats:
        """The factor of each of n auctions, [n].

        Args:
            row: [n], in the stream, from 0; auctions: of the whole stream; timestamp: [n].

        Raises:
            DataError: hours without timestamps.
        """
        length = self._end - self.start
        if not self.hours:
            since = row / max(auctions, 1) - self.start
        elif timestamp is None:
            raise DataError(
                f"shock '{self.kind}' comes by the hour, and these auctions have no time",
                column="timestamp",
                mend="Give start and end as shares of the stream, such as 0.5",
            )
        else:
            since, length = (timestamp / HOUR - self.start) % 24, length if length > 0 else length + 24
        size = since / length if self.drift else 1.0
        return 1.0 + (self.factor - 1.0) * np.where((since >= 0) & (since < length), size, 0.0)

    @property
    def _whole(self) -> float:
        return 24.0 if self.hours else 1.0

    @property
    def _end(self) -> float:
        return self._whole if self.end is None else self.end


def shocked(
    chunks: Iterable[Auctions], shocks: Sequence[Shock], auctions: int, seed: int = 0
) -> Iterator[Auctions]:
    """The stream under shocks, which multiply where they meet.

    Args:
        auctions: of the whole stream as it comes in, by which shares are reckoned.
        seed: of what is drawn; the same however the stream is chunked.

    Raises:
        DataError: a shock by hours without timestamps.
    """
    kinds = [kind for kind in KINDS if any(shock.kind == kind for shock in shocks)]
    clicks, copies, repeats = (np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(3))
    after_clicks, after_repeats = Aftermath(), Aftermath()
    row = 0
    for chunk in chunks:
        place = np.arange(row, row + len(chunk), dtype=np.float64)
        row += len(chunk)
        for kind in kinds:
            factor = np.ones(len(place))
            for shock in shocks:
                if shock.kind == kind:
                    factor = factor * shock.factors(place, auctions, chunk.timestamp)
            if kind == "traffic":
                times = np.floor(factor + copies.random(len(factor))).astype(np.intp)
                rows = np.repeat(np.arange(len(place)), times)
                chunk, place = _busier(chunk, rows, repeats, after_repeats), place[rows]
            elif kind == "click-rate":
                chunk = _likelier(chunk, factor[:, None], clicks, after_clicks)
            elif kind == "value":
                chunk = _worthier(chunk, factor[:, None])
            else:
                chunk = _dearer(chunk, factor)
        if len(chunk):
            yield chunk


def _dearer(chunk: Auctions, factor: Floats) -> Auctions:
    slots = None if chunk.slot_price is None else chunk.slot_price * factor[:, None]
    return replace(chunk, market_price=chunk.market_price * factor, slot_price=slots)


def _worthier(chunk: Auctions, factor: Floats) -> Auctions:
    return replace(
        chunk,
        value_of_click=chunk.value_of_click * factor,
        true_value=None if chunk.true_value is None else chunk.true_value * factor,
        earned=None if chunk.earned is None else chunk.earned * factor,
    )


def _likelier(chunk: Auctions, factor: Floats, rng: np.random.Generator, aftermath: Aftermath) -> Auctions:
    known = chunk.true_click_probability
    before = chunk.click_probability if known is None else known
    after = np.minimum(before * factor, 1.0)
    gain = np.divide(after, before, out=np.ones_like(after), where=before > 0)
    true_value = None if chunk.true_value is None else chunk.true_value * gain
    moved = replace(chunk, true_click_probability=after, true_value=true_value)
    if chunk.click is None:
        return moved
    click, chance = clicks_of(chunk), rng.random(after.shape)
    come = np.divide(after - before, 1.0 - before, out=np.zeros_like(after), where=before < 1)
    return aftermath.with_clicks(moved, np.where(click, chance < gain, chance < come))


def _busier(chunk: Auctions, rows: Indices, rng: np.random.Generator, aftermath: Aftermath) -> Auctions:
    busy = picked(chunk, rows)
    if chunk.click is None or chunk.true_click_probability is None:
        return busy
    repeat = np.flatnonzero(rows == np.concatenate([[-1], rows[:-1]]))
    click = clicks_of(busy)
    chance = chunk.true_click_probability[rows[repeat]]
    click[repeat] = rng.random(chance.shape) < chance
    return aftermath.with_clicks(busy, click)


_KEYS: Final = ("factor", "start", "end", "drift")


def parse_shock(text: str) -> Shock:
    """A shock from a text: `price:factor=2,start=12h`, `traffic:factor=0.5,start=0.5,end=0.75`.

    Start and end are shares of the stream, or with an `h` behind them hours of the day; `drift=1` drifts.

    Raises:
        ConfigError: an unknown kind or setting (the nearest is named), or a value out of range.
    """
    kind, _, rest = text.partition(":")
    kind = kind.strip()
    if kind not in KINDS:
        raise ConfigError(f"there is no shock of '{kind}'", mend=nearest(kind, KINDS))
    what = f"shock '{kind}'"
    given = read_settings(what, rest, _KEYS)
    if "factor" not in given:
        raise ConfigError(f"{what} lacks its factor", mend=f"Write {kind}:factor=2")
    edges = {key: given[key] for key in ("start", "end") if key in given}
    in_hours = {value.endswith("h") for value in edges.values() if value != "0"}
    if len(in_hours) > 1:
        raise ConfigError(
            f"{what}: one of start and end is an hour and the other a share", mend="Write an h behind both"
        )
    if given.get("drift", "0") not in ("0", "1"):
        raise ConfigError(f"{what}: drift is '{given['drift']}'", mend="Write drift=1 or leave it out")
    number = {key: read_number(what, key, value.removesuffix("h")) for key, value in edges.items()}
    return Shock(
        kind=kind,
        factor=read_number(what, "factor", given["factor"]),
        start=number.get("start", 0.0),
        end=number.get("end"),
        hours=True in in_hours,
        drift=given.get("drift") == "1",
    )
