"""The terms w s and w (1 - s) of rows by time, told by their nearness to the points of a fixed grid.

All that a `ConfidenceSequence` asks of rows are sums of log(1 + y / c), where c depends on the largest
weight. That is often known only when a log has been read to its end, and to keep the sums for every one that
it may turn out to be would be no smaller than this.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.ope.diagnostics.log_grid import GREATEST, STEPS, lower_edges, steps


class TermPoints:
    """Numbers y >= 0 in T bins: each stands at the two grid points around it, in parts that keep its value.

    So every function of y that is summed over rows is replaced by its chords between the points. Only points
    near which there are numbers take room: some 128 for each factor of two that they span.

    Attributes:
        points: [P] the numbers of the grid's steps whose lower edges the points are, rising.
        mass: [T, P] how many rows stand at each; its sum is the number of rows.
    """

    def __init__(self, bins: int) -> None:
        self.points: Integers = np.zeros(0, dtype=np.int64)
        self.mass: Floats = np.zeros((bins, 0))

    def update(self, values: Floats, place: Integers) -> None:
        """Take in numbers [B] and their bins [B]. One above 2^40 counts as 2^40."""
        bins = len(self.mass)
        # Most rows earn nothing: their zeros are counted and not placed.
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
