"""The vector of the unknown id, in every kind of table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig, FeatureEmbedding
from ctrkit.training.unknown_ids import hidden_ids, id_counts, settle_unknown
from tests.padded import histories

MAP = FeatureMap(
    tables={"ad": 40, "place": 6, "event": 9},
    categorical={"ad": "ad", "place": "place"},
    sequences={"seen": "ad", "did": "event"},
    max_length=3,
)


def table(unknown_places: int = 0, rows: int = 500) -> EncodedTable:
    rng = np.random.default_rng(0)
    place = rng.integers(2, 6, rows)
    place[:unknown_places] = 1
    return EncodedTable(
        np.stack([2 + rng.integers(0, 38, rows) ** 2 // 38, place], axis=1).astype(np.int32),
        np.empty((rows, 0), np.float32),
        {
            "seen": histories(rng.integers(2, 40, (rows, 3), np.int32)),
            "did": histories(rng.integers(0, 9, (rows, 3), np.int32)),
        },
        np.zeros((rows, 1), np.float32),
        rng.integers(0, 3, rows).astype(np.float32),
    )


def vectors(embedding: FeatureEmbedding, ads: list[int], places: list[int]) -> torch.Tensor:
    """Of ads and of places, `[n, 2, d]`."""
    ids = torch.tensor([ads, places], dtype=torch.int32).T
    n = len(ads)
    histories = {name: torch.zeros(n, 3, dtype=torch.int32) for name in MAP.sequences}
    return embedding.fields(Batch(ids, torch.empty(n, 0), histories, torch.empty(n, 0), torch.ones(n)))


@pytest.mark.parametrize("config", [{}, {"per_field": True}], ids=["stacked", "projected"])
def test_it_is_the_mean_of_what_training_has_read(config: dict[str, Any]) -> None:
    data = table()
    embedding = FeatureEmbedding(MAP, EmbeddingConfig(width=8, **config)).eval()
    before = vectors(embedding, [*range(2, 40)], [2 + i % 4 for i in range(38)])
    settle_unknown(embedding, id_counts(MAP, data, np.arange(500)))
    with torch.no_grad():
        found = vectors(embedding, [1], [1])[0]
    # A brute-force mean over every reading of the table, each as often as its row's weight.
    counts = np.zeros((2, 40))
    for row in range(500):
        counts[0, data.categorical[row, 0]] += data.weight[row]
        counts[1, data.categorical[row, 1]] += data.weight[row]
        for event in data.sequences["seen"][row : row + 1][0]:
            counts[0, event] += data.weight[row]
    ads = counts[0, 2:] @ before[:, 0].detach().numpy() / counts[0, 2:].sum()
    places = counts[1, 2:6] @ before[:4, 1].detach().numpy() / counts[1, 2:6].sum()
    np.testing.assert_allclose(found, np.stack([ads, places]), rtol=1e-4, atol=1e-6)
    after = vectors(embedding, [*range(2, 40)], [2 + i % 4 for i in range(38)])
    assert torch.equal(before, after)
    assert not vectors(embedding, [0], [0]).any()  # padding stays zero


def test_of_a_hashed_table_it_is_as_near_as_its_rows_allow() -> None:
    data = table()
    embedding = FeatureEmbedding(MAP, EmbeddingConfig(width=2, hash_above=10, hash_rows=50)).eval()
    before = vectors(embedding, [*range(2, 40)], [2] * 38)[:, 0].detach()
    counts = id_counts(MAP, data, np.arange(500))
    settle_unknown(embedding, counts)
    read = (counts["ad"] + counts["seen"])[2:].float()
    # Two rows of width 2 span the plane, so that the mean itself is reached.
    found = vectors(embedding, [1], [2])[0, 0].detach()
    torch.testing.assert_close(found, read @ before / read.sum(), rtol=1e-3, atol=1e-5)
    assert torch.equal(before, vectors(embedding, [*range(2, 40)], [2] * 38)[:, 0].detach())


def test_what_training_has_seen_often_keeps_what_it_learnt() -> None:
    embedding = FeatureEmbedding(MAP, 8).eval()
    before = vectors(embedding, [1], [1])[0].detach()
    settle_unknown(embedding, id_counts(MAP, table(unknown_places=300), np.arange(500)))
    ad, place = vectors(embedding, [1], [1])[0].detach() == before
    assert place.all()
    assert not ad.all()


def test_a_table_without_ids_is_left_alone() -> None:
    data = table()
    data.categorical[:] = 1
    data.sequences["seen"].lengths[:] = 0
    data.weight[:] = 0.1
    embedding = FeatureEmbedding(MAP, 8)
    settle_unknown(embedding, id_counts(MAP, data, np.arange(500)))
    assert vectors(embedding, [1], [1]).isfinite().all()


@pytest.mark.parametrize("later", [0.0, 0.04, 0.5, 1.0])
def test_as_many_ids_are_hidden_as_will_be_unknown(later: float) -> None:
    """Items are hidden whole; a field of one table with few unknown ids keeps its own."""
    rng = np.random.default_rng(0)
    ids = rng.integers(2, 2000, (9000, 2)).astype(np.int32)
    ids[: len(ids) // 10, 0] = 1  # a tenth of the ads is unknown in all rows
    valid = np.arange(6000, 9000)
    ids[valid[rng.random(3000) < later], 0] = -7
    ids[valid[:15], 1] = 1
    data = EncodedTable(
        ids, np.empty((9000, 0), np.float32), {}, np.zeros((9000, 1), np.float32), np.ones(9000, np.float32)
    )
    rows = np.arange(6000)
    hidden = hidden_ids(data, rows, valid)
    assert not hidden[:, 1].any()
    known, taken = ids[rows, 0] > 1, hidden[:, 0]
    assert set(ids[rows, 0][taken & known]).isdisjoint(ids[rows, 0][~taken & known])
    unknown = np.mean(taken | ~known)
    expected = np.mean(ids[valid, 0] < 2)
    assert unknown == pytest.approx(
        expected if expected - np.mean(~known) > 0.05 else np.mean(~known), abs=0.03
    )
