"""Training, validation and test rows: by time or at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ctrkit.arrays import Floats, Integers
from ctrkit.config import Config
from ctrkit.data.aggregates import same_row
from ctrkit.errors import DataError
from ctrkit.hashing import distinct
from ctrkit.schema import Column, FeatureSpec, check_column, require_columns


class SplitConfig(Config):
    """How rows are divided into training, validation and test rows.

    Attributes:
        by: "time", "random", or "auto": by time where the spec names a time stamp, otherwise at random.
        train: share of training rows.
        valid: share of validation rows; the rest are test rows.
    """

    by: Literal["auto", "time", "random"] = "auto"
    train: float = Field(default=0.8, gt=0.0, lt=1.0)
    valid: float = Field(default=0.1, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> SplitConfig:
        if self.train + self.valid >= 1.0:
            raise ValueError("train + valid must be below 1, so that there are test rows")
        return self


# A part whose share differs from the requested share by more than this has a note.
_APART = 0.05


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts, each int64 and in the order of the table.

    Attributes:
        train: training rows.
        valid: validation rows.
        test: test rows.
        by: "time" or "random".
        boundaries: the first time stamps of validation and test; None for a random split.
        later: the number of test rows after those of which the parts are shares.
    """

    train: Integers
    valid: Integers
    test: Integers
    by: str
    boundaries: tuple[float, float] | None = None
    later: int = 0

    @property
    def parts(self) -> NDArray[np.int8]:
        """The part of each row: 0 for training, 1 for validation, 2 for test, [n]."""
        found = np.zeros(self.train.size + self.valid.size + self.test.size, dtype=np.int8)
        found[self.valid], found[self.test] = 1, 2
        return found

    def describe(self) -> dict[str, Any]:
        """Plain data: sizes and, by time, the first time stamps of validation and test."""
        sizes = {"train": self.train.size, "valid": self.valid.size, "test": self.test.size}
        return {"by": self.by, **sizes, "boundaries": list(self.boundaries) if self.boundaries else None}

    def note(self, config: SplitConfig) -> str | None:
        """A note where ties of time stamps give parts of other sizes than requested; otherwise None."""
        rows = self.train.size + self.valid.size + self.test.size - self.later
        got = (self.train.size / rows, self.valid.size / rows)
        if max(abs(got[0] - config.train), abs(got[1] - config.valid)) <= _APART:
            return None
        return (
            f"Many rows share a time stamp and stay together: {got[0]:.0%} of rows are for training and"
            f" {got[1]:.0%} for validation, not {config.train:.0%} and {config.valid:.0%} as requested."
        )


def split_rows(
    spec: FeatureSpec,
    config: SplitConfig,
    table: pl.DataFrame,
    seed: int,
    file: str | None = None,
    until: float | None = None,
) -> Split:
    """Divide a table's rows, by the time stamp that the spec names (see `split_table`).

    The outcomes of a row that stands for many impressions stay together.
    """
    groups = None if spec.impressions is None else same_row(spec, table)
    return split_table(spec.timestamp, config, table, seed, file, groups, until)


def split_table(
    timestamp: str | None,
    config: SplitConfig,
    table: pl.DataFrame,
    seed: int,
    file: str | None = None,
    groups: Integers | None = None,
    until: float | None = None,
) -> Split:
    """Divide a table's rows.

    A split by time cuts between distinct time stamps: rows of the same moment stay together, because rows
    shown together are not independent. With many ties, parts may have other sizes than requested, but none is
    empty. In a random split, rows of one user are in all parts, so test rows have known users; with `groups`
    they stay together.

    Args:
        timestamp: the column of times; None if there is none.
        config: how to divide.
        table: the rows.
        seed: random seed.
        file: name of the table, for messages.
        groups: the group of each row, which a random split keeps whole, [N]; None to divide single rows.
        until: a split by time takes the shares of the rows up to this time, unix seconds; later rows are test
            rows. None for all rows.

    Raises:
        DataError: a part would be empty, or the time stamp is missing.
    """
    by = config.by if config.by != "auto" else "time" if timestamp else "random"
    boundaries, later = None, 0
    if by == "time":
        if timestamp is None:
            raise DataError(
                "a split by time needs `timestamp` in the feature spec",
                file=file,
                hint="Set `features.timestamp` to the name of the column",
            )
        require_columns(table, (timestamp,), file)
        column = Column(timestamp, "time", "the time of the row")
        time = check_column(table[timestamp], column, file).to_numpy()
        divided = time if until is None else time[time <= until]
        later = time.size - divided.size
        boundaries = first_valid, first_test = _cuts(divided, config, file, timestamp)
        part = (time >= first_valid).astype(np.int8) + (time >= first_test).astype(np.int8)
    else:
        order = _shuffled(table.height, seed, groups)
        cuts = (np.array([config.train, config.train + config.valid]) * table.height).round().astype(np.int64)
        part = np.empty(table.height, dtype=np.int8)
        for index, rows in enumerate(np.split(order, cuts)):
            part[rows] = index
        if groups is not None:
            # A group is in the part of its row that comes last.
            _, unit = np.unique(groups, return_inverse=True)
            last = np.zeros(unit.max() + 1, dtype=np.int8)
            np.maximum.at(last, unit, part)
            part = last[unit]
    train, valid, test = (np.flatnonzero(part == index) for index in range(3))
    for name, rows in (("training", train), ("validation", valid), ("test", test)):
        if rows.size == 0:
            raise DataError(
                f"with {table.height} rows the split leaves no {name} rows",
                file=file,
                hint="Give more rows or other shares",
            )
    return Split(train, valid, test, by, boundaries, later)


def _cuts(time: Floats, config: SplitConfig, file: str | None, column: str) -> tuple[float, float]:
    """The first time stamps of validation and of test."""
    moments = distinct(time)
    if moments.size < 3:
        raise DataError(
            f"a split by time needs at least three distinct time stamps, and there are {moments.size}",
            file=file,
            column=column,
            hint="Give rows with more time stamps, or set split.by=random",
        )
    asked = np.quantile(time, [config.train, config.train + config.valid], method="higher")
    first, second = np.searchsorted(moments, asked)
    first = min(max(first, 1), moments.size - 2)
    second = min(max(second, first + 1), moments.size - 1)
    return float(moments[first]), float(moments[second])


def _shuffled(rows: int, seed: int, groups: Integers | None) -> Integers:
    """All rows in random order; rows of one group stand beside each other."""
    random = np.random.default_rng(seed)
    if groups is None:
        return random.permutation(rows)
    _, unit = np.unique(groups, return_inverse=True)
    return np.argsort(random.permutation(unit.max() + 1)[unit], kind="stable")
