"""Which crosses of fields to give weights: those that the training rows give evidence of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import log, prod

import numpy as np
from scipy.special import expit

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.models.base import Cross
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.training.evidence import fit_by_evidence, honest
from ctrkit.training.linear_start import field_ids, linear_columns
from ctrkit.training.unknown_ids import hidden_ids

# More rows would find weaker crosses, in more time.
_MOST_ROWS = 300_000
_MOST_PAIRS, _MOST_TRIPLES = 24, 8
# Triples that are tried: those whose pairs have the most evidence.
_TRIED_TRIPLES = 1000
_ROUNDS = 5
# Prior variances that are tried for the weights of a cross.
_VARIANCES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def choose_crosses(
    terms_with: Callable[[Sequence[Cross]], LinearTerms], data: EncodedTable, rows: Integers, valid: Integers
) -> tuple[Cross, ...]:
    """Crosses of two and three fields, categorical or numbers with bins, for the first task.

    Logistic regression without crosses is fitted first. A cross is chosen if weights of its own for what is
    left of the labels make them more probable by more than a factor, the number of crosses that were tried.
    Triples are tried beside the chosen pairs; of many triples only those whose pairs have the most evidence
    together. A cross with more cells than rows is not tried.

    Args:
        terms_with: makes the linear terms of the model with some crosses.
        data: the encoded rows.
        rows: the training rows.
        valid: the validation rows, which tell how many ids are unknown to come (see `hidden_ids`).

    Returns:
        Names of the fields of each cross.
    """
    rows = rows[data.weight[rows] > 0.0]
    rows = rows[:: max(1, -(-rows.size // _MOST_ROWS))]
    labels, weight = data.labels[rows, 0].astype(np.float64), data.weight[rows].astype(np.float64)
    if np.unique(labels).size < 2:
        return ()
    mass = weight if data.counted else honest(weight, labels)
    fields, hidden = terms_with(()).field_ids, hidden_ids(data, rows, valid)
    ids = dict(zip(fields.names, field_ids(fields, data, rows, hidden).T, strict=True))
    sizes = dict(zip(fields.names, fields.sizes, strict=True))
    owners = dict(zip(fields.names, fields.owners, strict=True))

    def of(cross: Cross) -> frozenset[int]:
        return frozenset(owners[name] for name in cross)

    def possible(order: int) -> list[Cross]:
        """Crosses of different fields with enough rows."""
        crosses = [cross for cross in combinations(ids, order) if len(of(cross)) == order]
        return [cross for cross in crosses if prod(sizes[name] for name in cross) <= rows.size]

    def evident(gains: Mapping[Cross, float], most: int) -> list[Cross]:
        """The crosses with evidence, the strongest first; of the same fields only the strongest."""
        strongest: dict[frozenset[int], Cross] = {}
        for cross in sorted(gains, key=lambda cross: -gains[cross]):
            if gains[cross] > log(len(gains)):
                strongest.setdefault(of(cross), cross)
        return list(strongest.values())[:most]

    def gains(chosen: Sequence[Cross], tried: Sequence[Cross]) -> dict[Cross, float]:
        """The evidence of each cross beside those that were chosen."""
        columns = linear_columns(terms_with(chosen), data, rows, hidden)
        p = expit(fit_by_evidence(columns, labels, weight, counted=data.counted, rounds=_ROUNDS).margins)
        left, information = mass * (labels - p), mass * p * (1.0 - p)
        found = {}
        for cross in tried:
            cell = np.ravel_multi_index([ids[name] for name in cross], [sizes[name] for name in cross])
            sums = (np.bincount(cell, part).astype(np.float64) for part in (left, information))
            found[cross] = evidence(*sums)
        return found

    of_pairs = gains((), possible(2))
    pairs = evident(of_pairs, _MOST_PAIRS)
    triples = possible(3)
    triples.sort(key=lambda cross: -sum(of_pairs.get(pair, 0.0) for pair in combinations(cross, 2)))
    of_triples = gains(pairs, triples[:_TRIED_TRIPLES]) if triples else {}
    return (*pairs, *evident(of_triples, _MOST_TRIPLES))


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
