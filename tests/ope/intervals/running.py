"""A confidence sequence looked at while its log grows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.intervals.confidence_sequence import ConfidenceSequence


class Running(NamedTuple):
    """After so many rows, [P] each: the estimate, and the ends of the interval cut with those before."""

    rows: Integers
    value: Floats
    low: Floats
    high: Floats


def running_interval(
    weights: Floats,
    rewards: Floats,
    reward_range: tuple[float, float],
    largest_weight: float | None,
    confidence: float,
    points: int,
) -> Running:
    """At so many lengths of the log, at equal distances, at most."""
    sequence = ConfidenceSequence(reward_range, largest_weight)
    ends = np.unique(np.linspace(0, len(weights), points + 1).astype(np.int64))[1:]
    found = []
    for start, end in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
        sequence.update(weights[start:end], rewards[start:end], np.ones(end - start))
        interval = sequence.interval(confidence)
        found.append((sequence.value, interval.low, interval.high))
    value, low, high = np.array(found).T
    return Running(ends, value, np.maximum.accumulate(low), np.minimum.accumulate(high))
