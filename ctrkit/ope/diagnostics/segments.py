"""Estimates by segment of a log, corrected for the number of segments that are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, cast

import numpy as np
import polars as pl
from scipy import stats

from ctrkit.arrays import Integers
from ctrkit.errors import ConfigError
from ctrkit.ope.diagnostics.checks import Check, checks_of
from ctrkit.ope.diagnostics.evidence import Evidence
from ctrkit.ope.diagnostics.overlap import Residual, equal_means_test
from ctrkit.ope.diagnostics.ranking import _p_value, holm
from ctrkit.ope.diagnostics.segment_columns import SegmentColumn
from ctrkit.ope.diagnostics.verdict import PolicyVerdict, deciding, judge
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows
from ctrkit.ope.estimators.summaries import Summaries
from ctrkit.ope.intervals.interval import ConfidenceInterval
from ctrkit.ope.intervals.moments import REWARD, WEIGHT

MOST = 20
# A column with more values than this is left out: it names users, or times.
MOST_VALUES = 2_000
# A segment whose mean weight is this unlikely, and this far from 1, gets a note.
LEAST_NOTED = 1e-3
MATERIAL = 0.01


@dataclass(frozen=True)
class SegmentResult:
    """The result for the rows of one segment.

    Attributes:
        label: the name of the segment.
        values: how many values of the column it joins; 1 except for "the rest".
        rows: the number of its rows, or of the decisions that they stand for.
        positives: how many of them have a reward other than 0.
        effective_sample_size: (Σ w)² / Σ w² (Kish 1965).
        mean_weight: 1 in expectation.
        estimate: the policy's value, and its difference from the logging policy, from these rows alone.
        verdict: by the rules of `verdict.judge`, with `simultaneous` as the interval. So a false "better" or
            "worse" in any segment of any column is as rare as the confidence says.
        logging: the logging policy's value on these rows.
        simultaneous: interval of the difference. The intervals of all segments of all columns contain their
            differences together at the confidence asked for (Bonferroni).
        p_value: two-sided p-value of no difference; NaN where the rows are not to be trusted.
        adjusted_p_value: the p-value adjusted by Holm over all segments of all columns.
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
        statistic: as in `overlap.EqualMeans`, over the segments that can be trusted.
        degrees: degrees of freedom of the test, as in `overlap.EqualMeans`.
        p_value: p-value of equal differences; NaN for fewer than two segments.
        adjusted_p_value: the p-value adjusted by Holm over the columns.
    """

    statistic: float
    degrees: float
    p_value: float
    adjusted_p_value: float


@dataclass(frozen=True)
class ColumnSegments:
    """The segments of one column.

    Attributes:
        column: the name of the column, or of the part of its times.
        segments: in natural order where there is one; else the most frequent first and the rest last.
        heterogeneity: test of equal differences in all segments.
        note: why there are no segments, or why they cannot be trusted; else empty.
    """

    column: str
    segments: tuple[SegmentResult, ...]
    heterogeneity: Heterogeneity
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class _Tally:
    """The sums of one segment: of an estimator, and of the evidence that a verdict needs."""

    def __init__(self, estimator: Estimator) -> None:
        self._all = Summaries((estimator, Evidence(estimator.reward_range), Residual()))

    def update(self, rows: LoggedRows) -> None:
        self._all.update((rows, rows, rows))

    def merge(self, other: _Tally) -> None:
        self._all.merge(other._all)

    @property
    def estimator(self) -> Estimator:
        return cast("Estimator", self._all.members[0])

    @property
    def evidence(self) -> Evidence:
        return cast("Evidence", self._all.members[1])

    @property
    def residual(self) -> Residual:
        return cast("Residual", self._all.members[2])


class SegmentSums:
    """An estimator for each value of some columns; parts of a log merge, in any order.

    A segment must be known before the action: it may be the context, the time or the user. Among the rows of
    one action weights do not have mean 1 and estimates mean nothing (use `ActionOverlap` for actions). A
    column's note says where that seems to be the case.

    Memory grows with the number of values; where users are known, with the number of segments in which each
    user has rows. A column with more than `MOST_VALUES` values is left out with a note, because its frequent
    values are unknown until all rows are read.

    Args:
        columns: names or `SegmentColumn`s; a name cuts by the column's values.
        kind: makes an estimator, such as `lambda: make_estimator("dr", (0, 1))`.
        most: how many values of a column are segments of their own; all others are joined as the rest.
        doubts: whether all propensities are 1, and whether they were estimated (see `Diagnostics`).
        known: checks that were made before and hold for every segment.

    Raises:
        ConfigError: `most` is below 1, or a column is named twice.
    """

    def __init__(
        self,
        columns: Sequence[str | SegmentColumn],
        kind: Callable[[], Estimator],
        most: int = MOST,
        doubts: tuple[bool, bool] = (False, False),
        known: Sequence[Check] = (),
    ) -> None:
        self.columns = tuple(SegmentColumn(one) if isinstance(one, str) else one for one in columns)
        if most < 1:
            raise ConfigError(f"most = {most} leaves no segment", hint="Give at least 1")
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ConfigError("a column is named twice for segments", hint="Name each column once")
        self.kind = kind
        self.most = most
        self.doubts = doubts
        self.known = known
        # None: too many values.
        self.tallies: list[dict[str, _Tally] | None] = [{} for _ in self.columns]

    def update(self, rows: LoggedRows, table: pl.DataFrame) -> None:
        """Take in rows and their table, [B] each.

        Raises:
            DataError: a column is missing, or its values cannot be cut as asked for.
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
            raise ConfigError(
                "segments of different columns cannot be merged", hint="Give both the same columns"
            )
        for number, (mine, theirs) in enumerate(zip(self.tallies, other.tallies, strict=True)):
            if mine is None or theirs is None or len({*mine, *theirs}) > MOST_VALUES:
                self.tallies[number] = None
                continue
            for label, tally in theirs.items():
                mine.setdefault(label, _Tally(self.kind())).merge(tally)

    def result(self, confidence: float = 0.95) -> tuple[ColumnSegments, ...]:
        """Estimates by segment, one entry per column, corrected for all segments that are compared.

        The test of heterogeneity (`overlap.equal_means_test`) assumes independent segments. Users with rows
        in several segments correlate them. Where a user behaves alike in all of them, the test is
        conservative.

        Args:
            confidence: confidence level of all intervals.

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
        """The result of one of `number` segments; its p-value is not adjusted yet."""
        estimate = tally.estimator.result(confidence)
        simultaneous = tally.estimator.result(1 - (1 - confidence) / number).difference_interval
        diagnostics = tally.evidence.diagnostics(*self.doubts)
        decisive = deciding({estimate.estimator: replace(estimate, difference_interval=simultaneous)})
        checks = checks_of(
            diagnostics,
            decisive,
            tally.estimator.reward_range,
            known=self.known,
            residual=tally.residual.check(),
        )
        verdict = judge(decisive, checks, diagnostics)
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
        """The segments of a column: label, number of values and sums."""
        if column.order is not None:
            return [(label, 1, tallies[label]) for label in column.order if label in tallies]
        frequent = sorted(tallies, key=lambda label: (-tallies[label].evidence.moments.count, label))
        # A rest of one value is shown under its own name.
        most = self.most if len(frequent) > self.most + 1 else len(frequent)
        found = [(label, 1, tallies[label]) for label in frequent[:most]]
        if rest := frequent[most:]:
            joined = _Tally(self.kind())
            for label in rest:
                joined.merge(tallies[label])
            found.append((f"the rest, {len(rest):,} values", len(rest), joined))
        return found


def subset(rows: LoggedRows, where: Integers) -> LoggedRows:
    """Some of the rows, by their indices."""
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
    """A warning where the mean weight of a segment is not 1; else empty."""
    critical = float(stats.norm.isf(LEAST_NOTED / 2 / max(len(segments), 1)))
    off = 0
    for tally in segments:
        moments = tally.evidence.moments
        error = moments.standard_error(WEIGHT)
        off += bool(abs(moments.mean @ WEIGHT - 1) > max(critical * error, MATERIAL))
    if not off:
        return ""
    return (
        f"The mean weight is not 1 in {off} of {len(segments)} segments of {column}. Either the action "
        "decides in which segment a row is, and then these estimates mean nothing, or the propensities are "
        "wrong there."
    )
