"""Labels that come late, such as conversions: which were known when a model would have been trained.

Setting: Chapelle, "Modeling Delayed Feedback in Display Advertising", KDD 2014. An event counts if it comes
within a window W after its row. A row has matured at a moment if W has passed by then; before, a row without
the event may still get it, and is no negative row.

Training rows are seen as of the first validation row in a split by time, because nothing that happened later
was known when a model would have been trained; in other splits, and for all other rows, as of the end of the
log. Rows are left out by their age alone, whatever happened to them: leaving out only those without the event
would make it more frequent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.config import Config
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.labels import read_labels, read_of_rows, read_weights
from ctrkit.data.seen_share import seen_share
from ctrkit.data.split import Split
from ctrkit.errors import DataError
from ctrkit.schema import Column, FeatureSpec, check_column, require_columns, unix_seconds

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
# Rows so young that a smaller share of their events has come are left out: an event counts at most ten times.
LEAST_SEEN = 0.1
_PARTS = {"train": "training rows", "valid": "validation rows", "test": "test rows", "all": "rows"}


def _seconds(given: Any) -> Any:
    """A time span in seconds, from a number of seconds or a text such as `7d`."""
    if not isinstance(given, str):
        return given
    text = given.strip()
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise ValueError("a time span is a number of seconds, or a number with s, m, h, d or w: 7d") from None


def _moment(given: Any) -> Any:
    """Unix seconds, from a time in any form."""
    if given is None:
        return None
    try:
        return float(unix_seconds(pl.Series("end", [given]))[0])
    except (DataError, TypeError, pl.exceptions.PolarsError):
        raise ValueError("this is no time; give one such as 2024-03-10T00:00:00") from None


class DelayConfig(Config):
    """How late the label of a task may come.

    Attributes:
        window: seconds after the row, or a text such as `7d` or `36h`, within which the event counts. An
            event that comes later counts as none.
        delay: column of the seconds from the row to the event, read where the label is 1.
        time: column of the time of the event, in place of `delay`.
        end: the moment until which the log records the event; by default the newest time in the log, of a
            row or an event.
        immature: what becomes of training rows that have not matured. "leave_out": the task is not learnt
            from them. "weight": a row younger than the window has the label s / F. s is 1 if its event has
            come, and F is the share of the events that have come by its age (see `seen_share`). As E(s) is
            p F, every loss that is linear in the label has the expectation that it has for matured rows:
            Saito, Morishita and Yasui, "Dual Learning Algorithm for Delayed Conversions", SIGIR 2020, arXiv
            1910.01847. This needs delays that do not depend on the features. Rows with F below 0.1 are left
            out.
    """

    window: Annotated[float, BeforeValidator(_seconds), Field(gt=0.0, allow_inf_nan=False)]
    delay: str | None = None
    time: str | None = None
    end: Annotated[float | None, BeforeValidator(_moment)] = None
    immature: Literal["leave_out", "weight"] = "leave_out"

    @model_validator(mode="after")
    def _one_column(self) -> DelayConfig:
        if (self.delay is None) == (self.time is None):
            raise ValueError("give one of `delay`, a column of seconds, and `time`, a column of times")
        return self

    @property
    def column(self) -> str:
        """The column that is read."""
        return self.delay or self.time or ""


@dataclass(frozen=True)
class Maturity:
    """What is known of a late label.

    Attributes:
        task: the task.
        window: seconds within which the event counts.
        end: the end of the log, unix seconds.
        cut: the moment as of which training rows are seen, unix seconds.
        rows: part of the split -> number of rows; a table that was not divided has one part, "all".
        left_out: part -> number of rows that are left out, as they have not matured.
        weighted: number of training rows that have not matured, and whose events are weighted.
        late: number of events that came after the window, so that they count as none.
        unseen: number of events of training rows that count, and came after `cut`.
        median_delay: median delay of the events that count, in seconds, as the training rows tell; None where
            there are none.
    """

    task: str
    window: float
    end: float
    cut: float
    rows: dict[str, int]
    left_out: dict[str, int]
    weighted: int
    late: int
    unseen: int
    median_delay: float | None

    @property
    def matured(self) -> dict[str, float]:
        """Part -> share of its rows that have matured."""
        immature = {**self.left_out, "train": self.left_out.get("train", 0) + self.weighted}
        return {part: 1.0 - immature[part] / count if count else 1.0 for part, count in self.rows.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "matured": self.matured}

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to tell the user."""
        parts = [f"{self.left_out[part]:,} of {self.rows[part]:,} {_PARTS[part]}" for part in self.rows]
        told = [
            f"{self.task}: it counts if it comes within {span(self.window)}. Rows that have not matured are"
            f" left out of this task: {', '.join(parts)}."
        ]
        if self.weighted:
            told.append(
                f"{self.task}: {self.weighted:,} training rows have not matured; what has come of them counts"
                " by its inverse probability."
            )
        if self.unseen:
            told.append(
                f"{self.task}: of {self.unseen:,} training rows it came after the first validation row, so"
                " training does not know of it."
            )
        return tuple(told)


def span(seconds: float) -> str:
    """A time span in words."""
    for name, unit in (("days", "d"), ("hours", "h"), ("minutes", "m")):
        if seconds >= 2 * _UNITS[unit]:
            return f"{seconds / _UNITS[unit]:.3g} {name}"
    return f"{seconds:.3g} seconds"


@dataclass(frozen=True)
class Outcomes:
    """The labels of a table as they were known.

    Attributes:
        labels: float32 [n, T]; NaN where it is not known, and above 0 where an event came: see `DelayConfig`.
            The labels of the first task are all known, as other rows are left out.
        left_out: rows of which no label is known, [n]. They have the weight 0.
        maturity: what is known of each late label.
    """

    labels: NDArray[np.float32]
    left_out: Booleans
    maturity: tuple[Maturity, ...]

    def of(self, data: EncodedTable, rows: slice = slice(None)) -> EncodedTable:
        """Encoded rows with these labels.

        Args:
            data: the encoded rows, with all labels as the log has them.
            rows: their places in the whole table.
        """
        labels = self.labels[rows]
        weight = np.where(self.left_out[rows], np.float32(0.0), data.weight)
        value = None if data.value is None else np.where(labels[:, -1] > 0, data.value, np.float32(0.0))
        return replace(data, labels=labels, weight=weight, value=value)


@dataclass(frozen=True)
class _Late:
    """The late label of a task.

    Attributes:
        task: the task.
        index: its place in the funnel.
        config: how late it may come.
        end: the end of the log, unix seconds.
        delays: seconds from the row to the event, infinite where there is none, [n].
    """

    task: str
    index: int
    config: DelayConfig
    end: float
    delays: Floats


@dataclass(frozen=True)
class LateLabels:
    """The labels of a table of which some come late.

    Attributes:
        times: time of each row, unix seconds, [n].
        labels: the labels as the log has them, [n, T].
        weight: the weight of each row, [n].
        late: the late labels, in funnel order.
        file: name of the table, for messages.
    """

    times: Floats
    labels: NDArray[np.float32]
    weight: Floats
    late: tuple[_Late, ...]
    file: str | None

    @classmethod
    def read(
        cls, config: Mapping[str, DelayConfig], spec: FeatureSpec, table: pl.DataFrame, file: str | None
    ) -> LateLabels | None:
        """The late labels of a table; None where no label comes late.

        Args:
            config: task -> how late its label may come.
            spec: what the columns mean; it names the time stamp.
            table: the rows, of which these columns are read: `columns_read`.
            file: name of the table, for messages.

        Raises:
            DataError: a column is missing or has a wrong value, an event has no time or comes before its row,
                or no row has matured by the end of the log.
        """
        if not config:
            return None
        assert spec.timestamp is not None
        require_columns(table, (spec.timestamp, *columns_read(config)), file)
        time = Column(spec.timestamp, "time", "the time of the row")
        times = check_column(table[spec.timestamp], time, file).to_numpy()
        labels = read_labels(spec.labels, table, file)
        late = []
        for index, (task, label) in enumerate(spec.labels.items()):
            if (one := config.get(task)) is None:
                continue
            rows = np.flatnonzero(labels[:, index] == 1)
            delays = np.full(table.height, np.inf)
            delays[rows] = _delays(one, label, table, rows, times, file)
            come = (times + delays)[rows]
            end = float(max(times.max(), come.max(initial=-np.inf))) if one.end is None else one.end
            if end - times.min() < one.window:
                raise _immature("row", task, one.window, end - float(times.min()), file)
            late.append(_Late(task, index, one, end, delays))
        return cls(times, labels, read_weights(spec.weight, table, file), tuple(late), file)

    @property
    def settled_until(self) -> float:
        """The time up to which all rows have matured by the end of the log."""
        return min(one.end - one.config.window for one in self.late)

    def outcomes(self, split: Split | None) -> Outcomes:
        """The labels that are known, as the head of this file says.

        Args:
            split: the rows of each part; None for a table that no model is trained on.

        Raises:
            DataError: no training row has matured.
        """
        parts = {"all": np.arange(self.times.size)}
        if split is not None:
            parts = {"train": split.train, "valid": split.valid, "test": split.test}
        labels, maturity = self.labels.copy(), []
        for one in self.late:
            column, told = self._known(one, split, parts)
            if one.index:
                before = labels[:, one.index - 1]
                column *= np.where(np.isnan(before), np.nan, before > 0)
            labels[:, one.index] = column
            maturity.append(told)
        left_out = np.isnan(labels[:, 0])
        labels[left_out] = 0.0
        return Outcomes(labels, left_out, tuple(maturity))

    def _known(
        self, one: _Late, split: Split | None, parts: Mapping[str, Integers]
    ) -> tuple[Floats, Maturity]:
        """The label of a task, NaN where it is not known, [n], and what is known of it."""
        window, ages = one.config.window, one.end - self.times
        cut, training = one.end, next(iter(parts.values()))
        if split is not None and split.boundaries is not None:
            cut = min(one.end, split.boundaries[0])
            ages[training] = cut - self.times[training]
        counts = one.delays <= window
        column, matured = (counts & (one.delays <= ages)).astype(np.float64), ages >= window
        if not matured[training].any():
            raise _immature("training row", one.task, window, float(ages[training].max()), self.file)
        known, median, weighted = matured.copy(), None, 0
        if split is not None:
            reached = self.labels[training, one.index - 1] == 1 if one.index else np.True_
            mine = training[reached & (ages[training] >= 0) & (self.weight[training] > 0)]
            come = seen_share(one.delays[mine], column[mine] > 0, ages[mine], self.weight[mine], window)
            median = come.median
            if one.config.immature == "weight":
                shares = come.at(ages[training])
                used = ~matured[training] & (shares >= LEAST_SEEN)
                column[training[used]] /= shares[used]
                known[training[used]], weighted = True, int(used.sum())
        column[~known] = np.nan
        unseen = counts[training] & (one.delays[training] > ages[training])
        return column, Maturity(
            one.task,
            window,
            one.end,
            cut,
            {part: rows.size for part, rows in parts.items()},
            {part: int(np.count_nonzero(~known[rows])) for part, rows in parts.items()},
            weighted,
            int(np.count_nonzero(np.isfinite(one.delays) & ~counts)),
            int(np.count_nonzero(unseen)) if split is not None else 0,
            median,
        )


def columns_read(config: Mapping[str, DelayConfig]) -> tuple[str, ...]:
    """The columns that late labels are read from, beside times and labels."""
    return tuple(one.column for one in config.values())


def settled(late: Collection[str], data: EncodedTable, tasks: Sequence[str]) -> EncodedTable:
    """The rows with the labels that never change, of the tasks before the first late one.

    Args:
        late: the tasks whose labels may come late.
        data: the encoded rows.
        tasks: the tasks, in funnel order.
    """
    first = next((index for index, task in enumerate(tasks) if task in late), len(tasks))
    return data if first == len(tasks) else replace(data, labels=data.labels[:, :first])


def _immature(which: str, task: str, window: float, seen: float, file: str | None) -> DataError:
    """The error of a table without any row that could be used."""
    return DataError(
        f"no {which} has matured: '{task}' may come within {span(window)}, and the first {which} was seen for"
        f" {span(max(0.0, seen))} only",
        file=file,
        hint=f"Give a longer log, a shorter delays.{task}.window, or other shares of `split`",
    )


def _delays(
    config: DelayConfig,
    label: str,
    table: pl.DataFrame,
    rows: Integers,
    times: Floats,
    file: str | None,
) -> Floats:
    """The delays of the rows whose label is 1, as the table has them."""
    advice = f"Give it for every row where '{label}' is 1"
    if config.delay is not None:
        meaning = f"the seconds from the row to its '{label}'"
        column = Column(config.delay, "number", meaning, low=0.0, missing=advice)
        return read_of_rows(column, table, rows, file)
    column = Column(config.column, "time", f"the time of '{label}'", missing=advice)
    delays: Floats = read_of_rows(column, table, rows, file) - times[rows]
    if (early := np.flatnonzero(delays < 0)).size:
        raise DataError(
            f"the '{label}' is {span(-float(delays[early[0]]))} before its row",
            file=file,
            column=config.time,
            row=int(rows[early[0]]),
            hint="Fix such rows; both times must be on the same clock",
        )
    return delays
