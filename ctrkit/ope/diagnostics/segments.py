"""Estimates by segment of a log, beside what chance alone makes of so many segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self, cast

import numpy as np
import polars as pl
from scipy import stats

from ctrkit.arrays import Integers
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.diagnostics.evidence import Evidence
from ctrkit.ope.diagnostics.overlap import equal_means_test
from ctrkit.ope.diagnostics.ranking import _p_value, holm
from ctrkit.ope.diagnostics.verdict import PolicyVerdict, judge
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.estimators.summaries import Summaries
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import REWARD, WEIGHT

MOST = 20
# A column with more values than this has no segments to speak of: it names users, or moments.
MOST_VALUES = 2_000
# A mean weight this unlikely, and this far from 1, is told of.
LEAST_NOTED = 1e-3
MATERIAL = 0.01
MISSING = "missing"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS = tuple(f"{hour:02}:00" for hour in range(24))


@dataclass(frozen=True)
class SegmentColumn:
    """What rows are told apart by: a column's values, the bins of its numbers, or a part of its times.

    Attributes:
        column: of the log.
        edges: where bins of numbers begin and end, rising; empty: each value is a segment.
        part: of times, datetimes or unix seconds, in UTC.
    """

    column: str
    edges: tuple[float, ...] = ()
    part: Literal["weekday", "hour"] | None = None

    @property
    def name(self) -> str:
        """For a heading."""
        return self.column if self.part is None else f"{self.part} of {self.column}"

    @property
    def order(self) -> tuple[str, ...] | None:
        """All segments in their own order; None where the most frequent come first."""
        if self.part is not None:
            return (*(_DAYS if self.part == "weekday" else _HOURS), MISSING)
        if not self.edges:
            return None
        inner = [f"{low:g} to below {high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (f"below {self.edges[0]:g}", *inner, f"from {self.edges[-1]:g}", MISSING)

    def groups(self, table: pl.DataFrame) -> list[tuple[str, Integers]]:
        """The segments of a table's rows, and the numbers of the rows of each, rising.

        Raises:
            DataError: there is no such column, or it has no such values.
        """
        if self.column not in table.columns:
            raise DataError("no such column", column=self.column, hint=nearest(self.column, table.columns))
        values = table[self.column]
        if self.order is not None:
            kind = "times" if self.part is not None else "numbers"
            try:
                values = pl.Series(self._codes(values))
            except pl.exceptions.PolarsError as error:
                raise DataError(
                    f"the values are no {kind}", column=self.column, hint=f"Name {kind}"
                ) from error
        elif values.dtype.is_nested():
            raise DataError(
                "lists are no segments", column=self.column, hint="Name a column of single values"
            )
        found = pl.DataFrame({"value": values}).with_row_index("row").group_by("value").agg("row")
        if self.order is not None:
            labels = [self.order[code] for code in found["value"]]
        else:
            labels = found["value"].cast(pl.String).fill_null(MISSING).to_list()
        return [
            (label, rows.to_numpy().astype(np.int64))
            for label, rows in zip(labels, found["row"], strict=True)
        ]

    def _codes(self, values: pl.Series) -> Integers:
        """Places in `order`, -1 where a value is missing."""
        if self.part is not None:
            times = values if values.dtype.is_temporal() else pl.from_epoch(values.cast(pl.Int64), "s")
            codes = times.dt.weekday() - 1 if self.part == "weekday" else times.dt.hour()
            return codes.cast(pl.Int64).fill_null(-1).to_numpy()
        numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        found = np.searchsorted(np.asarray(self.edges), numbers, side="right")
        return np.where(np.isnan(numbers), -1, found).astype(np.int64)


@dataclass(frozen=True)
class SegmentResult:
    """What the rows of one segment say.

    Attributes:
        label: of the segment.
        values: how many values it joins, one but for the rest.
        rows: its rows, or the decisions that they stand for.
        positives: those with a reward other than 0.
        effective_sample_size: (Σ w)² / Σ w² (Kish 1965).
        mean_weight: 1 in expectation.
        estimate: the policy's value, and its difference from the logging policy, from these rows alone.
        verdict: by the rules for the whole (`verdict.judge`), and by `simultaneous`: that any segment of any
            column is called better or worse without cause is as rare as the confidence says.
        logging: the logging policy's value.
        simultaneous: for the difference; at the confidence asked for, those of all segments of all columns
            contain their differences together (Bonferroni).
        p_value: two-sided, of no difference; NaN where the rows are not to be trusted.
        adjusted_p_value: by Holm over all segments of all columns.
    """

    label: str
    values: int
    rows: int
    positives: int
    effective_sample_size: float
    mean_weight: float
    estimate: Estimate
    verdict: PolicyVerdict
    logging: float
    simultaneous: ConfidenceInterval
    p_value: float
    adjusted_p_value: float


@dataclass(frozen=True)
class Heterogeneity:
    """Whether the difference from the logging policy is the same in all segments.

    Attributes:
        statistic, degrees, p_value: see `overlap.EqualMeans`; of the segments that can be trusted.
        adjusted_p_value: by Holm over the columns.
    """

    statistic: float
    degrees: float
    p_value: float
    adjusted_p_value: float


@dataclass(frozen=True)
class ColumnSegments:
    """The segments of one column.

    Attributes:
        segments: the most frequent first and the rest last, or in their own order where they have one.
        note: why there are none, or not to be trusted; else empty.
    """

    column: str
    segments: tuple[SegmentResult, ...]
    heterogeneity: Heterogeneity
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class _Tally:
    """The rows of one segment: an estimator, and what speaks for and against it."""

    def __init__(self, estimator: Estimator) -> None:
        self._both = Summaries((estimator, Evidence(estimator.reward_range)))

    def update(self, rows: LoggedRows) -> None:
        self._both.update((rows, rows))

    def merge(self, other: _Tally) -> None:
        self._both.merge(other._both)

    @property
    def estimator(self) -> Estimator:
        return cast("Estimator", self._both.members[0])

    @property
    def evidence(self) -> Evidence:
        return cast("Evidence", self._both.members[1])


class SegmentSums:
    """An estimator for each value of some columns; parts of a log merge, in any order.

    A segment must be settled before the action is: by the context, the time or the user. Among the rows of
    one action, weights do not have mean 1 and estimates mean nothing (`ActionOverlap` tells of actions); a
    column's note says where that seems to be so.

    Memory grows with the number of values, and where users are known with the segments that each has rows
    in. A column that turns out to have more than `MOST_VALUES` is left out, whole and with a note: which
    values are frequent is then unknown before the end.

    Args:
        columns: a name stands for the column's values.
        kind: makes an estimator, such as `lambda: make_estimator("dr", (0, 1))`.
        most: values of a column that are shown by themselves; the others make up the rest.
        doubts: whether all propensities are 1, and whether they were estimated, see `Diagnostics`.

    Raises:
        ConfigError: for no room for a segment, or columns that repeat.
    """

    def __init__(
        self,
        columns: Sequence[str | SegmentColumn],
        kind: Callable[[], Estimator],
        most: int = MOST,
        doubts: tuple[bool, bool] = (False, False),
    ) -> None:
        self.columns = tuple(SegmentColumn(one) if isinstance(one, str) else one for one in columns)
        if most < 1:
            raise ConfigError(f"{most} segments are none", hint="Give at least one")
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ConfigError("a column is to be cut into segments twice", hint="Name each once")
        self.kind = kind
        self.most = most
        self.doubts = doubts
        # None: too many values.
        self.tallies: list[dict[str, _Tally] | None] = [{} for _ in self.columns]

    def update(self, rows: LoggedRows, table: pl.DataFrame) -> None:
        """Take in rows and their table, [B] each.

        Raises:
            DataError: for a column that is not there, or not what it is taken for.
        """
        for number, column in enumerate(self.columns):
            groups, tallies = column.groups(table), self.tallies[number]
            if tallies is None or len({*tallies, *(label for label, _ in groups)}) > MOST_VALUES:
                self.tallies[number] = None
                continue
            for label, where in groups:
                tallies.setdefault(label, _Tally(self.kind())).update(subset(rows, where))

    def merge(self, other: Self) -> None:
        """Take in what another of the same columns has seen.

        Raises:
            ConfigError: where the columns differ.
        """
        if self.columns != other.columns:
            raise ConfigError("segments of different columns do not add up", hint="Give both the same")
        for number, (mine, theirs) in enumerate(zip(self.tallies, other.tallies, strict=True)):
            if mine is None or theirs is None or len({*mine, *theirs}) > MOST_VALUES:
                self.tallies[number] = None
                continue
            for label, tally in theirs.items():
                mine.setdefault(label, _Tally(self.kind())).merge(tally)

    def result(self, confidence: float = 0.95) -> tuple[ColumnSegments, ...]:
        """Estimates by segment, one entry a column, corrected for all that are looked at.

        The test of heterogeneity (`overlap.equal_means_test`) takes segments as independent. Users with rows
        in several make these go together: where their taste is alike in all, it finds too little, not too
        much.

        Raises:
            ConfigError: for a confidence out of bounds.
        """
        if not 0 < confidence < 1:
            raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
        shown = [
            [] if tallies is None else self._shown(column, tallies)
            for column, tallies in zip(self.columns, self.tallies, strict=True)
        ]
        number = max(sum(len(segments) for segments in shown), 1)
        found = [
            [self._segment(label, values, tally, confidence, number) for label, values, tally in segments]
            for segments in shown
        ]
        adjusted = iter(holm([one.p_value for segments in found for one in segments]).tolist())
        found = [[replace(one, adjusted_p_value=next(adjusted)) for one in segments] for segments in found]
        apart = [
            _heterogeneity(
                [tally for (*_, tally), one in zip(taken, segments, strict=True) if _trusted(one.verdict)]
            )
            for taken, segments in zip(shown, found, strict=True)
        ]
        corrected = holm([one.p_value for one in apart]).tolist()
        return tuple(
            ColumnSegments(
                column.name,
                tuple(segments),
                replace(test, adjusted_p_value=p_value),
                f"{column.name} has more than {MOST_VALUES:,} values."
                if tallies is None
                else _note(column.name, [tally for *_, tally in taken]),
            )
            for column, tallies, taken, segments, test, p_value in zip(
                self.columns, self.tallies, shown, found, apart, corrected, strict=True
            )
        )

    def _segment(
        self, label: str, values: int, tally: _Tally, confidence: float, number: int
    ) -> SegmentResult:
        """One of a number of segments, whose p-value is still to be adjusted."""
        estimate = tally.estimator.result(confidence)
        simultaneous = tally.estimator.result(1 - (1 - confidence) / number).difference_interval
        diagnostics = tally.evidence.diagnostics(*self.doubts)
        name = tally.estimator.name
        verdict = judge(
            {name: replace(estimate, difference_interval=simultaneous)},
            diagnostics,
            tally.estimator.reward_range,
        )
        return SegmentResult(
            label,
            values,
            diagnostics.rows,
            diagnostics.positives,
            diagnostics.effective_sample_size,
            diagnostics.mean_weight,
            estimate,
            verdict,
            estimate.value - estimate.difference,
            simultaneous,
            _test(tally) if _trusted(verdict) else np.nan,
            np.nan,
        )

    def _shown(self, column: SegmentColumn, tallies: dict[str, _Tally]) -> list[tuple[str, int, _Tally]]:
        """The segments of a column: label, number of values and rows."""
        if column.order is not None:
            return [(label, 1, tallies[label]) for label in column.order if label in tallies]
        frequent = sorted(tallies, key=lambda label: (-tallies[label].evidence.moments.count, label))
        # One value left over is as well shown by its own name.
        most = self.most if len(frequent) > self.most + 1 else len(frequent)
        found = [(label, 1, tallies[label]) for label in frequent[:most]]
        if rest := frequent[most:]:
            joined = _Tally(self.kind())
            for label in rest:
                joined.merge(tallies[label])
            found.append((f"the rest, {len(rest):,} values", len(rest), joined))
        return found


def subset(rows: LoggedRows, where: Integers) -> LoggedRows:
    """Some of the rows, by their numbers."""
    taken: dict[str, Any] = {
        field.name: value[where]
        for field in fields(rows)
        if isinstance(value := getattr(rows, field.name), np.ndarray)
    }
    return replace(rows, **taken)


def _test(tally: _Tally) -> float:
    """p-value of no difference from the logging policy."""

    def interval(reach: float) -> ConfidenceInterval:
        return tally.estimator.result(1 - 2 * float(stats.norm.sf(reach))).difference_interval

    return _p_value(interval)


def _trusted(verdict: PolicyVerdict) -> bool:
    return verdict.verdict != "do not trust"


def _heterogeneity(able: Sequence[_Tally]) -> Heterogeneity:
    results = [tally.estimator.result() for tally in able]
    errors = np.array(
        [one.estimator.moments.standard_error(one.estimator.direction() - REWARD) for one in able]
    )
    differences = np.array([one.difference for one in results])
    known = np.isfinite(differences) & np.isfinite(errors)
    rows = np.array([tally.evidence.moments.count for tally in able])
    test = equal_means_test(differences[known], rows[known], np.diag(errors[known] ** 2))
    return Heterogeneity(test.statistic, test.degrees, test.p_value, float("nan"))


def _note(column: str, segments: Sequence[_Tally]) -> str:
    """A warning where weights do not have mean 1 by segment, as they have if it was settled beforehand."""
    critical = float(stats.norm.isf(LEAST_NOTED / 2 / max(len(segments), 1)))
    off = 0
    for tally in segments:
        moments = tally.evidence.moments
        error = moments.standard_error(WEIGHT)
        off += bool(abs(moments.mean @ WEIGHT - 1) > max(critical * error, MATERIAL))
    if not off:
        return ""
    return (
        f"The mean weight is not 1 in {off} of {len(segments)} segments of {column}: either the action "
        "decides in which one a row stands, and then estimates by it mean nothing, or propensities are "
        "wrong there."
    )
