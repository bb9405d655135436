"""The terms w s and w (1 - s) of rows by time, as masses on the points of a fixed grid.

A `ConfidenceSequence` needs sums of log(1 + y / c) over rows, where c depends on the largest weight. That
weight is often known only at the end of a log. Sums for every possible c would not be smaller than this.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.diagnostics.log_grid import GREATEST, STEPS, lower_edges, steps


class TermPoints:
    """Numbers y >= 0 in T bins: each is split over the two grid points around it, so that its value is kept.

    A function of y that is summed over rows is thereby replaced by its chords between the points. Only points
    near a number take memory: about 128 for each factor of two that the numbers span.

    Attributes:
        points: [P] rising indices of grid steps; the points are their lower edges.
        mass: [T, P] how many rows are at each point; the sum is the number of rows.
    """

    def __init__(self, bins: int) -> None:
        self.points: Integers = np.zeros(0, dtype=np.int64)
        self.mass: Floats = np.zeros((bins, 0))

    def update(self, values: Floats, place: Integers) -> None:
        """Take in numbers [B] and their bins [B]. One above 2^40 counts as 2^40."""
        bins = len(self.mass)
        # Most rows have the value 0: they are only counted.
        held = np.flatnonzero(values)
        zeros = np.bincount(place, minlength=bins) - np.bincount(place[held], minlength=bins)
        self._add(np.zeros(1, dtype=np.int64), zeros[:, None].astype(np.float64))
        values, place = np.minimum(values[held], GREATEST), place[held]
        # The last step has no upper edge to go to; 2^40 itself is the upper one of the step before.
        step = np.minimum(steps(values), STEPS - 2)
        found = np.flatnonzero(np.bincount(step))
        points = np.union1d(found, found + 1)
        edges = lower_edges(points)
        rank = np.zeros(STEPS, dtype=np.int64)
        rank[points] = np.arange(len(points))
        lower = rank[step]
        widths = np.append(np.diff(edges), 1.0)
        upper = (values - edges[lower]) / widths[lower]
        cell, size = place * len(points) + lower, bins * len(points)
        above = np.bincount(cell, upper, size)
        below = np.bincount(cell, minlength=size).astype(np.float64) - above
        mass = below.reshape(bins, -1)
        mass[:, 1:] += above.reshape(bins, -1)[:, :-1]
        self._add(points, mass)

    def merge(self, other: Self) -> None:
        """Take in other rows, of the same bins."""
        self._add(other.points, other.mass)

    def _add(self, points: Integers, mass: Floats) -> None:
        if not np.isin(points, self.points, assume_unique=True).all():
            union = np.union1d(self.points, points)
            wider = np.zeros((len(self.mass), len(union)))
            wider[:, np.searchsorted(union, self.points)] = self.mass
            self.points, self.mass = union, wider
        self.mass[:, np.searchsorted(self.points, points)] += mass
