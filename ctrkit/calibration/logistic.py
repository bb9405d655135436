"""Maximum likelihood for log-odds that are linear in one or two columns, for the parametric calibrators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import CalibrationWarning, sigmoid
from ctrkit.calibration.kernels import sum_logistic

# The least change in log-odds over the spread of the fitted logits. It keeps their order even if the rows
# contradict it.
LEAST_SLOPE = 1e-3
# Rows processed at once: few enough that all their numbers stay in the cache.
CHUNK = 8192
# From this many rows on, an eighth of them is fitted first; the fit of all rows starts from its result.
MANY = 200_000
EIGHTH = 8
# From this many rows on, compiling a loop is worth the time.
WORTH_COMPILING = 20_000

PASSES = 100

Free = tuple[bool, ...]


class LogisticLine(NamedTuple):
    """log-odds = slope · logit + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Design:
    """The terms of the log-odds: K - 1 columns, each scaled and shifted, and the constant 1.

    Attributes:
        columns: K - 1 arrays [N].
        scale: the scale of each column, which enters as scale[k] · column - shift[k].
        shift: the shift of each column.
    """

    columns: tuple[Floats, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def chunks(self) -> Iterator[tuple[slice, Floats]]:
        """Rows chunk by chunk with their design [K, chunk]; the next chunk overwrites the array."""
        rows = len(self.columns[0])
        space = np.ones((len(self.columns) + 1, CHUNK))
        for start in range(0, rows, CHUNK):
            part = slice(start, min(start + CHUNK, rows))
            filled = space[:, : part.stop - start]
            for k, column in enumerate(self.columns):
                np.multiply(column[part], self.scale[k], out=filled[k])
                filled[k] -= self.shift[k]
            yield part, filled

    def eighth(self) -> Design:
        """An eighth of the rows."""
        return Design(tuple(eighth(column) for column in self.columns), self.scale, self.shift)


class LossSums(NamedTuple):
    """The loss Σ w · (log(1 + e^t) - target · t) at log-odds t, its gradient [K] and Hessian [K, K]."""

    loss: float
    gradient: Floats
    hessian: Floats


def fit_line(z: Floats, y: Floats, w: Floats, *, name: str, with_intercept: bool) -> LogisticLine:
    """Maximum likelihood over slope > 0, without regularisation.

    Two cases have no maximum, and give a `CalibrationWarning`:

    - If the logit separates the rows perfectly, the slope would be infinite. The rows are then fitted to
      Platt's (1999) smoothed targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) instead of 1 and 0.
    - If the best slope is not above 0, higher logits do not mean more positives. The slope is then the
      smallest one that keeps the order.
    """
    # Logits are centred and scaled, so that neither large nor distant logits cost precision.
    largest = largest_size(z)
    unit = 1.0 if 1e-100 < largest < 1e100 else largest  # squares of extreme floats overflow or vanish
    centre, spread = moments(z if unit == 1 else z / unit, w, about_zero=not with_intercept)
    constant = spread <= 1e-12 * largest / unit
    if constant and with_intercept:
        # If all rows have one logit, the slope is unknown: shift the logit to the base rate.
        rate = float(np.average(y, weights=w))
        return LogisticLine(1.0, float(np.log(rate / (1 - rate)) - np.average(z, weights=w)))
    if constant:
        return LogisticLine(1.0, 0.0)
    target = smoothed_where_separated(z, y, w, name=name, with_intercept=with_intercept, stacklevel=5)
    design = Design((z,), (1 / spread / unit,), (centre / spread,))
    beta = maximum_likelihood(design, target, w, (True, with_intercept))
    if beta[0] < LEAST_SLOPE:
        warn_backwards(name, float(beta[0]) / spread / unit, stacklevel=5)
        start = np.array([LEAST_SLOPE, 0.0])
        beta = newton(design, target, w, start, (False, True)) if with_intercept else start
    slope = float(beta[0]) / spread
    return LogisticLine(slope / unit, float(beta[1]) - slope * centre if with_intercept else 0.0)


def warn_backwards(name: str, slope: float, *, stacklevel: int = 4) -> None:
    """Warn that the rows contradict the order of the logits."""
    warnings.warn(
        f"{name}: higher logits do not go with more positives (fitted slope {slope:.3g}); to keep the order, "
        "the slope is held just above 0",
        CalibrationWarning,
        stacklevel=stacklevel,
    )


def line_probabilities(line: LogisticLine, z: Floats) -> Floats:
    """σ(slope · z + intercept); if the log-odds overflow, it is 0 or 1."""
    with np.errstate(over="ignore"):
        return sigmoid(line.slope * z + line.intercept)


def largest_size(z: Floats) -> float:
    """The largest |z|, or 1 if all are 0."""
    return float(max(z.max(), -z.min())) or 1.0


def moments(z: Floats, w: Floats, *, about_zero: bool = False) -> tuple[float, float]:
    """Weighted mean and standard deviation; about zero, the mean is taken as 0."""
    parts = [slice(start, start + CHUNK) for start in range(0, len(z), CHUNK)]
    total = sum(float(w[part].sum()) for part in parts)
    mean = 0.0 if about_zero else sum(float(w[part] @ z[part]) for part in parts) / total
    variance = sum(float(w[part] @ np.square(z[part] - mean)) for part in parts) / total
    return mean, float(np.sqrt(variance))


def smoothed_where_separated(
    z: Floats, y: Floats, w: Floats, *, name: str, with_intercept: bool, stacklevel: int = 4
) -> Floats:
    """The labels; or, with a warning, Platt's smoothed targets if the logit separates the rows perfectly."""
    # If the first rows are not separated, all rows are not, which is fast to check.
    first = slice(0, CHUNK)
    if not (_separated(z[first], y[first], with_intercept) and _separated(z, y, with_intercept)):
        return y
    warnings.warn(
        f"{name}: the logit separates the {len(y):,} rows perfectly, so the best slope is infinite; "
        "fitted to Platt's smoothed targets instead",
        CalibrationWarning,
        stacklevel=stacklevel,
    )
    positives, negatives = float(w @ y), float(w @ (1 - y))
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _separated(z: Floats, y: Floats, with_intercept: bool) -> bool:
    """Whether a threshold (0 without an intercept) separates the positives from the negatives."""
    if with_intercept:
        positive, negative = z[y == 1], z[y == 0]
        if not (positive.size and negative.size):
            return True
        return bool(positive.min() >= negative.max() or positive.max() <= negative.min())
    signed = np.where(y == 1, z, -z)
    return bool((signed >= 0).all() or (signed <= 0).all())


def maximum_likelihood(design: Design, target: Floats, w: Floats, free: Free) -> Floats:
    """The β [K] with the smallest loss, where coefficients that are not free are 0.

    With many rows, a fit of some of them gives the starting point.
    """
    zero = np.zeros(len(free))
    if len(w) < MANY:
        return newton(design, target, w, zero, free)
    few = eighth(target)
    start = maximum_likelihood(design.eighth(), few, eighth(w), free) if few.min() < few.max() else zero
    # The result of an eighth is within a few standard errors of the final one, so that a tolerance of 1e-10
    # ends the search after two or three steps.
    return newton(design, target, w, start, free, tolerance=1e-10, else_from_zero=True)


def eighth(column: Floats) -> Floats:
    """Every eighth run of 1,024 rows, in one array: rows from everywhere, yet fast to read."""
    run = 1024
    whole = column[: len(column) // (EIGHTH * run) * (EIGHTH * run)]
    return np.ascontiguousarray(whole.reshape(-1, EIGHTH, run)[:, 0]).reshape(-1)


def newton(
    design: Design,
    target: Floats,
    w: Floats,
    start: Floats,
    free: Free,
    *,
    precision: Floats | None = None,
    centre: Floats | None = None,
    tolerance: float = 1e-12,
    else_from_zero: bool = False,
) -> Floats:
    """The β [K] that minimises `sums(...).loss` over its free coefficients.

    It uses Newton's method with step halving. The loss is convex, so this converges if there is a minimum.

    Args:
        design: the terms of the log-odds.
        target: the targets, in [0, 1], [N].
        w: the weight of each row, [N].
        start: the first β, [K].
        free: whether each coefficient may change, [K].
        precision: the precision of a normal prior, [K, K]; adds ½ (β - centre)ᵀ precision (β - centre) to the
            loss.
        centre: the centre of this prior, [K]; by default `start`.
        tolerance: the search ends with the step that gains no more than this share of the loss.
        else_from_zero: whether to start from 0 if `start` is worse than 0.
    """
    chosen = np.flatnonzero(free)
    beta = np.array(start, dtype=np.float64)
    if not chosen.size:
        return beta
    block = np.ix_(chosen, chosen)
    mass = float(w.sum())
    middle = start if centre is None else centre

    def at(point: Floats) -> LossSums:
        found = sums(design, target, w, point)
        if precision is None:
            return found
        pull = precision @ (point - middle)
        loss = found.loss + 0.5 * float(pull @ (point - middle))
        return LossSums(loss, found.gradient + pull, found.hessian + precision)

    current = at(beta)
    if else_from_zero and not current.loss <= np.log(2) * mass:
        beta = np.zeros_like(beta)
        current = at(beta)
    for _ in range(PASSES):
        hessian = current.hessian[block]
        # A small number on the diagonal, for saturated probabilities; it does not move the minimum.
        hessian[np.diag_indices_from(hessian)] += 1e-12 * mass
        step = np.zeros_like(beta)
        step[chosen] = np.linalg.solve(hessian, current.gradient[chosen])
        # This is twice the loss that is still to gain. Convergence is quadratic: if the gain is this small,
        # the next step is the last.
        if float(current.gradient @ step) <= tolerance * current.loss:
            return beta - step
        size = 1.0
        while (tried := at(beta - size * step)).loss > current.loss and size > 1e-10:
            size /= 2
        if tried.loss > current.loss:
            break
        beta, current = beta - size * step, tried
    return beta


def sums(design: Design, target: Floats, w: Floats, beta: Floats) -> LossSums:
    """Loss, gradient and Hessian at β in one pass over the rows."""
    size = len(beta)
    if size == 2 and len(target) >= WORTH_COMPILING:
        found = np.zeros(6)
        slope, intercept = float(beta[0]), float(beta[1])
        sum_logistic(design.columns[0], target, w, design.scale[0], design.shift[0], slope, intercept, found)
        total, d1, d0, v2, v1, v0 = found
        return LossSums(float(total), np.array([d1, d0]), np.array([[v2, v1], [v1, v0]]))
    loss, gradient, hessian = 0.0, np.zeros(size), np.zeros((size, size))
    for part, x in design.chunks():
        t, y, mass = beta @ x, target[part], w[part]
        fallen = np.exp(-np.abs(t))
        one_more = 1.0 + fallen
        p = np.where(t >= 0, 1.0, fallen) / one_more
        loss += float(mass @ (np.maximum(t, 0.0) - y * t + np.log(one_more)))
        gradient += x @ (mass * (p - y))
        hessian += (x * (mass * fallen / np.square(one_more))) @ x.T
    return LossSums(loss, gradient, hessian)
