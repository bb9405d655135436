"""Pretrained vectors in networks and in linear terms, beside sums made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap, VectorField
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.training.optimizers import OptimizerConfig, build_optimizer

FROZEN = {"image": VectorField(3), "text": VectorField(2)}
TRAINED = {"image": VectorField(3), "text": VectorField(2, "text", 4), "query": VectorField(2, "text", 4)}


def map_of(vectors: dict[str, VectorField]) -> FeatureMap:
    return FeatureMap(tables={}, categorical={}, vectors=vectors)


def rows(vectors: dict[str, VectorField]) -> Batch:
    """Three rows, of which the second has no vectors."""
    generator, empty = torch.Generator().manual_seed(0), torch.zeros(3, 0)
    given = {name: torch.randn(3, one.width, generator=generator) for name, one in vectors.items()}
    for one in given.values():
        one[1] = torch.nan
    of_rows = {name: torch.tensor([3, 0, 1], dtype=torch.int32) for name, one in vectors.items() if one.table}
    return Batch(empty.int(), empty, {}, empty, torch.ones(3), vectors=given, vector_rows=of_rows)


def test_a_vector_is_projected_and_a_missing_one_has_a_vector_of_its_own() -> None:
    torch.manual_seed(0)
    embedding, batch = FeatureEmbedding(map_of(FROZEN), 5), rows(FROZEN)
    torch.nn.init.normal_(embedding.vectors.missing)
    found = embedding.fields(batch)
    for place, name in enumerate(FROZEN):
        projection, bias = embedding.vectors.projections[place], embedding.vectors.bias[place]
        expected = batch.vectors[name] @ projection + bias
        torch.testing.assert_close(found[[0, 2], place], expected[[0, 2]])
        torch.testing.assert_close(found[1, place], embedding.vectors.missing[place] + bias)


@pytest.mark.parametrize("optimizer", ["adamw", "rowwise"])
def test_training_changes_the_vectors_of_a_file_for_all_that_read_it(optimizer: str) -> None:
    torch.manual_seed(0)
    embedding, batch = FeatureEmbedding(map_of(TRAINED), 5), rows(TRAINED)
    frozen = FeatureEmbedding(map_of({name: replace(one, table=None) for name, one in TRAINED.items()}), 5)
    frozen.load_state_dict(embedding.state_dict(), strict=False)
    # Before the first step, trained vectors are those of the file, to the last bit.
    assert torch.equal(embedding.fields(batch), frozen.fields(batch))
    steps = build_optimizer(embedding, OptimizerConfig(name=optimizer, learning_rate=0.1))
    embedding.train().fields(batch).square().sum().backward()
    steps.step()
    (matrix,) = embedding.vectors.changes
    assert matrix.weight.abs().sum(dim=1).bool().tolist() == [False, True, False, True]
    embedding.eval()
    moved = {
        name: given + matrix.weight[batch.vector_rows[name].long()] if name in batch.vector_rows else given
        for name, given in batch.vectors.items()
    }
    frozen.load_state_dict(embedding.state_dict(), strict=False)
    expected = frozen.fields(replace(batch, vectors=moved))
    torch.testing.assert_close(embedding.fields(batch), expected)


def test_linear_and_first_order_terms_are_sums_by_hand() -> None:
    torch.manual_seed(0)
    batch, terms, first = rows(TRAINED), LinearTerms(map_of(TRAINED)), FirstOrder(map_of(TRAINED))
    torch.nn.init.normal_(terms.slopes)
    assert terms.number_groups == (4, 3, 3)
    assert not any("changes" in name for name, _ in first.named_parameters())
    columns = []
    for given in batch.vectors.values():
        columns += [given.nan_to_num(0.0), given[:, :1].isnan().float()]
    expected = torch.cat(columns, dim=1) @ terms.slopes
    torch.testing.assert_close(terms(batch, {}), expected)
    reader = first.weights.vectors
    found = first(batch, None)
    for place, given in enumerate(batch.vectors.values()):
        of_known = given.nan_to_num(0.0) @ reader.projections[place]
        torch.testing.assert_close(found[:, place], of_known[:, 0] + reader.bias[place, 0])
