"""Which crosses of fields to give weights: those that the training rows give evidence of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import log, prod

import numpy as np
from scipy.special import expit

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoder import EncodedTable
from ctrkit.models.base import Cross
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.training.evidence import fit_by_evidence
from ctrkit.training.linear_start import field_ids, linear_columns

# More rows would find weaker crosses, in more time.
_MOST_ROWS = 300_000
_MOST_PAIRS, _MOST_TRIPLES = 24, 8
_ROUNDS = 5
# Prior variances that are tried for the weights of a cross.
_VARIANCES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def choose_crosses(
    terms_with: Callable[[Sequence[Cross]], LinearTerms], data: EncodedTable, rows: Integers
) -> tuple[Cross, ...]:
    """Crosses of two and three fields, categorical or numbers with bins, for the first task.

    Logistic regression without crosses is fitted first. A cross is chosen if weights of its own for what is
    left of the labels make them more probable by more than a factor, the number of crosses that were tried.
    Triples are tried where two of their three pairs were chosen, as weak heredity asks (Bien, Taylor and
    Tibshirani, "A Lasso for Hierarchical Interactions", Annals of Statistics 2013). A cross with more cells
    than rows is not tried.

    Args:
        terms_with: makes the linear terms of the model with some crosses.
        data: the encoded rows.
        rows: the training rows.

    Returns:
        Names of the fields of each cross.
    """
    rows = rows[data.weight[rows] > 0.0]
    rows = rows[:: max(1, -(-rows.size // _MOST_ROWS))]
    labels, weight = data.labels[rows, 0].astype(np.float64), data.weight[rows].astype(np.float64)
    if np.unique(labels).size < 2:
        return ()
    mass = weight / weight.mean()
    terms = terms_with(())
    ids = dict(zip(terms.fields, field_ids(terms, data, rows).T, strict=True))
    sizes = dict(zip(terms.fields, terms.field_sizes, strict=True))

    def evident(chosen: Sequence[Cross], tried: Sequence[Cross], most: int) -> list[Cross]:
        """The crosses with evidence beside those that were chosen, the strongest first."""
        tried = [cross for cross in tried if prod(sizes[name] for name in cross) <= rows.size]
        if not tried:
            return []
        columns = linear_columns(terms_with(chosen), data, rows)
        found = fit_by_evidence(columns, labels, weight, rounds=_ROUNDS)
        p = expit(found.margins)
        left, information = mass * (labels - p), mass * p * (1.0 - p)
        gains = {}
        for cross in tried:
            cell = np.ravel_multi_index([ids[name] for name in cross], [sizes[name] for name in cross])
            gains[cross] = evidence(
                *(np.bincount(cell, part).astype(np.float64) for part in (left, information))
            )
        best = sorted(tried, key=lambda cross: -gains[cross])[:most]
        return [cross for cross in best if gains[cross] > log(len(tried))]

    pairs = evident((), list(combinations(ids, 2)), _MOST_PAIRS)
    kept = set(pairs)
    triples = [cross for cross in combinations(ids, 3) if sum(p in kept for p in combinations(cross, 2)) > 1]
    return (*pairs, *evident(pairs, triples, _MOST_TRIPLES))


def evidence(left: Floats, information: Floats) -> float:
    """The logarithm of how much more probable the weights of a cross make the labels.

    It is Σ (τ² R² / (1 + τ² S) - log(1 + τ² S)) / 2 over the cells, for the best prior variance τ²: the
    Laplace approximation at weights 0 of the marginal likelihood (MacKay, Neural Computation 1992).

    Args:
        left: R, the sum of label minus probability of each cell.
        information: S, the sum of p (1 - p) of each cell.
    """
    shrunk = [(v * left**2 / (1.0 + v * information), np.log1p(v * information)) for v in _VARIANCES]
    return max(float((gain - cost).sum()) / 2.0 for gain, cost in shrunk)
