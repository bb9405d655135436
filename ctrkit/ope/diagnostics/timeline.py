"""A policy's value over time, and whether weights and rewards drift."""

from __future__ import annotations

from typing import Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.compiled import kernel
from ctrkit.errors import ConfigError, DataError
from ctrkit.hashing import Words
from ctrkit.ope.diagnostics.log_grid import lower_edges
from ctrkit.ope.diagnostics.overlap import equal_means_test
from ctrkit.ope.diagnostics.term_points import TermPoints
from ctrkit.ope.diagnostics.timeline_results import MeanDrift, Period, RunningEstimate, TimelineResult
from ctrkit.ope.estimators.base import LoggedRows, WeightedEstimator
from ctrkit.ope.estimators.importance import InversePropensityScoring, OnPolicy, logging_moments
from ctrkit.ope.intervals.confidence_sequence import METHOD, ConfidenceSequence
from ctrkit.ope.intervals.moments import ONE, REWARD, TERM, WEIGHT, Moments
from ctrkit.ope.intervals.unit_sums import UnitSums

BINS = 100
PERIODS = 10
ASYMPTOTIC = "asymptotic, valid at any time"
# Rows with a term other than 0 that an asymptotic sequence needs before it gives bounds.
LEAST_TERMS = 25


class Timeline:
    """Sums by time bin, from which running estimates and estimates by period follow.

    Of each bin Σ c z zᵀ of z = (1, w, w r, r) is kept, and of each user Σ c z in each bin that has rows of
    the user. For independent rows that each stand for one decision, with a known range of rewards, the terms
    that a confidence sequence bets on are kept too. The largest weight need not be known before the end (see
    `TermPoints`). Memory is 40 bytes per user and bin. With a reward range, and without users that have
    several rows, it is 1.3 MB more for each factor of four that the weights span.

    Args:
        edges: [T + 1] rising times in unix seconds. Rows before the first or after the last edge count for
            the first or the last bin.
        reward_range: the smallest and the largest possible reward, where known.

    Raises:
        ConfigError: for edges that do not rise.
    """

    def __init__(self, edges: Floats, reward_range: tuple[float, float] | None = None) -> None:
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ConfigError(
                "the edges of the time bins do not rise", hint="Give at least two, in rising order"
            )
        self.edges = np.asarray(edges, dtype=np.float64)
        self.reward_range = reward_range
        bins = len(self.edges) - 1
        self.sums = np.zeros((bins, 4, 4))
        # Where users are unknown, by bin: Σ (c z)(c z)ᵀ. Of users Σ c z by user and bin, under the number
        # `bins` · place + bin, place that of the user in `units`.
        self.alone = np.zeros((bins, 4, 4))
        self.units, self.cells = UnitSums(0), UnitSums(4)
        self.terms = np.zeros((2, bins))  # rows with w r, and with r, other than 0
        self.largest_weight = 0.0
        # The largest c.
        self.largest_count = 0.0
        self.single = True
        # Of w s and w (1 - s), for the policy and, with w = 1, for the logging policy.
        self.points = tuple(TermPoints(bins) for _ in range(4))

    def update(self, times: Floats, rows: LoggedRows) -> None:
        """Take in rows and their times [B], unix seconds.

        Raises:
            DataError: a time is missing, or a reward is outside the range.
        """
        if not np.isfinite(times).all():
            row = int(np.argmin(np.isfinite(times)))
            raise DataError("the time is missing", column="timestamp", row=row, hint="Give every row a time")
        bins = len(self.sums)
        place = np.clip(np.searchsorted(self.edges, times, side="right") - 1, 0, bins - 1)
        z = np.stack([np.ones(len(times)), rows.weights, rows.weights * rows.rewards, rows.rewards])
        whole = z * rows.counts
        self.sums += _within(place, whole, z, bins)
        if rows.users is not None:
            self.cells.add(self.units.add(rows.users, np.zeros((0, len(times)))) * bins + place, whole)
        else:
            self.alone += _within(place, whole, whole, bins)
        self.largest_count = max(self.largest_count, float(rows.counts.max(initial=0.0)))
        self.terms += [np.bincount(place, z[k] != 0, bins) for k in (2, 3)]
        self.largest_weight = max(self.largest_weight, float(rows.weights.max(initial=0.0)))
        self.single &= bool((rows.counts == 1).all())
        if self.reward_range is not None and self.independent:
            self._update_points(place, rows, self.reward_range)

    def _update_points(self, place: Integers, rows: LoggedRows, reward_range: tuple[float, float]) -> None:
        least, most = reward_range
        scaled = (rows.rewards - least) / (most - least)
        well = (scaled >= 0) & (scaled <= 1)
        if not well.all():
            row = int(np.argmin(well))
            raise DataError(
                f"{rows.rewards[row]:g} is outside the reward range from {least:g} to {most:g}",
                column="reward",
                row=row,
                hint="Widen the range or correct the reward",
            )
        terms = (rows.weights * scaled, rows.weights * (1 - scaled), scaled, 1 - scaled)
        for points, term in zip(self.points, terms, strict=True):
            points.update(term, place)

    def merge(self, other: Self) -> None:
        """Take in the rows of another timeline with the same bins, of the same or of other users.

        Raises:
            ConfigError: where bins or range differ.
        """
        if not np.array_equal(self.edges, other.edges) or self.reward_range != other.reward_range:
            raise ConfigError(
                "timelines of different bins or reward ranges cannot be merged",
                hint="Give both the same ones",
            )
        self.sums += other.sums
        self.alone += other.alone
        users, bins = np.divmod(other.cells.keys.astype(np.int64), len(self.sums))
        places = self.units.merge(other.units)[users] * len(self.sums) + bins
        self.cells.add(places, other.cells.sums.T)
        self.terms += other.terms
        self.largest_weight = max(self.largest_weight, other.largest_weight)
        self.largest_count = max(self.largest_count, other.largest_count)
        self.single &= other.single
        for mine, others in zip(self.points, other.points, strict=True):
            mine.merge(others)

    def result(
        self, confidence: float = 0.95, largest_weight: float | None = None, periods: int = PERIODS
    ) -> TimelineResult:
        """Estimates so far and by period, of the policy and of the logging policy, and tests of drift.

        Args:
            confidence: confidence level of all intervals. Those of the running estimates hold at all times
                together.
            largest_weight: an upper bound of all weights, seen or not. It must follow from the policies and
                not from the rows: the largest weight over all candidates of all rows, or 1 over the smallest
                probability of the logging policy. The running intervals then hold for weights up to this
                bound, or up to the largest one seen if that is larger. None: they hold for weights of any
                size, and their upper end is higher (see `ConfidenceSequence`).
            periods: the largest number of periods. Neighbouring bins are joined into periods of about as many
                rows each.

        Raises:
            ConfigError: for a confidence out of bounds, or a timeline without rows.
        """
        if not 0 < confidence < 1:
            raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
        count = self.sums[:, 0, 0]
        if not count.sum() > 0:
            raise ConfigError("the timeline has no rows", hint="Give it rows first")
        cuts = _joined(count, periods)
        between = self.between()
        rows, grouped = _grouped(self.sums, between, cuts)
        return TimelineResult(
            self._running(False, confidence, largest_weight, between),
            self._running(True, confidence, 1.0, between),
            tuple(
                self._period(rows[g], grouped[g, :, g], cuts[g : g + 2], confidence, largest_weight)
                for g in range(len(rows))
            ),
            _drift(rows, grouped, WEIGHT),
            _drift(rows, grouped, REWARD),
        )

    @property
    def clustered(self) -> bool:
        """Whether some user has several rows."""
        return self.units.repeated

    @property
    def independent(self) -> bool:
        """Whether a confidence sequence is valid: a row stands for one decision, and no user has two rows."""
        return self.single and not self.clustered

    @property
    def largest_unit(self) -> float:
        """The largest Σ c of a user."""
        users = self.cells.keys.astype(np.int64) // len(self.sums)
        of_users = np.bincount(users, self.cells.sums[:, 0])
        return max(self.largest_count, float(of_users.max(initial=0.0)))

    def between(self) -> Floats:
        """Σ over users of s sᵀ, s a user's sums of z by bin: [T, 4, T, 4]."""
        bins = len(self.sums)
        order = np.argsort(self.cells.keys)
        found = np.zeros((bins, 4, bins, 4))
        _add_between(self.cells.keys[order], self.cells.sums[order], found)
        np.einsum("titj->tij", found)[...] += self.alone
        return found

    def _running(
        self, logging: bool, confidence: float, largest_weight: float | None, between: Floats
    ) -> RunningEstimate:
        held = np.flatnonzero(self.sums[:, 0, 0] > 0)
        rows = np.cumsum(self.sums[:, 0, 0])[held]
        value = np.cumsum(self.sums[:, 0, 3 if logging else 2])[held] / rows
        if self.reward_range is not None and self.independent:
            sequence = ConfidenceSequence(self.reward_range, self._bound(largest_weight))
            method = f"{METHOD}, for weights of any size"
            if logging:
                sequence, method = ConfidenceSequence(self.reward_range, 1.0), METHOD
            elif sequence.largest_weight is not None:
                method = f"{METHOD}, for weights up to {sequence.largest_weight:.4g}"
            ends = self._bets(held, sequence, self.points[2:] if logging else self.points[:2], confidence)
        else:
            ends, method = self._asymptotic(held, logging, confidence, between), ASYMPTOTIC
        low, high = np.maximum.accumulate(ends[:, 0]), np.minimum.accumulate(ends[:, 1])
        broken = bool((low > high).any())
        return RunningEstimate(self.edges[held + 1], rows, value, low, high, method, broken)

    def _bound(self, largest_weight: float | None) -> float | None:
        return None if largest_weight is None else max(largest_weight, self.largest_weight, 1.0)

    def _bets(
        self,
        held: Integers,
        sequence: ConfidenceSequence,
        points: tuple[TermPoints, ...],
        confidence: float,
    ) -> Floats:
        """The betting sequence after each bin that has rows, [P, 2]."""
        won, lost = points
        won_at, lost_at = lower_edges(won.points), lower_edges(lost.points)
        ends = np.empty((len(held), 2))
        for place, number in enumerate(held):
            sequence.update_points(won_at, won.mass[number], lost_at, lost.mass[number])
            found = sequence.interval(confidence)
            ends[place] = found.low, found.high
        return ends

    def _asymptotic(self, held: Integers, logging: bool, confidence: float, between: Floats) -> Floats:
        """Normal bounds at all times at once, [P, 2], for users' rows that go together and unknown ranges.

        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-Uniform Central Limit Theory and Asymptotic
        Confidence Sequences, Annals of Statistics 2024, theorem 2.2 and its choice of ρ: after t of N rows,
        with k = N ρ² = l + log(l) + 1 for l = -2 log(α), they reach as many standard errors as the root of
        2 (1 + 1 / u) log(√(1 + u) / α), u = k t / N. Here they are the tightest at the log's end, and the
        rows of a user are taken together.
        """
        total = float(self.sums[:, 0, 0].sum())
        alpha = 1 - confidence
        level = -2 * np.log(alpha)
        tuned = level + np.log(level) + 1 if level > 1 else 1.0
        terms = np.cumsum(self.terms[1 if logging else 0])
        moments = Moments()
        ends = np.full((len(held), 2), [-np.inf, np.inf])
        for place, number in enumerate(held):
            moments.set(
                self.sums[: number + 1].sum(axis=0),
                between[: number + 1, :, : number + 1].sum(axis=(0, 2)),
            )
            if terms[number] >= LEAST_TERMS:
                direction = REWARD if logging else TERM
                share = tuned * moments.count / total
                reach = np.sqrt(2 * (1 + 1 / share) * np.log(np.sqrt(1 + share) / alpha))
                value = float(moments.mean @ direction)
                error = float(reach * moments.standard_error(direction))
                ends[place] = value - error, value + error
        return ends

    def _period(
        self, rows: Floats, users: Floats, cuts: Integers, confidence: float, largest_weight: float | None
    ) -> Period:
        moments = Moments()
        moments.set(rows, users, self.largest_unit, clustered=self.clustered)
        estimators: tuple[WeightedEstimator, ...] = (
            InversePropensityScoring(self.reward_range),
            OnPolicy(self.reward_range),
        )
        estimators[0].moments = moments
        estimators[1].moments = logging_moments(moments)
        for estimator, weight in zip(estimators, (self._bound(largest_weight or 1.0), 1.0), strict=True):
            estimator.largest_weight = weight or 1.0
        policy, logging = (estimator.result(confidence) for estimator in estimators)
        start, end = self.edges[cuts]
        return Period(
            float(start),
            float(end),
            moments.count,
            float(moments.mean @ WEIGHT),
            moments.standard_error(WEIGHT),
            policy,
            logging,
        )


def _within(place: Integers, left: Floats, right: Floats, bins: int) -> Floats:
    """Σ over rows of left · rightᵀ by bin, [T, 4, 4], which is symmetric; both [4, B]."""
    found = np.empty((bins, 4, 4))
    for i in range(4):
        for j in range(i + 1):
            found[:, i, j] = found[:, j, i] = np.bincount(place, left[i] * right[j], bins)
    return found


@kernel("void(u8[::1], f8[:, ::1], f8[:, :, :, ::1])", "keys: C; sums: C K; found: T K T K")
def _add_between(keys: Words, sums: Floats, found: Floats) -> None:
    """Add s sᵀ of each user to `found`, from his sums by bin; keys are T · user + bin, and rise."""
    bins, width = found.shape[0], found.shape[1]
    start = 0
    for row in range(len(keys)):
        user, place = divmod(np.int64(keys[row]), bins)
        if np.int64(keys[start]) < user * bins:
            start = row
        for other in range(start, row + 1):
            before = np.int64(keys[other]) - user * bins
            for i in range(width):
                for j in range(width):
                    found[place, i, before, j] += sums[row, i] * sums[other, j]
                    if other < row:
                        found[before, j, place, i] += sums[row, i] * sums[other, j]


def _joined(count: Floats, periods: int) -> Integers:
    """Where bins are cut into at most this many groups of about as many rows, [G + 1], rising."""
    share = np.cumsum(count) / count.sum()
    # A group ends with the bin in which its share of the rows is full.
    ends = np.searchsorted(share, np.arange(1, periods) / periods - 1e-12) + 1
    cuts = np.unique(np.concatenate([[0], ends, [len(count)]]))
    groups = np.add.reduceat(count, cuts[:-1])
    # One that holds no rows, after the last row, joins the one before.
    return np.append(cuts[:-1][groups > 0], len(count))


def _grouped(sums: Floats, between: Floats, cuts: Integers) -> tuple[Floats, Floats]:
    starts = cuts[:-1]
    return (
        np.add.reduceat(sums, starts, axis=0),
        np.add.reduceat(np.add.reduceat(between, starts, axis=0), starts, axis=2),
    )


def _drift(rows: Floats, between: Floats, direction: Floats) -> MeanDrift:
    """Whether G groups have one mean, from their sums [G, 4, 4] and their users' [G, 4, G, 4]."""
    count = rows[:, 0, 0]
    means = rows[:, 0] @ direction / count
    # What each row adds to the error of its group's mean.
    parts = (direction - means[:, None] * ONE) / count[:, None]
    covariance = np.einsum("gi,gihj,hj->gh", parts, between, parts)
    test = equal_means_test(means, count, covariance)
    return MeanDrift(float(means.min()), float(means.max()), test.p_value)
