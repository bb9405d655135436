"""Shapley values against all coalitions, one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.explanations import shapley_values
from ctrkit.models import CtrModel
from ctrkit.training import predict
from tests.explanations.toys import FULL, MAPS, make, rows

pytest.importorskip("shap")


def with_coalition(row: EncodedTable, others: EncodedTable, coalition: tuple[int, ...]) -> EncodedTable:
    """The background rows, with the players of a coalition from the row explained; last the history."""
    categorical, numeric = others.categorical.copy(), others.numeric.copy()
    sequences = dict(others.sequences)
    split = categorical.shape[1]
    for player in coalition:
        if player < split:
            categorical[:, player] = row.categorical[0, player]
        elif player < split + numeric.shape[1]:
            numeric[:, player - split] = row.numeric[0, player - split]
        else:
            same = np.zeros(len(others), dtype=np.int64)
            sequences = {name: ids.of_rows(same) for name, ids in row.sequences.items()}
    return replace(others, categorical=categorical, numeric=numeric, sequences=sequences)


def subsets(players: list[int]) -> Iterator[tuple[int, ...]]:
    for size in range(len(players) + 1):
        yield from combinations(players, size)


def exact(network: CtrModel, row: EncodedTable, others: EncodedTable, task: int) -> NDArray[np.float64]:
    """Shapley's formula over all 2^n coalitions."""
    n = row.categorical.shape[1] + row.numeric.shape[1] + bool(row.sequences)
    worth = {
        coalition: predict(network, with_coalition(row, others, coalition))[0][:, task].mean()
        for coalition in subsets(list(range(n)))
    }
    values = np.zeros(n)
    for player in range(n):
        for coalition in subsets([other for other in range(n) if other != player]):
            weight = factorial(len(coalition)) * factorial(n - len(coalition) - 1) / factorial(n)
            joined = tuple(sorted((*coalition, player)))
            values[player] += weight * (worth[joined] - worth[coalition])
    return values


def one(data: EncodedTable, row: int) -> EncodedTable:
    sequences = {name: ids.of_rows(slice(row, row + 1)) for name, ids in data.sequences.items()}
    part = slice(row, row + 1)
    return EncodedTable(
        data.categorical[part], data.numeric[part], sequences, data.labels[part], data.weight[part]
    )


CASES: list[tuple[dict[str, Any], FeatureMap, int]] = [
    ({"name": "fm"}, FULL, 0),
    ({"name": "mdaf"}, FULL, 1),
    ({"name": "dnn"}, MAPS["no history"], 0),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "feature_map", "task", "estimator"),
    [*((*case, "permutation") for case in CASES), *((*case, "sampling") for case in CASES[::2])],
)
def test_estimates_are_the_exact_values(
    content: dict[str, Any], feature_map: FeatureMap, task: int, estimator: Any
) -> None:
    network, others = make(content, feature_map), rows(feature_map, 5, seed=5)
    data = one(rows(feature_map, 6), 5)
    orders = 60 if estimator == "permutation" else 300
    found = shapley_values(network, data, others, task=task, estimator=estimator, permutations=orders)
    np.testing.assert_allclose(found.gap, 0.0, atol=1e-4)
    np.testing.assert_allclose(found.base, predict(network, others)[0][:, task].mean(), rtol=1e-6)
    np.testing.assert_allclose(found.final, predict(network, data)[0][:, task], rtol=1e-6)
    expected = exact(network, data, others, task)
    values = [*found.fields[0], *([found.history[0]] if feature_map.sequences else [])]
    np.testing.assert_allclose(values, expected, atol=0.05 * np.abs(expected).sum())
    assert np.corrcoef(values, expected)[0, 1] > 0.99


def test_orders_forwards_and_backwards_are_exact_where_features_interact_in_pairs() -> None:
    network, data, others = make({"name": "fm"}), one(rows(), 4), rows(count=5, seed=5)
    found = shapley_values(network, data, others, permutations=1)
    expected = exact(network, data, others, 0)
    np.testing.assert_allclose([*found.fields[0], found.history[0]], expected, atol=1e-4)
    assert found.events is None


def test_numpys_generator_is_left_as_it_was() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first, again = (
        shapley_values(make({"name": "dnn"}), rows(count=2), rows(count=4, seed=5), permutations=2, seed=7)
        for _ in range(2)
    )
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    np.testing.assert_array_equal(first.fields, again.fields)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ConfigError, match=r"SHAP needs the package 'shap'.*ctrkit\[explain\]"):
        shapley_values(make({"name": "lr"}), rows(), rows())
