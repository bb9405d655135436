from __future__ import annotations

import numpy as np
import pytest

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.item_vectors import WIDTH, ItemVectors
from ctrkit.training.item_vectors import correspondence_vectors, fit_item_vectors
from tests.padded import histories as padded

SIZE = 80


def histories(seed: int, rows: int = 400) -> np.ndarray:
    """Histories of two kinds of people: ids 2 to 39 or 40 to 77; 78 and 79 are in none."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, rows)[:, None]
    events = rng.integers(2, 40, (rows, 6)) + 38 * (kind ^ (rng.random((rows, 6)) < 0.1))
    events[rng.random(events.shape) < 0.2] = rng.choice([0, 1, -7])
    return events.astype(np.int32)


@pytest.mark.parametrize("prior", [1e-9, 50.0])
def test_vectors_are_those_of_a_dense_decomposition(prior: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """X is made by loops, and all of its singular vectors by LAPACK; signs are free."""
    monkeypatch.setattr("ctrkit.training.item_vectors._PRIOR", prior)
    events = histories(0)
    distinct = {tuple(row) for row in events.tolist()}
    counts = np.array([[row.count(item) if item > 1 else 0 for item in range(SIZE)] for row in distinct])
    kept = counts.sum(axis=0) > 0
    of_history, of_item = counts.sum(axis=1, keepdims=True), counts.sum(axis=0)
    weight = 1.0 / np.sqrt(of_item[kept] + prior)
    _, values, right = np.linalg.svd(counts[:, kept] / np.sqrt(np.maximum(of_history, 1)) * weight)
    expected = np.zeros((SIZE, WIDTH))
    expected[kept] = right[1 : WIDTH + 1].T * weight[:, None] * np.sqrt(of_item.sum())
    found = correspondence_vectors(np.concatenate([events, events]), SIZE)
    assert np.diff(values[: WIDTH + 2]).max() < -1e-4  # so that the vectors are unique
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)
    if prior < 1.0:  # standard coordinates: mean 0 and variance 1 by the masses of the items
        assert values[0] == pytest.approx(1.0)
        mass = of_item / of_item.sum()
        np.testing.assert_allclose(mass @ found, 0.0, atol=1e-8)
        np.testing.assert_allclose((found * mass[:, None]).T @ found, np.eye(WIDTH), atol=1e-8)


def test_items_of_the_same_histories_have_like_vectors() -> None:
    found = correspondence_vectors(histories(1), SIZE)
    like = found @ found.T
    assert like[2:40, 2:40].mean() > 0.3 > -0.3 > like[2:40, 40:78].mean()
    assert not found[[0, 1, 78, 79]].any()


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_too_few_histories_have_vectors_of_0_or_few_coordinates(rows: int) -> None:
    found = correspondence_vectors(histories(2, rows), SIZE)
    assert found.shape == (SIZE, WIDTH)
    assert np.isfinite(found).all()


def test_only_histories_of_the_training_rows_are_read() -> None:
    feature_map = FeatureMap(
        tables={"item": SIZE}, categorical={"item": "item"}, sequences={"items": "item"}, max_length=6
    )
    events = np.concatenate([histories(3), histories(4)])
    data = EncodedTable(
        np.full((800, 1), 2, dtype=np.int32),
        np.zeros((800, 0), dtype=np.float32),
        {"items": padded(events)},
        np.zeros((800, 1), dtype=np.float32),
        np.ones(800, dtype=np.float32),
    )
    items = ItemVectors(feature_map)
    fit_item_vectors(items, data, np.arange(400))
    np.testing.assert_allclose(items.vectors, correspondence_vectors(events[:400], SIZE), atol=1e-6)
