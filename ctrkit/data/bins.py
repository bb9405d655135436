"""Bins of numeric features, learned from training rows, between which networks interpolate."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ctrkit.arrays import Floats

# The largest number of bins of a feature.
MOST_BINS = 32
# A bin has at least this many rows: a few clicks at the rates of ads.
LEAST_ROWS = 250
# Edges that are closer than this, relative to their size, are one: numbers have single precision.
_CLOSE = 1e-6


@dataclass(frozen=True)
class Bins:
    """The edges of a feature's bins, as scaled numbers, and where the training rows lie between them.

    A number v has the encoding c_j(v) = clip((v - edge_j) / (edge_j+1 - edge_j), 0, 1), [K]: the part of
    each bin that lies below v. Sums of these are all continuous functions that are linear in every bin, and
    constant beyond the outermost edges.

    Source: the piecewise linear encoding of "On Embeddings for Numerical Features in Tabular Deep Learning"
    (Gorishniy et al., NeurIPS 2022), which is not constant beyond the edges.

    Attributes:
        edges: K + 1 rising numbers; none if the feature has too few distinct values or rows for two bins.
        means: K means of the encoding over the training rows.
    """

    edges: tuple[float, ...] = ()
    means: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        sizes = len(self.edges) == len(self.means) + bool(self.edges)
        rising = bool((np.diff(self.edges) > 0).all()) and bool(np.isfinite(self.edges).all())
        if not (sizes and rising and all(0 <= mean <= 1 for mean in self.means)):
            raise ValueError(f"edges {self.edges} with means {self.means} are no bins")

    @classmethod
    def fit(cls, numbers: Floats, weight: Floats) -> Bins:
        """The bins of some numbers: edges are at quantiles.

        There are at most `MOST_BINS` bins, and one for each `LEAST_ROWS` rows. Quantiles that are equal give
        one edge. A single bin would only repeat the linear part of an embedding, so two are the fewest.

        Args:
            numbers: scaled numbers of the training rows, none missing, [n].
            weight: positive weights of these rows, [n].
        """
        count = min(MOST_BINS, numbers.size // LEAST_ROWS)
        if count < 2:
            return cls()
        levels = np.linspace(0.0, 1.0, count + 1)
        quantiles = np.quantile(numbers, levels, weights=weight, method="inverted_cdf")
        edges: list[float] = []
        for edge in quantiles.tolist():
            if not edges or edge - edges[-1] > _CLOSE * max(1.0, abs(edge)):
                edges.append(edge)
        if len(edges) < 3:
            return cls()
        means = [
            float(np.average(np.clip((numbers - low) / (high - low), 0.0, 1.0), weights=weight))
            for low, high in pairwise(edges)
        ]
        return cls(tuple(edges), tuple(np.clip(means, 0.0, 1.0).tolist()))

    def coarser(self, most: int) -> Bins:
        """At most so many bins, with some of these edges, evenly chosen.

        The encoding of a wider bin is the mean of those of its parts, weighted by their widths.
        """
        if len(self.means) <= most:
            return self
        if most < 2:
            return Bins()
        chosen = np.round(np.linspace(0, len(self.means), most + 1)).astype(int)
        widths = np.diff(self.edges)
        sums = np.add.reduceat(widths * self.means, chosen[:-1]) / np.add.reduceat(widths, chosen[:-1])
        edges = tuple(self.edges[place] for place in chosen)
        return Bins(edges, tuple(np.clip(sums, 0.0, 1.0).tolist()))
