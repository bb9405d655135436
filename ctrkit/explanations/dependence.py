"""Partial dependence of a probability on a feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import DataError
from ctrkit.explanations.features import Names, column, position_of, take, with_field
from ctrkit.explanations.permutation import Probabilities
from ctrkit.models import Scorer
from ctrkit.training import predict


@dataclass(frozen=True)
class Dependence:
    """The calibrated probability as a function of one feature, for G values and R rows.

    Attributes:
        feature: the feature's name.
        values: values of a numeric feature in the table's units, rising; or of a categorical feature as text,
            the most frequent first.
        share: the share of rows with each value, `[G]`; None for a numeric feature.
        curves: the probability of each row with each value in place of its own, `[R, G]`.
    """

    feature: str
    values: tuple[float, ...] | tuple[str, ...]
    share: Floats | None
    curves: Floats

    @property
    def mean(self) -> Floats:
        """The partial dependence: the mean over rows, `[G]`."""
        means: Floats = self.curves.mean(axis=0)
        return means

    def quantile(self, level: float) -> Floats:
        """A quantile of the single rows' probabilities, `[G]`."""
        return np.asarray(np.quantile(self.curves, level, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data: the mean and the spread, without the single curves."""
        return {
            "feature": self.feature,
            "rows": len(self.curves),
            "values": list(self.values),
            "share": None if self.share is None else self.share.tolist(),
            "mean": self.mean.tolist(),
            "low": self.quantile(0.1).tolist(),
            "high": self.quantile(0.9).tolist(),
        }


def partial_dependence(
    network: Scorer,
    data: EncodedTable,
    probabilities: Probabilities,
    names: Names,
    feature: str,
    *,
    rows: Integers | None = None,
    grid: int = 20,
) -> Dependence:
    """Partial dependence of the probability on a feature, and the curves of single rows behind it.

    Sources: "Greedy Function Approximation: A Gradient Boosting Machine" (Friedman, Annals of Statistics
    2001) and "Peeking Inside the Black Box" (Goldstein et al., 2015). Every row gets every value of the grid
    in turn. Combinations that never occur (a category of one shop with the price of another) count as much as
    others: the curve shows how the model behaves, not how the world does.

    Args:
        network: the network.
        data: the rows that the grid comes from: a number's quantiles from 5 to 95 %, or the most frequent
            ids.
        probabilities: gives calibrated probabilities of logits.
        names: the names of encoded values.
        feature: the feature's name.
        rows: the positions of the rows whose curves are computed, `[R]`; by default all rows.
        grid: the largest number of values, G.

    Raises:
        DataError: the model has no such feature, it is a history, or its number is missing in all rows.
    """
    position = position_of(network.feature_map, feature)
    encoded = column(data, position)
    share = None
    values: tuple[float, ...] | tuple[str, ...]
    if position < data.categorical.shape[1]:
        ids, counts = np.unique(encoded, return_counts=True)
        frequent = np.argsort(-counts, kind="stable")[:grid]
        places = ids[frequent].astype(np.float64)
        share = counts[frequent] / len(data)
        values = tuple(names.field(position, value) for value in places)
    else:
        levels = np.linspace(0.05, 0.95, grid)
        present = encoded[~np.isnan(encoded)]
        if not present.size:
            raise DataError(
                f"no row has a number of the feature '{feature}'", hint="Give rows that have some"
            )
        places = np.unique(np.quantile(present, levels, method="nearest")).astype(np.float64)
        values = tuple(names.number(feature, value) for value in places)
    followed = data if rows is None else take(data, rows)
    curves = []
    for value in places:
        changed = with_field(followed, position, value)
        curves.append(probabilities(predict(network, changed).logits, changed))
    return Dependence(feature, values, share, np.stack(curves, axis=1))
