"""Training, validation and test rows: by time, at random or by user."""

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
from ctrkit.errors import ConfigError, DataError
from ctrkit.hashing import GOLDEN, Words, distinct, mixed, text_hashes
from ctrkit.schema import Column, FeatureSpec, check_column, require_columns
from ctrkit.tables.cells import ids_as_text

_NO_FOLDS = "folds by time would train on rows later than those they are tested on"


class SplitConfig(Config):
    """How rows are divided into training, validation and test rows.

    Attributes:
        by: "time", "random", "user", or "auto": by time where the spec names a time stamp, otherwise at
            random. By user, all rows of a user are in one part, which a hash of the user and the seed
            decides: neither the order of rows nor other users matter. Rows without a user are divided singly.
        key: column of the users of a split by user; by default the group of the spec.
        train: share of training rows.
        valid: share of validation rows; the rest are test rows.
        folds: k, for cross-validation: every row is a test row of one of k folds, and the other rows of a
            fold are for training and validation in the proportion of `train` and `valid`.
        fold: the fold, from 0 up; by default a training trains all.
    """

    by: Literal["auto", "time", "random", "user"] = "auto"
    key: str | None = None
    train: float = Field(default=0.8, gt=0.0, lt=1.0)
    valid: float = Field(default=0.1, gt=0.0, lt=1.0)
    folds: int | None = Field(default=None, ge=2)
    fold: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _leaves_a_test_part(self) -> SplitConfig:
        if self.train + self.valid >= 1.0:
            raise ValueError("train + valid must be below 1, so that there are test rows")
        return self

    @model_validator(mode="after")
    def _known_folds(self) -> SplitConfig:
        if self.key is not None and self.by != "user":
            raise ValueError("`key` is for a split by user; set `by: user`")
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(f"there is no fold {self.fold}; folds have the numbers from 0 to `folds` - 1")
        if self.folds is not None and self.by == "time":
            raise ValueError(f"{_NO_FOLDS}; set `by: user` or `by: random`")
        return self

    @property
    def all_folds(self) -> bool:
        """Whether the rows are divided several times."""
        return self.folds is not None and self.fold is None

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of the training and of the validation rows."""
        others = 1.0 if self.folds is None else (1.0 - 1.0 / self.folds) / (self.train + self.valid)
        return self.train * others, self.valid * others

    def need_one_fold(self) -> None:
        """Check that the rows are divided once.

        Raises:
            ConfigError: they are not.
        """
        if self.all_folds:
            raise ConfigError(
                f"key 'split.folds': {self.folds} folds divide the rows {self.folds} times",
                hint="Set split.fold to the number of one fold, or let `ctrkit train` train them all",
            )


# Places of users: the largest whole numbers that 64-bit floats tell apart.
_BITS = 53
# A part whose share differs from the requested share by more than this has a note.
_APART = 0.05


@dataclass(frozen=True)
class Split:
    """Row indices of the three parts, each int64 and in the order of the table.

    Attributes:
        train: training rows.
        valid: validation rows.
        test: test rows.
        by: "time", "random" or "user".
        boundaries: the first time stamps of validation and test; None for other splits.
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
        """A note where rows that stay together give parts of other sizes than requested; otherwise None."""
        rows = self.train.size + self.valid.size + self.test.size - self.later
        got = (self.train.size / rows, self.valid.size / rows)
        train, valid = config.shares
        if max(abs(got[0] - train), abs(got[1] - valid)) <= _APART:
            return None
        why = "All rows of a user stay" if self.by == "user" else "Many rows share a time stamp and stay"
        return (
            f"{why} together: {got[0]:.0%} of rows are for training and"
            f" {got[1]:.0%} for validation, not {train:.0%} and {valid:.0%} as requested."
        )


def key_of(spec: FeatureSpec, config: SplitConfig) -> str | None:
    """The column of users by which rows are divided; None for other splits."""
    return (config.key or spec.group) if config.by == "user" else None


def split_rows(
    spec: FeatureSpec,
    config: SplitConfig,
    table: pl.DataFrame,
    seed: int,
    file: str | None = None,
    until: float | None = None,
) -> Split:
    """Divide a table's rows, by the time stamp or the users that the spec names (see `split_table`).

    The outcomes of a row that stands for many impressions stay together.
    """
    key = key_of(spec, config)
    if key in spec.labels.values():
        raise ConfigError(f"key 'split.key': '{key}' is a label", hint="Name the column of users")
    groups = None if spec.impressions is None else same_row(spec, table)
    return split_table(spec.timestamp, config, table, seed, file, groups, until, key)


def split_table(
    timestamp: str | None,
    config: SplitConfig,
    table: pl.DataFrame,
    seed: int,
    file: str | None = None,
    groups: Integers | None = None,
    until: float | None = None,
    key: str | None = None,
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
        key: the column of users; None if there is none.

    Raises:
        ConfigError: rows are divided several times, or in folds by time.
        DataError: a part would be empty, or the column of times or users is missing or faulty.
    """
    config.need_one_fold()
    by = config.by if config.by != "auto" else "time" if timestamp else "random"
    boundaries, later, what = None, 0, f"{table.height} rows"
    if by == "time":
        if config.folds is not None:
            raise ConfigError(f"key 'split.folds': {_NO_FOLDS}", hint="Set split.by=user or split.by=random")
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
    elif by == "user":
        users = _users(key, table, file, groups)
        what = f"{distinct(users).size} users"
        part = parts_of_users(users, config, seed)
    else:
        part = _parts(_shuffled(table.height, seed, groups), table.height, config)
    train, valid, test = (np.flatnonzero(part == index) for index in range(3))
    for name, rows in (("training", train), ("validation", valid), ("test", test)):
        if rows.size == 0:
            raise DataError(
                f"with {what} the split leaves no {name} rows",
                file=file,
                hint=f"Give more {what.split()[1]} or other shares",
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
    """The place of each row in a random order; all rows of a group have the place of the last of them."""
    random = np.random.default_rng(seed)
    place = np.empty(rows, dtype=np.int64)
    if groups is None:
        place[random.permutation(rows)] = np.arange(rows)
        return place
    _, unit = np.unique(groups, return_inverse=True)
    shuffled = random.permutation(unit.max() + 1)[unit]
    place[np.argsort(shuffled, kind="stable")] = np.arange(rows)
    last = np.zeros(unit.max() + 1, dtype=np.int64)
    np.maximum.at(last, unit, place)
    return last[unit]


def _parts(place: Integers, places: int, config: SplitConfig) -> NDArray[np.int8]:
    """The part of each row, 0 for training, 1 for validation, 2 for test, by its place.

    The last places are test rows. The places of a fold are moved to the end, and those after it to the start.

    Args:
        place: the place of each row, from 0 to `places` - 1.
        places: number of places.
        config: how to divide.
    """
    first, second = np.round(np.array([config.train, config.train + config.valid]) * places)
    if config.folds is not None and config.fold is not None:
        start, end = np.round(np.array([config.fold, config.fold + 1]) / config.folds * places)
        place, second = (place - int(end)) % places, places - (end - start)
        first = np.round(config.train / (config.train + config.valid) * second)
    found: NDArray[np.int8] = (place >= first).astype(np.int8) + (place >= second).astype(np.int8)
    return found


def parts_of_users(users: Words, config: SplitConfig, seed: int) -> NDArray[np.int8]:
    """The part of each row by a hash of its user, [n]: 0 for training, 1 for validation, 2 for test.

    Args:
        users: a key of each row's user, equal for equal users alone, [n].
        config: how to divide.
        seed: random seed.
    """
    place = mixed(mixed(users + np.uint64(seed)) + GOLDEN) >> np.uint64(64 - _BITS)
    return _parts(place.astype(np.int64), 1 << _BITS, config)


def _users(key: str | None, table: pl.DataFrame, file: str | None, groups: Integers | None) -> Words:
    """A key of each row's user, [n]: a hash of its text, or a number of its own where there is none."""
    if key is None:
        raise DataError(
            "a split by user needs a column of users",
            file=file,
            hint="Set `split.key`, or `features.group`, to the name of the column",
        )
    require_columns(table, (key,), file)
    text = ids_as_text(table[key], file)
    users, none = text_hashes(text), np.flatnonzero(text.is_null().to_numpy())
    users[none] = mixed((none if groups is None else groups[none]).astype(np.uint64) + GOLDEN)
    return users
