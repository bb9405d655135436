"""Bags of ids, beside PyTorch's embedding bags and sums made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.data.feature_map import Bag, FeatureMap
from ctrkit.nn.bags import amounts_of
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.linear_terms import LinearTerms

# -7 is an unseen value, read as the unknown id.
IDS = torch.tensor([[2, 5, 2, 0], [0, 0, 0, 0], [3, 0, 0, 0], [4, -7, 1, 3]], dtype=torch.int32)
WEIGHTS = torch.tensor([[0.5, 2.0, 1.0, 0.0], [0.0] * 4, [0.0] * 4, [1.5, 0.5, 1.0, 3.0]])


def rows(weighted: bool) -> Batch:
    n = len(IDS)
    return Batch(
        torch.zeros(n, 0, dtype=torch.int32),
        torch.zeros(n, 0),
        {},
        torch.zeros(n, 0),
        torch.ones(n),
        bags={"tags": IDS},
        bag_weights={"tags": WEIGHTS} if weighted else {},
    )


def map_of(bag: Bag) -> FeatureMap:
    return FeatureMap(tables={"tags": 6}, categorical={}, bags={"tags": bag})


CASES = [("sum", False), ("mean", False), ("max", False), ("sum", True), ("mean", True)]


@pytest.mark.parametrize(("pooling", "weighted"), CASES)
def test_vectors_and_gradients_are_those_of_embedding_bags(pooling: str, weighted: bool) -> None:
    torch.manual_seed(0)
    embedding = FeatureEmbedding(map_of(Bag("tags", 4, pooling, weighted)), 3)
    (weight,) = embedding.parameters()
    found = embedding.fields(rows(weighted))[:, 0]
    ids = IDS.long().where(IDS >= 0, 1)
    with_weights = weighted and pooling == "mean"
    theirs = nn.EmbeddingBag.from_pretrained(
        weight.detach().clone(), freeze=False, mode="sum" if with_weights else pooling, padding_idx=0
    )
    amounts = WEIGHTS / WEIGHTS.sum(dim=1, keepdim=True).clamp(min=1e-9) if with_weights else WEIGHTS
    expected = theirs(ids, per_sample_weights=amounts if weighted else None)
    torch.testing.assert_close(found, expected)
    # A maximum of equal vectors has no one gradient.
    (found * torch.arange(3)).sum().backward()
    (expected * torch.arange(3)).sum().backward()
    if pooling != "max":
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, theirs.weight.grad)


@pytest.mark.parametrize(("pooling", "weighted"), CASES)
def test_the_order_of_ids_and_more_padding_change_nothing(pooling: str, weighted: bool) -> None:
    embedding = FeatureEmbedding(map_of(Bag("tags", 4, pooling, weighted)), 3)
    batch = rows(weighted)
    other = replace(
        batch,
        bags={"tags": nn.functional.pad(IDS.flip(1), (2, 1))},
        bag_weights={n: nn.functional.pad(w.flip(1), (2, 1)) for n, w in batch.bag_weights.items()},
    )
    torch.testing.assert_close(embedding.fields(batch), embedding.fields(other))


@pytest.mark.parametrize(("pooling", "weighted"), CASES)
def test_linear_and_first_order_terms_are_sums_by_hand(pooling: str, weighted: bool) -> None:
    torch.manual_seed(0)
    feature_map, batch = map_of(Bag("tags", 4, pooling, weighted)), rows(weighted)
    terms = LinearTerms(feature_map)
    terms.cells.normal_()
    assert (terms.names, terms.sizes, terms.columns) == (("tags",), (6,), 4)
    first = FirstOrder(feature_map)
    (own,) = (one.detach().numpy()[:, 0] for one in first.parameters())
    found, of_first = terms(batch, {}).detach().numpy()[:, 0], first(batch, None).detach().numpy()[:, 0]
    for row, ids in enumerate(IDS.tolist()):
        pairs = [
            (max(one, 1) if one < 0 else one, float(WEIGHTS[row, at]) if weighted else 1.0)
            for at, one in enumerate(ids)
            if one
        ]
        mass = sum(weight for _, weight in pairs) if pooling == "mean" else 1.0

        def total(weights: np.ndarray, pairs: list[tuple[int, float]] = pairs, mass: float = mass) -> float:
            return float(sum(w * weights[one] for one, w in pairs) / mass) if mass else 0.0

        assert found[row] == pytest.approx(total(terms.cells.numpy()[:, 0]), abs=1e-6)
        highest = max((own[one] for one, _ in pairs), default=0.0)
        assert of_first[row] == pytest.approx(highest if pooling == "max" else total(own), abs=1e-6)


def test_amounts_of_a_mean_sum_to_one_unless_nothing_counts() -> None:
    sums = amounts_of(rows(True), "tags", Bag("tags", 4, "mean", True)).sum(dim=1)
    torch.testing.assert_close(sums, torch.tensor([1.0, 0.0, 0.0, 1.0]))
