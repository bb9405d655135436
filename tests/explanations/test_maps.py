"""Maps against scikit-learn's PCA, and by whether neighbours stay together."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ctrkit.data.encoder import Encoder
from ctrkit.data.scales import FeatureScale
from ctrkit.errors import ConfigError, DataError
from ctrkit.explanations import Names, lay_out, table_vectors
from ctrkit.nn.batches import Batch
from ctrkit.schema import FeatureSpec
from tests.explanations.toys import FULL, make, rows


def two_groups(count: int = 15) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    group = np.arange(count) % 2
    return generator.normal(size=(count, 6)) + 8.0 * group[:, None], group


@given(st.integers(3, 30), st.integers(1, 8), st.integers(0, 100))
def test_principal_components_are_scikit_learns(count: int, width: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    points, kept = lay_out(vectors)
    peer = PCA(n_components=min(2, width, count)).fit(vectors)
    expected = peer.transform(vectors)
    np.testing.assert_allclose(np.abs(points[:, : expected.shape[1]]), np.abs(expected), atol=1e-8)
    assert kept == pytest.approx(peer.explained_variance_ratio_.sum())
    np.testing.assert_array_equal(lay_out(vectors)[0], points)


def assert_neighbours_stay(points: NDArray[np.float64], group: NDArray[np.int64]) -> None:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(group[distance.argmin(axis=1)], group)


def test_tsne_keeps_groups_apart_and_is_the_same_again() -> None:
    pytest.importorskip("openTSNE")
    vectors, group = two_groups()
    points, kept = lay_out(vectors, "tsne", seed=1)
    assert kept is None
    assert_neighbours_stay(points, group)
    np.testing.assert_array_equal(lay_out(vectors, "tsne", seed=1)[0], points)


@pytest.mark.skipif(
    "CTRKIT_TEST_UMAP" not in os.environ, reason="compiles for a minute: set CTRKIT_TEST_UMAP"
)
@pytest.mark.filterwarnings("ignore")  # of what umap-learn says of its settings
def test_umap_keeps_groups_apart() -> None:
    pytest.importorskip("umap")
    vectors, group = two_groups()
    points, kept = lay_out(vectors, "umap", seed=1)
    assert kept is None
    assert_neighbours_stay(points, group)


def encoder() -> Encoder:
    spec = FeatureSpec.model_validate(
        {
            "categorical": [{"name": name} for name in FULL.categorical],
            "numeric": [{"name": name} for name in FULL.numeric],
            "sequences": [
                {"name": "seen_items", "shares": "item", "max_length": 5},
                {"name": "seen_categories", "shares": "category", "max_length": 5},
            ],
            "labels": {"click": "click", "conversion": "conversion"},
        }
    )
    vocabularies = {table: [f"{table} {n}" for n in range(2, size)] for table, size in FULL.tables.items()}
    return Encoder(spec, vocabularies, {name: FeatureScale(0.0, 1.0) for name in FULL.numeric})


@pytest.mark.parametrize(
    "embedding",
    [8, {"width": 8, "per_field": True}, {"width": 8, "hash_above": 20, "hash_rows": 16}],
    ids=str,
)
def test_a_tables_vectors_are_what_the_network_reads(embedding: Any) -> None:
    network, data = make({"name": "dnn", "embedding": embedding}), rows(count=200)
    found = table_vectors(network, data, Names(encoder()), "item", most=10)
    counts = np.bincount(data.categorical[:, 1], minlength=40)
    assert network.embedding is not None
    assert len(found.names) == 10
    assert (np.diff(found.rows) <= 0).all()
    for name, vector, count, rate in zip(found.names, found.vectors, found.rows, found.rate, strict=True):
        value = int(name.removeprefix("item "))
        assert count == counts[value]
        assert count >= np.sort(counts[2:])[-10]
        assert rate == pytest.approx(data.labels[data.categorical[:, 1] == value, 0].mean())
        ids = torch.tensor([[1, value, 1]], dtype=torch.int32)
        empty = torch.zeros(1, 0)
        with torch.no_grad():
            read = network.embedding.fields(Batch(ids, torch.zeros(1, 2), {}, empty, empty))[0, 1]
        np.testing.assert_allclose(vector, read.numpy(), rtol=1e-6)


def test_what_cannot_be_mapped_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    names, data = Names(encoder()), rows()
    with pytest.raises(DataError, match=r"'itme' is no categorical feature\. Did you mean 'item'"):
        table_vectors(make({"name": "dnn"}), data, names, "itme")
    with pytest.raises(DataError, match=r"no embeddings to map\. Map 'hidden'"):
        table_vectors(make({"name": "lr"}), data, names, "item")
    with pytest.raises(DataError, match="a map by tsne needs 5 points, and there are 4"):
        lay_out(np.eye(4), "tsne")
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    monkeypatch.setitem(sys.modules, "umap", None)
    for method, package in (("tsne", "openTSNE"), ("umap", "umap")):
        with pytest.raises(ConfigError, match=rf"needs the package '{package}'.*ctrkit\[explain\]"):
            lay_out(np.eye(6), method)  # type: ignore[arg-type]
