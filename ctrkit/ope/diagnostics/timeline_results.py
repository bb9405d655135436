"""What a `Timeline` gives: running estimates, estimates by period, and tests of drift."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimate

_ROUNDING = 1e-9


@dataclass(frozen=True)
class RunningEstimate:
    """An estimate from all rows so far, at the end of each of P time bins that have rows.

    The bounds hold at all times together, with the confidence asked for. Each is intersected with the earlier
    ones, so they never move apart.

    Attributes:
        time: [P] the ends of the bins, in unix seconds.
        rows: [P] the number of rows so far.
        value: [P] mean(w r) of the rows so far.
        low: [P] lower bounds; -inf before enough rows are read.
        high: [P] upper bounds; inf before enough rows are read.
        method: the method of the bounds.
        broken: whether a lower bound is above an upper one, because an assumption is wrong.
    """

    time: Floats
    rows: Floats
    value: Floats
    low: Floats
    high: Floats
    method: str
    broken: bool

    @property
    def left(self) -> bool:
        """Whether the last estimate is outside the bounds."""
        if self.broken or not len(self.value):
            return self.broken
        return not self.low[-1] - _ROUNDING <= self.value[-1] <= self.high[-1] + _ROUNDING


@dataclass(frozen=True)
class Period:
    """Estimates from the rows of one period alone.

    Attributes:
        start: the start of the period, in unix seconds.
        end: its end, in unix seconds.
        rows: the number of its rows, or of the decisions that they stand for.
        mean_weight: the mean weight of its rows.
        standard_error: the standard error of the mean weight.
        policy: the policy's value by IPS; NaN with fewer than two rows.
        logging: the logging policy's value, the mean reward; NaN with fewer than two rows.
    """

    start: float
    end: float
    rows: float
    mean_weight: float
    standard_error: float
    policy: Estimate
    logging: Estimate


@dataclass(frozen=True)
class MeanDrift:
    """Whether a mean is the same in all periods.

    Attributes:
        least: the smallest mean of a period.
        most: the largest mean of a period.
        p_value: p-value of equal expectations, with the rows of a user taken together (see
            `equal_means_test`); NaN for a single period.
    """

    least: float
    most: float
    p_value: float


@dataclass(frozen=True)
class TimelineResult:
    """The results of a `Timeline`."""

    policy: RunningEstimate
    logging: RunningEstimate
    periods: tuple[Period, ...]
    weight_drift: MeanDrift
    reward_drift: MeanDrift

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        for name in ("policy", "logging"):
            plain[name] = {
                key: value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in plain[name].items()
            }
        return plain
