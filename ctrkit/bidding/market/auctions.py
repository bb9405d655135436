"""Auctions as arrays: what a bidder sees, what the market asks, and what each ad would have brought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Indices, Integers
from ctrkit.errors import DataError
from ctrkit.schema import AUCTION_LOG, check_zone
from ctrkit.tables import IsText, TableLike

# Of timestamps, in seconds.
HOUR, DAY = 3600, 86_400


@dataclass(frozen=True)
class Slots:
    """What a bidder sees before it bids: n slots, each to be filled with one of K candidate ads.

    Attributes:
        click_probability: [n, K], the calibrated pCTR of each ad; 0 where there is no such candidate.
        value_of_click: [n, K], the expected value of a click in units of money: the value of a click, or pCVR
            times the value of a conversion; all 1 where it is unknown, so that values count clicks.
        hidden: [n, K, D], the inputs of the model's last layer; None without a last-layer posterior.
        timestamp: [n], seconds since 1970; None where the time is unknown.
    """

    click_probability: Floats
    value_of_click: Floats
    hidden: NDArray[np.floating[Any]] | None = None
    timestamp: Floats | None = None

    def __len__(self) -> int:
        return len(self.click_probability)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Slots:
        """Some of the slots."""
        hidden = None if self.hidden is None else self.hidden[rows]
        time = None if self.timestamp is None else self.timestamp[rows]
        return Slots(self.click_probability[rows], self.value_of_click[rows], hidden, time)

    @property
    def value(self) -> Floats:
        """Expected value of showing each ad, [n, K]."""
        return self.click_probability * self.value_of_click


@dataclass(frozen=True)
class Auctions:
    """A chunk of n auctions in order of time. Bidders see only `slots`.

    Outcomes are potential ones: what would happen if the auction were won with ad k. They are fixed before
    anyone bids, so that strategies in one run are compared under the same luck.

    Attributes:
        market_price: [n], the highest competing bid, in units of money per impression.
        click_probability: [n, K], as in `Slots`.
        value_of_click: [n, K], as in `Slots`.
        hidden: [n, K, D], as in `Slots`.
        timestamp: [n], unix seconds; in another time zone than UTC, seconds on its clock.
        click: [n, K], 0 or 1.
        conversion: [n, K], 0 or 1.
        earned: [n, K], the money that showing the ad would earn.
        true_click_probability: [n, K], where the truth is known.
        true_value: [n, K], the true expected value of showing the ad, where known.
        user: [n], the user who sees the impression, as a code from 0 (see `user_codes`); for frequency caps.
        slot_price: [n, S], the bids that must be beaten for each of the S slots of the page, best slot
            first, so in descending order; the first is the market price.
    """

    market_price: Floats
    click_probability: Floats
    value_of_click: Floats
    hidden: NDArray[np.floating[Any]] | None = None
    timestamp: Floats | None = None
    click: NDArray[Any] | None = None
    conversion: NDArray[Any] | None = None
    earned: Floats | None = None
    true_click_probability: Floats | None = None
    true_value: Floats | None = None
    user: NDArray[np.integer[Any]] | None = None
    slot_price: Floats | None = None

    def __len__(self) -> int:
        return len(self.market_price)

    def __getitem__(self, rows: slice | Indices) -> Auctions:
        """Some of the auctions; a slice makes no copy."""
        columns: list[Any] = [getattr(self, name) for name in _FIELDS]
        columns = [None if column is None else column[rows] for column in columns]
        return Auctions(*columns)

    @property
    def slots(self) -> Slots:
        """What bidders see."""
        return Slots(self.click_probability, self.value_of_click, self.hidden, self.timestamp)

    @property
    def worth_bidding(self) -> Booleans:
        """[n], whether any ad has a value above 0. Nobody bids in the other auctions, and schedules and
        searches do not count them."""
        return np.asarray((self.slots.value > 0).any(axis=1))

    @property
    def expected_value(self) -> Floats:
        """The value by which strategies are judged, [n, K]: the best known expected value of each ad.

        It is the true value where that is known; else the true click probability times the value of a click;
        else pCTR times the value of a click, which takes the log's own prediction as the truth.
        """
        if self.true_value is not None:
            return self.true_value
        known = self.true_click_probability
        return (self.click_probability if known is None else known) * self.value_of_click

    def check(self, first_row: int = 0) -> None:
        """Check shapes and values once, before any bidding.

        Args:
            first_row: the index in the stream of the first of these auctions.

        Raises:
            DataError: a wrong shape or value; names the column and the index of the first such row.
        """
        rows, ads = len(self), self.click_probability.shape[-1]
        for name in _FIELDS:
            values = getattr(self, name)
            if values is None:
                continue
            shape = (rows,) if name in _ONE_AN_AUCTION else (rows, ads)
            if values.shape[: len(shape)] != shape or values.ndim != len(shape) + (name in _DEEPER):
                needed = f"{shape}" + (" and one axis more" if name in _DEEPER else "")
                raise DataError(f"the shape is {values.shape}, but must be {needed}", column=name)
            high = 1.0 if name in _PROBABILITIES else _LARGEST if name in _MONEY else np.inf
            low = -np.inf if name in _ANY_SIGN else 0.0
            _check_range(values, name, low, high, first_row)
        if self.user is not None:
            _check_user(self.user, first_row)
        if self.slot_price is not None:
            _check_slot_price(self.slot_price, self.market_price, first_row)


_FIELDS = tuple(field.name for field in fields(Auctions))
_MONEY = ("market_price", "value_of_click", "earned", "true_value", "slot_price")
# Sums, squares and ratios of larger amounts would be infinite.
_LARGEST = 1e150
_PROBABILITIES = ("click_probability", "true_click_probability", "click", "conversion")
_ONE_AN_AUCTION = ("market_price", "timestamp", "user", "slot_price")
_DEEPER = ("hidden", "slot_price")
_ANY_SIGN = ("timestamp", "earned", "hidden", "true_value")
_MOST_USERS = 1 << 31


def joined(parts: Sequence[Auctions]) -> Auctions:
    """The chunks as one, in their order; a single chunk is not copied.

    Raises:
        DataError: a column that some chunks have and others have not.
    """
    if len(parts) == 1:
        return parts[0]
    columns: list[Any] = []
    for name in _FIELDS:
        pieces = [getattr(part, name) for part in parts]
        known = [piece for piece in pieces if piece is not None]
        if known and len(known) < len(pieces):
            raise DataError("some chunks of auctions have this column and others have not", column=name)
        columns.append(np.concatenate(known) if known else None)
    return Auctions(*columns)


def read_auction_log(source: TableLike) -> pl.DataFrame:
    """Read and check an auction log (see `open_auction_log`)."""
    return open_auction_log(source)[0]


def open_auction_log(
    source: TableLike,
    time_zone: str | None = None,
    is_text: IsText | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple[pl.DataFrame, str | None]:
    """Read and check an auction log: columns as in `ctrkit.schema.AUCTION_LOG`, rows in order of time.

    Args:
        source: a table, or a path to one.
        time_zone: the time zone of days and hours; by default that of the timestamps, else UTC.
        is_text: which columns outside the schema hold ids (see `FeatureSpec.is_text`).
        names: the names that the log has of its own (see `LogSchema.called`).

    Returns:
        The table, and its name for messages.

    Raises:
        ConfigError: there is no such time zone.
        DataError: an unreadable or empty table, a missing column, a price below 0, a pCTR above 1, a
            conversion without a click, or a time before that of the row above; names file, column, row and
            a fix.
    """
    if time_zone is not None:
        check_zone(time_zone)
    table, file = AUCTION_LOG.called(names or {}).read(source, is_text, time_zone)
    if "timestamp" in table.columns and (back := np.diff(table["timestamp"].to_numpy()) < 0).any():
        raise DataError(
            "the time is before that of the row above",
            file=file,
            column="timestamp",
            row=int(np.argmax(back)) + 1,
            hint="Sort the log by time",
        )
    if {"click", "conversion"} <= set(table.columns) and (table["conversion"] > table["click"]).any():
        row = int(np.argmax((table["conversion"] > table["click"]).to_numpy()))
        raise DataError(
            "this row has a conversion but no click",
            file=file,
            column="conversion",
            row=row,
            hint="Fix the click, or drop such rows",
        )
    return table, file


def auctions_from_log(
    table: pl.DataFrame,
    click_probability: Floats | None = None,
    value_of_click: float | Floats | None = None,
) -> Auctions:
    """A plain replay with one ad per auction (K = 1) of a log.

    Args:
        table: an auction log as `read_auction_log` gives it.
        click_probability: [n], a model's calibrated pCTR; by default the log's `pctr`.
        value_of_click: the expected value of a click, one number or [n]; by default the log's `pcvr` times
            its `value` where it has both, else 1, which counts clicks.

    Raises:
        DataError: neither a `pctr` column nor a model's prediction.
    """
    if click_probability is None and "pctr" not in table.columns:
        raise DataError(
            "without a model, a replay takes the click probability from this column",
            column="pctr",
            hint="Add the column, or give a model whose features the log has",
        )

    def column(name: str) -> Floats | None:
        return table[name].to_numpy().astype(np.float64) if name in table.columns else None

    def one_ad(values: Floats | None) -> Floats | None:
        return None if values is None else values[:, None]

    pctr = table["pctr"].to_numpy() if click_probability is None else click_probability
    conversion, value, pcvr = column("conversion"), column("value"), column("pcvr")
    if value_of_click is None:
        value_of_click = 1.0 if value is None or pcvr is None else pcvr * value
    return Auctions(
        market_price=table["market_price"].to_numpy().astype(np.float64),
        click_probability=np.asarray(pctr, np.float64)[:, None],
        value_of_click=np.broadcast_to(np.asarray(value_of_click, np.float64), (table.height,))[:, None],
        timestamp=column("timestamp"),
        click=one_ad(column("click")),
        conversion=one_ad(conversion),
        earned=one_ad(conversion * value) if conversion is not None and value is not None else None,
    )


def user_codes(ids: pl.Series) -> Integers:
    """Codes from 0, [n], one for each different id; each missing id gets a code of its own.

    Give the ids of a whole log: each call starts again from 0.
    """
    codes = (ids.rank("dense") - 1).to_numpy().astype(np.float64)
    unknown = np.isnan(codes)
    codes[unknown] = ids.drop_nulls().n_unique() + np.arange(unknown.sum())
    return codes.astype(np.int64)


def _check_user(user: NDArray[Any], first_row: int) -> None:
    hint = "Give codes from 0, as user_codes makes them"
    if not np.issubdtype(user.dtype, np.integer):
        raise DataError(
            f"the type is {user.dtype}, but user codes must be whole numbers", column="user", hint=hint
        )
    # A count is kept for every code up to the largest, so a hash cannot be a code.
    if (wrong := (user < 0) | (user >= _MOST_USERS)).any():
        row = int(np.argmax(wrong))
        problem = f"{user[row]} is {'below 0' if user[row] < 0 else 'too large'} for a code"
        raise DataError(problem, column="user", row=row + first_row, hint=hint)


def _check_slot_price(slot_price: Floats, market_price: Floats, first_row: int) -> None:
    if not slot_price.shape[1]:
        raise DataError("a page has at least one slot", column="slot_price")
    other = slot_price[:, 0] != market_price
    rising = (np.diff(slot_price, axis=1) > 0).any(axis=1)
    for wrong, says in (
        (other, "the price of the best slot is not the market price"),
        (rising, "a worse slot has a higher price"),
    ):
        if wrong.any():
            raise DataError(
                says,
                column="slot_price",
                row=int(np.argmax(wrong)) + first_row,
                hint="Give the highest competing bids of each auction, the highest first",
            )


def _check_range(values: NDArray[Any], name: str, low: float, high: float, first_row: int) -> None:
    # If any value is NaN, both are NaN, which lies in no range.
    least, most = values.min(initial=0), values.max(initial=0)
    if not (low <= least and most <= high and np.isfinite(least) and np.isfinite(most)):
        good = np.isfinite(values) & (values >= low) & (values <= high)
        row, *rest = (int(index) for index in np.argwhere(~good)[0])
        wanted = f"in [{low:g}, {high:g}]" if high == 1 else "finite and at least 0" if low == 0 else "finite"
        found = float(values[(row, *rest)])
        if np.isfinite(found) and found > high > 1:
            wanted = f"at most {high:g}"
        raise DataError(
            f"{found:g} is not {wanted}",
            column=name,
            row=row + first_row,
            hint="Fill in or drop such rows",
        )
