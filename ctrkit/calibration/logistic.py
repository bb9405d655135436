"""Maximum likelihood for log-odds linear in one or two columns: what the parametric calibrators share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.calibration.base import CalibrationWarning, sigmoid
from ctrkit.calibration.kernels import sum_logistic

# The least change in log-odds over the spread of the fitted logits: keeps their order where the rows deny it.
LEAST_SLOPE = 1e-3
# Rows that are worked on at once: few enough that all of their numbers stay in the cache.
CHUNK = 8192
# From so many rows on, an eighth of them is fitted first, and all of them from that answer on.
MANY = 200_000
EIGHTH = 8
# From so many rows on, compiling a loop is worth its while.
WORTH_COMPILING = 20_000

PASSES = 100

Free = tuple[bool, ...]


class LogisticLine(NamedTuple):
    """log-odds = slope · logit + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Design:
    """What the log-odds are linear in: K - 1 columns, each scaled and shifted on the way, and the constant 1.

    Attributes:
        columns: K - 1 arrays [N].
        scale, shift: column k enters as scale[k] · column - shift[k].
    """

    columns: tuple[Floats, ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def chunks(self) -> Iterator[tuple[slice, Floats]]:
        """Rows chunk by chunk with their design [K, chunk]; the array is used again for the next chunk."""
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

    Two cases have no maximum, and are warned of (`CalibrationWarning`):

    - Rows that the logit separates perfectly would take an infinite slope. They are fitted to Platt's (1999)
      smoothed targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) instead of 1 and 0.
    - Where the best slope is not above 0, higher logits do not mean more positives. The slope is held at
      the least one that keeps the order.
    """
    # Centred and scaled, so that neither large nor far-off logits cost precision.
    largest = largest_size(z)
    unit = 1.0 if 1e-100 < largest < 1e100 else largest  # squares of extreme floats overflow or vanish
    centre, spread = moments(z if unit == 1 else z / unit, w, about_zero=not with_intercept)
    constant = spread <= 1e-12 * largest / unit
    if constant and with_intercept:
        # One logit for all rows tells nothing of the slope: shift it to the base rate.
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
    """Say that the rows deny the order of the logits."""
    warnings.warn(
        f"{name}: higher logits do not go with more positives (fitted slope {slope:.3g}); to keep the order, "
        "the slope is held just above 0",
        CalibrationWarning,
        stacklevel=stacklevel,
    )


def line_probabilities(line: LogisticLine, z: Floats) -> Floats:
    """σ(slope · z + intercept); beyond the largest float it is 0 or 1."""
    with np.errstate(over="ignore"):
        return sigmoid(line.slope * z + line.intercept)


def largest_size(z: Floats) -> float:
    """The largest |z|, and 1 where all are 0."""
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
    """The labels; Platt's smoothed targets, with a warning, where the logit separates the rows perfectly."""
    # Where some of the rows are not separated, all of them are not: that is soon seen.
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
    """If a threshold (0, without an intercept) has the positives on one side, negatives on the other."""
    if with_intercept:
        positive, negative = z[y == 1], z[y == 0]
        if not (positive.size and negative.size):
            return True
        return bool(positive.min() >= negative.max() or positive.max() <= negative.min())
    signed = np.where(y == 1, z, -z)
    return bool((signed >= 0).all() or (signed <= 0).all())


def maximum_likelihood(design: Design, target: Floats, w: Floats, free: Free) -> Floats:
    """The β [K] of the least loss, those that are not free being 0; many rows are begun with few of them."""
    zero = np.zeros(len(free))
    if len(w) < MANY:
        return newton(design, target, w, zero, free)
    few = eighth(target)
    start = maximum_likelihood(design.eighth(), few, eighth(w), free) if few.min() < few.max() else zero
    # The answer of an eighth lies within some standard errors of that of all: of the two or three steps from
    # there, none needs to be sure of more than 1e-9.
    return newton(design, target, w, start, free, tolerance=1e-10, else_from_zero=True)


def eighth(column: Floats) -> Floats:
    """Of eight runs of 1,024 rows the first, in one piece: from all over the rows, yet quick to read."""
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
    """The β [K] that minimises `sums(...).loss`, from `start` on and over its free parts.

    Newton's method with step halving: the loss is convex, so it converges from anywhere that the loss has
    a minimum.

    Args:
        target: in [0, 1], [N].
        w: [N].
        precision: of a normal prior, [K, K]: adds ½ (β - centre)ᵀ precision (β - centre) to the loss.
        centre: of that prior, [K]; `start` by default.
        tolerance: the step is the last from which no more than this share of the loss is to be gained.
        else_from_zero: begin with 0 where `start` is worse.
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
        # A touch on the diagonal where all probabilities are saturated; it does not move the minimum.
        hessian[np.diag_indices_from(hessian)] += 1e-12 * mass
        step = np.zeros_like(beta)
        step[chosen] = np.linalg.solve(hessian, current.gradient[chosen])
        # Twice the loss that is still to gain. As convergence is quadratic, the step squares what is left of
        # it: so this one is the last.
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
