"""The weights of any number of rows in fixed memory: sums, a fine histogram and the largest weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.ope.diagnostics.log_grid import GREATEST, STEPS, lower_edges, steps
from ctrkit.ope.diagnostics.overlap import TailShape, tail_shape

# The largest weights that are kept as they are.
KEPT = 1024
TOP = 0.01
_PARTS = (8, 4, 2, 1)


@dataclass(frozen=True)
class WeightSummary:
    """The fields of `weights.Diagnostics` that depend on the weights alone, under the same names.

    Attributes:
        rows: the number of rows, or of the decisions that they stand for.
        effective_sample_size: (Σ c w)² / Σ (c w)²: as many rows of equal weight would vary as much (Kish
            1965); c is the number of decisions of a row, 1 where nothing was dropped.
        mean_weight: 1 in expectation, where the propensities are right and no action is ruled out.
        mean_weight_z: the distance of the mean from 1 in standard errors of independent rows.
        max_weight: the largest weight.
        top_share: the share of all weight that the heaviest 1 % of the rows carry; 1 where all are 0.
    """

    rows: int
    effective_sample_size: float
    mean_weight: float
    mean_weight_z: float
    max_weight: float
    top_share: float


@dataclass(frozen=True)
class WeightHistogram:
    """Rows and weight by size of the weight, for a figure.

    Attributes:
        edges: [T + 1] edges of the bins, each about the same factor above the one before.
        rows: [T] the share of the rows in each bin.
        weight: [T] the share of all weight that they carry.
        below: the share of the rows whose weight is 0, or too small for the first bin.
    """

    edges: Floats
    rows: Floats
    weight: Floats
    below: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "edges": self.edges.tolist(),
            "rows": self.rows.tolist(),
            "weight": self.weight.tolist(),
            "below": self.below,
        }


class WeightSketch:
    """Weights of any number of rows in fixed memory, about 200 kB; parts of a log merge.

    Sums and the largest `KEPT` weights are exact. Of all others the rows and the weight in each step of a
    grid are kept (`ctrkit.ope.diagnostics.log_grid`). So a quantile has a relative error of at most 1/256,
    and so has the weight of any number of the heaviest rows.
    """

    def __init__(self) -> None:
        self.rows = 0.0
        self.zeros = 0.0
        self.least, self.largest = np.inf, 0.0
        # Σ c, Σ c d and Σ c d², and the same with c²; d = w - 1, whose squares do not cancel near weight 1.
        self.sums = np.zeros((2, 3))
        self.histogram = np.zeros((2, STEPS))  # rows, and their weight, in each step
        self.top = np.zeros((2, 0))  # the largest weights in falling order, and what their rows stand for

    def update(self, weights: Floats, counts: Floats) -> None:
        """Take in rows.

        Args:
            weights: [B].
            counts: [B] how many decisions each row stands for.

        Raises:
            DataError: a weight is below 0 or not finite.
        """
        well = (weights >= 0) & (weights < np.inf)
        if not well.all():
            row = int(np.argmin(well))
            raise DataError(
                f"{weights[row]} is not a valid weight",
                column="weight",
                row=row,
                hint="Give finite probabilities; the logging policy's must be above 0",
            )
        if not len(weights):
            return
        self.rows += float(counts.sum())
        self.zeros += float(counts @ (weights == 0))
        self.least = min(self.least, float(weights.min()))
        self.largest = max(self.largest, float(weights.max()))
        powers = (weights - 1) ** np.arange(3)[:, None]
        self.sums += np.stack([powers @ counts, powers @ counts**2])
        place = steps(weights)
        self.histogram += [np.bincount(place, part, STEPS) for part in (counts, counts * weights)]
        self._keep(np.stack([weights, counts]))

    def merge(self, other: Self) -> None:
        """Take in what another has seen."""
        self.rows += other.rows
        self.zeros += other.zeros
        self.least, self.largest = min(self.least, other.least), max(self.largest, other.largest)
        self.sums += other.sums
        self.histogram += other.histogram
        self._keep(other.top)

    def _keep(self, more: Floats) -> None:
        if self.top.shape[1] == KEPT:
            more = more[:, more[0] > self.top[0, -1]]
        if more.shape[1] > KEPT:
            more = more[:, np.argpartition(-more[0], KEPT - 1)[:KEPT]]
        top = np.concatenate([self.top, more], axis=1)
        self.top = top[:, np.argsort(-top[0], kind="stable")[:KEPT]]

    def heaviest(self, rows: float) -> tuple[Floats, Floats]:
        """The heaviest `rows` rows: weights in falling order, and how many rows have each.

        Exact while the largest weights are kept; then step by step, of which the last one is cut.
        """
        weights, counts = self.top
        number = np.zeros(0, dtype=np.int64)
        if rows > counts.sum():
            rest = self._rest()
            number = np.flatnonzero(rest[0])[::-1]
            weights = np.concatenate([weights, rest[1, number] / rest[0, number]])
            counts = np.concatenate([counts, rest[0, number]])
        before = np.cumsum(counts) - counts
        held = int(np.searchsorted(before, rows, side="left"))
        weights, counts = weights[:held].copy(), counts[:held].copy()
        if not held:
            return weights, counts
        whole, taken = counts[-1], min(rows - before[held - 1], counts[-1])
        if held > self.top.shape[1] and taken < whole:
            low, high = self._bounds(int(number[held - self.top.shape[1] - 1]))
            # The rows taken are no lighter than the step's mean, and what is left no lighter than its edge.
            most = min(high, (weights[-1] * whole - (whole - taken) * low) / taken)
            weights[-1] = (weights[-1] + max(most, weights[-1])) / 2
        counts[-1] = taken
        return weights, counts

    def _rest(self) -> Floats:
        """The histogram without the largest weights, which are kept themselves."""
        weights, counts = self.top
        place = steps(weights)
        own = np.stack([np.bincount(place, part, STEPS) for part in (counts, counts * weights)])
        # What is left of a step that is kept whole is rounding.
        return np.where(self.histogram[0] - own[0] > 1e-9 * self.histogram[0], self.histogram - own, 0.0)

    def _bounds(self, number: int) -> tuple[float, float]:
        """The smallest and the largest weight of a row in this step that is not kept itself."""
        low, high = lower_edges(np.array([number, number + 1]))
        most = self.top[0, -1] if self.top.shape[1] == KEPT else self.largest
        return max(float(low), self.least), min(float(high), float(most))

    def quantile(self, share: float) -> float:
        """The quantile of the weights at a share of the rows from 0 to 1; NaN without rows."""
        if not self.rows:
            return float("nan")
        # Half a row more than stand above it: no row stands for less than one.
        above = self.rows - max(float(np.ceil(share * self.rows * (1 - 1e-12))), 1.0) + 0.5
        weights, _ = self.heaviest(above)
        if len(weights) <= self.top.shape[1]:
            return float(weights[-1])
        low, high = self._bounds(int(steps(weights[-1:])[0]))
        return (low + high) / 2

    @property
    def mean(self) -> float:
        """Σ c w / Σ c; NaN without rows."""
        return 1 + float(self.sums[0, 1]) / self.rows if self.rows else float("nan")

    @property
    def mean_z(self) -> float:
        """How many standard errors the mean is away from 1; infinite where all weights are equal and not 1.

        The variance has n, not n - 1, in the denominator.
        """
        if not self.rows:
            return float("nan")
        distance = self.mean - 1
        ones, linear, square = self.sums[1]
        spread = (self.largest - self.least) / 2
        # No variance passes that of half the rows at either end (Popoviciu 1935): 0 for equal weights.
        error = np.sqrt(min(max(square - 2 * distance * linear + distance**2 * ones, 0.0), ones * spread**2))
        if error > 1e-12 * self.rows * self.mean:
            return float(distance * self.rows / error)
        return 0.0 if abs(distance) < 1e-9 else float(np.copysign(np.inf, distance))

    @property
    def effective_sample_size(self) -> float:
        """Kish's (Σ c w)² / Σ (c w)²; 0 where all weights are 0."""
        ones, linear, square = self.sums[1]
        total = self.rows + float(self.sums[0, 1])
        return total**2 / float(square + 2 * linear + ones) if self.largest > 0 else 0.0

    def top_share(self, share: float = TOP) -> float:
        """The share of all weight that the given share of heaviest rows carries; 1 where all weights are 0.

        At least one row counts as heaviest.
        """
        top = min(max(float(int(self.rows * share)), 1.0), self.rows)
        weights, counts = self.heaviest(top)
        total = self.rows + float(self.sums[0, 1])
        return min(float(weights @ counts) / total, 1.0) if self.largest > 0 else 1.0

    def tail(self) -> TailShape:
        """How heavy the upper tail is, by the rule of Pareto-smoothed importance sampling.

        Vehtari, Simpson, Gelman, Yao and Gabry, Pareto Smoothed Importance Sampling, JMLR 2024: the tail is
        the min(N / 5, 3 √N) heaviest rows. Weights with few different values, as those of a policy that reads
        no context, are bounded by the policy and have no tail. Rows that are not kept have the mean weight of
        their step, so beyond about 100,000 rows the shape is that of weights rounded to 1/128.
        """
        size = int(min(self.rows / 5, 3 * np.sqrt(self.rows)))
        weights, counts = self.heaviest(min(size + 1, self.rows))
        return tail_shape(weights[::-1], counts[::-1], size)

    def coarse(self, most: int = 40) -> WeightHistogram:
        """About `most` bins of equal width on a log scale, over all weights that matter: for a figure."""
        share = self.histogram[:, :-1] / np.maximum(self.histogram.sum(axis=1, keepdims=True), 1e-300)
        share[:, -1] += 1 - share.sum(axis=1) if self.largest >= GREATEST else 0.0
        # Light rows that together carry almost no weight go to `below`.
        held = np.flatnonzero(np.cumsum(share[:, 1:].sum(axis=0)) > 1e-4) + 1
        held = held[share[0, held] > 0]
        if not len(held):
            return WeightHistogram(np.array([0.5, 2.0]), np.zeros(1), np.zeros(1), float(self.rows > 0))
        octaves = (held[-1] - held[0]) / 128
        parts = next((parts for parts in _PARTS if parts * octaves <= most - 2), 1)
        number = np.arange((STEPS - 2) // 128 * parts + 1)
        steps_in = np.rint(128 * (2 ** (number % parts / parts) - 1)).astype(np.int64)
        cuts = 1 + 128 * (number // parts) + steps_in
        first = int(np.searchsorted(cuts, held[0], side="right")) - 1
        last = int(np.searchsorted(cuts, held[-1], side="right"))
        cuts = cuts[first : last + 1]
        rows, weight = (np.add.reduceat(np.append(part, 0.0), cuts)[:-1] for part in share)
        return WeightHistogram(lower_edges(cuts), rows, weight, float(share[0, : cuts[0]].sum()))

    def summary(self) -> WeightSummary:
        """The fields of `weights.Diagnostics` that depend on the weights alone."""
        return WeightSummary(
            round(self.rows),
            self.effective_sample_size,
            self.mean,
            self.mean_z,
            self.largest,
            self.top_share(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the summary, zeros, quantiles, tail and a coarse histogram."""
        shares = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999)
        return {
            **asdict(self.summary()),
            "zeros": round(self.zeros),
            "quantiles": {f"{share:g}": self.quantile(share) for share in shares},
            "tail": asdict(self.tail()),
            "histogram": self.coarse().to_dict(),
        }
