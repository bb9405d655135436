"""Logistic regression whose penalties follow from the data: a Gaussian prior for each group of weights.

The weights w_g of group g have the prior N(0, τ_g²). The most probable weights are found by Newton's method,
and the variances τ_g² by MacKay's fixed point: with γ_g = Σ_j (1 - v_j / τ_g²), the number of weights that
the data determine, τ_g² = Σ_j w_j² / γ_g. v_j is the posterior variance of a weight, from the diagonal of the
curvature. A group without evidence gets a variance near 0, and its weights vanish.

MacKay, "Bayesian Interpolation", Neural Computation 1992, and "The Evidence Framework Applied to
Classification Networks", 1992; Tipping, "Sparse Bayesian Learning and the Relevance Vector Machine",
JMLR 2001.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.arrays import Floats, Integers
from ctrkit.compiled import kernel

# The fixed point moves the variances by a few per cent after this number of rounds.
ROUNDS, _NEWTON_STEPS, _CONJUGATE_STEPS = 8, 3, 15
_ENOUGH = 1e-3  # a Newton step that changes no weight by more than this is the last of its round
_SHORTEST = 1e-3
_FADING, _FADING_STEPS = 0.3, 10
# A weight of more than two standard deviations, 4, multiplies the odds by 55.
_LEAST_VARIANCE, _FIRST_VARIANCE, _MOST_VARIANCE = 1e-8, 0.1, 4.0


@dataclass(frozen=True)
class LinearColumns:
    """Features of n rows.

    Attributes:
        cells: the columns that are 1 in a row: positions among W weights, int32 `[n, C]`.
        numbers: numbers, float32 `[n, J]`.
        groups: group of each of the W + J weights.
        amounts: by how much the last A columns of cells count in place of 1, float32 `[n, A]`.
    """

    cells: NDArray[np.int32]
    numbers: NDArray[np.float32]
    groups: Integers
    amounts: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))

    def __post_init__(self) -> None:
        if not self.amounts.shape[1]:
            object.__setattr__(self, "amounts", np.empty((len(self.cells), 0), dtype=np.float32))
        if self.amounts.shape[1] > self.cells.shape[1]:
            raise ValueError("there are more amounts than cells")

    def of(self, rows: Integers) -> LinearColumns:
        """The features of some rows."""
        return LinearColumns(self.cells[rows], self.numbers[rows], self.groups, self.amounts[rows])

    def counts(self, column: int) -> Floats | float:
        """By how much a column of cells counts."""
        place = column - self.cells.shape[1] + self.amounts.shape[1]
        return 1.0 if place < 0 else self.amounts[:, place].astype(np.float64)

    def margins(self, weights: Floats, z: Floats) -> None:
        """z = X weights, into z; the last weight is that of the constant column."""
        _margins(self.cells, self.amounts, self.numbers, weights, z)

    def used(self) -> tuple[LinearColumns, Integers]:
        """The same features without weights of cells that no row has, and the positions of those left.

        Raises:
            IndexError: a cell lies outside the weights.
        """
        size = self.groups.size - self.numbers.shape[1]
        if self.cells.size and not 0 <= self.cells.min() <= self.cells.max() < size:
            raise IndexError("a cell lies outside the weights")
        seen = np.arange(self.groups.size) >= size
        seen[self.cells] = True
        places = (seen.cumsum() - 1).astype(np.int32)
        cells = places[self.cells]
        return LinearColumns(cells, self.numbers, self.groups[seen], self.amounts), np.flatnonzero(seen)


@dataclass(frozen=True)
class EvidenceFit:
    """Fitted weights.

    Attributes:
        weights: `[W + J]`.
        bias: the constant, without a prior.
        variances: prior variance of each group, `[G]`.
        margins: logit of each row, `[n]`.
    """

    weights: Floats
    bias: float
    variances: Floats
    margins: Floats


def fit_by_evidence(
    columns: LinearColumns,
    labels: Floats,
    row_weight: Floats,
    *,
    counted: bool = False,
    rounds: int = ROUNDS,
) -> EvidenceFit:
    """The most probable weights under the prior that the data make most probable.

    Args:
        columns: the features.
        labels: 0 or 1, `[n]`.
        row_weight: weight of each row, `[n]` (see `honest`).
        counted: whether a weight is the number of impressions that a row stands for.
        rounds: number of updates of the variances.
    """
    count, every = int(columns.groups.max(initial=0)) + 1, columns.groups.size
    columns, used = columns.used()
    groups = columns.groups
    weights = np.zeros(groups.size + 1)  # the last one is the bias
    mass = row_weight if counted else honest(row_weight, labels)
    rate = (mass @ labels + 0.5) / (mass.sum() + 1.0)
    weights[-1] = np.log(rate / (1.0 - rate))
    variances = np.full(count, _FIRST_VARIANCE)
    z, change = np.empty(labels.size), np.empty(labels.size)
    for _ in range(rounds):
        precision = np.append(1.0 / variances[groups], 0.0)
        for _ in range(_NEWTON_STEPS):
            columns.margins(weights, z)
            p = expit(z)
            curvature = mass * p * (1.0 - p)
            slope = _sums(columns, mass * (labels - p)) - precision * weights
            information = _sums(columns, curvature, squared=True)
            step = _newton_step(columns, curvature, slope, precision, information + precision)
            columns.margins(step, change)
            step *= _length(z, change, weights, step, labels, mass, precision)
            weights += step
            if np.abs(step).max() < _ENOUGH:
                break
        posterior = 1.0 / (information + precision)[:-1]
        determined = np.bincount(groups, 1.0 - posterior * precision[:-1], count)
        power = np.bincount(groups, weights[:-1] ** 2, count)
        variances = np.clip(power / np.maximum(determined, 1e-9), _LEAST_VARIANCE, _MOST_VARIANCE)
    columns.margins(weights, z)
    found = np.zeros(every)
    found[used] = weights[:-1]
    return EvidenceFit(found, float(weights[-1]), variances, z)


def honest(row_weight: Floats, labels: Floats) -> Floats:
    """Weights of rows, on the scale where they claim as much evidence as the rows have.

    The sum of w (y - p) has the information Σ w p (1 - p) by the likelihood, and the variance
    Σ w² (y - p)². Both are equal for weights of 1, at the mean rate p; other weights are scaled until they
    are, as heavy rows beside light ones say less than their number.

    Source: the scale of quasi-likelihood, Wedderburn, Biometrika 1974; White, Econometrica 1982.

    Args:
        row_weight: positive weights, `[n]`, of any scale.
        labels: 0 or 1, `[n]`. If all are of one kind, the mean residual of a row is taken to be the same.
    """
    rate = float(row_weight @ labels / row_weight.sum())
    information, variance = rate * (1.0 - rate), (labels - rate) ** 2
    if information == 0.0:
        information, variance = 1.0, np.ones_like(labels)
    return row_weight * (information * float(row_weight.sum()) / float(row_weight**2 @ variance))


def faded(
    found: EvidenceFit, later: LinearColumns, labels: Floats, row_weight: Floats, *, counted: bool = False
) -> EvidenceFit:
    """The fit with each group's weights times a factor, the most probable one on later rows.

    The factors have the prior N(1, 0.3²) and lie between 0 and 1; the bias is fitted again. So what held only
    in the rows of the fit, such as the success of ads that have become old, counts less.

    Args:
        found: the fit.
        later: the same features of other rows.
        labels: 0 or 1, `[n]`.
        row_weight: weight of each row, `[n]`.
        counted: whether a weight is the number of impressions that a row stands for.
    """
    count = found.variances.size
    if np.unique(labels[row_weight > 0.0]).size < 2:
        return found
    size = later.groups.size - later.numbers.shape[1]
    parts = np.zeros((labels.size, count + 1))
    rows = np.arange(labels.size)
    for column in range(later.cells.shape[1]):
        cells = later.cells[:, column]
        parts[rows, later.groups[cells]] += found.weights[cells] * later.counts(column)
    for column, group in enumerate(later.groups[size:]):
        parts[:, group] += found.weights[size + column] * later.numbers[:, column]
    parts[:, count] = 1.0
    mass = row_weight if counted else honest(row_weight, labels)
    factors = np.append(np.ones(count), found.bias)
    precision = np.append(np.full(count, 1.0 / _FADING**2), 0.0)
    for _ in range(_FADING_STEPS):
        p = expit(parts @ factors)
        slope = parts.T @ (mass * (labels - p)) - precision * (factors - np.append(np.ones(count), 0.0))
        curvature = (parts * (mass * p * (1.0 - p))[:, None]).T @ parts + np.diag(precision)
        # A factor at an end of its range stays there if it would leave it; the bias is always free.
        held = np.where(slope < 0.0, factors <= 0.0, factors >= 1.0) & (np.arange(count + 1) < count)
        free = np.flatnonzero(~held)
        factors[free] += np.linalg.solve(
            curvature[np.ix_(free, free)] + 1e-9 * np.eye(free.size), slope[free]
        )
        factors[:count] = np.clip(factors[:count], 0.0, 1.0)
    return replace(found, weights=found.weights * factors[later.groups], bias=float(factors[count]))


def _newton_step(
    columns: LinearColumns, curvature: Floats, slope: Floats, precision: Floats, diagonal: Floats
) -> Floats:
    """The solution x of (Xᵀ diag(curvature) X + precision) x = slope, by conjugate gradients."""
    step, residual = np.zeros_like(slope), slope.copy()
    scaled = residual / diagonal
    direction, left = scaled.copy(), float(residual @ scaled)
    first, image = left, np.empty(curvature.size)
    for _ in range(_CONJUGATE_STEPS if first > 0.0 else 0):
        columns.margins(direction, image)
        product = _sums(columns, curvature * image) + precision * direction
        size = left / float(direction @ product)
        step += size * direction
        residual -= size * product
        scaled = residual / diagonal
        before, left = left, float(residual @ scaled)
        if left < 1e-4 * first:
            break
        direction = scaled + left / before * direction
    return step


def _length(
    z: Floats, change: Floats, weights: Floats, step: Floats, labels: Floats, mass: Floats, precision: Floats
) -> float:
    """The part of a Newton step that makes the weights more probable: 1, or halved until it does."""

    def cost(length: float) -> float:
        margins, moved = z + length * change, weights + length * step
        return float(mass @ (np.logaddexp(0.0, margins) - labels * margins) + moved**2 @ precision / 2.0)

    now, length = cost(0.0), 1.0
    while cost(length) > now and length > _SHORTEST:
        length /= 2.0
    return length


def _sums(columns: LinearColumns, values: Floats, *, squared: bool = False) -> Floats:
    """Xᵀ values, or (X²)ᵀ values, with the constant column last."""
    sums = np.zeros(columns.groups.size + 1)
    _add_products(columns.cells, columns.amounts, columns.numbers, values, squared, sums)
    return sums


@kernel(
    "void(i4[:,::1], f4[:,::1], f4[:,::1], f8[::1], f8[::1])",
    "cells: N C; amounts: N A; numbers: N J; weights: W; z: N",
)
def _margins(
    cells: NDArray[np.int32],
    amounts: NDArray[np.float32],
    numbers: NDArray[np.float32],
    weights: Floats,
    z: Floats,
) -> None:
    """z = X weights. The constant column is last, after those of the numbers."""
    size, first = weights.shape[0], weights.shape[0] - 1 - numbers.shape[1]
    once = cells.shape[1] - amounts.shape[1]
    for row in range(cells.shape[0]):
        total = weights[size - 1]
        for column in range(once):
            total += weights[cells[row, column]]
        for column in range(amounts.shape[1]):
            total += weights[cells[row, once + column]] * amounts[row, column]
        for column in range(numbers.shape[1]):
            total += weights[first + column] * numbers[row, column]
        z[row] = total


@kernel(
    "void(i4[:,::1], f4[:,::1], f4[:,::1], f8[::1], b1, f8[::1])",
    "cells: N C; amounts: N A; numbers: N J; values: N; sums: W",
)
def _add_products(
    cells: NDArray[np.int32],
    amounts: NDArray[np.float32],
    numbers: NDArray[np.float32],
    values: Floats,
    squared: bool,
    sums: Floats,
) -> None:
    """Add Xᵀ values, or (X²)ᵀ values: the diagonal of Xᵀ diag(values) X."""
    size, first = sums.shape[0], sums.shape[0] - 1 - numbers.shape[1]
    once = cells.shape[1] - amounts.shape[1]
    for row in range(cells.shape[0]):
        value = values[row]
        sums[size - 1] += value
        for column in range(once):
            sums[cells[row, column]] += value
        for column in range(amounts.shape[1]):
            amount = amounts[row, column]
            product = value * amount
            sums[cells[row, once + column]] += product * amount if squared else product
        for column in range(numbers.shape[1]):
            number = numbers[row, column]
            product = value * number
            sums[first + column] += product * number if squared else product
