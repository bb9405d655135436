from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from ctrkit.config import Config, build
from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig, EventEmbedding, FeatureEmbedding, PositionEmbedding
from ctrkit.nn.embedding_tables import (
    HASHES,
    HashedTables,
    ProjectedTables,
    RowMatrix,
    StackedTables,
    hash_constants,
    hash_rows,
    own_dimension,
    table_rows,
    table_starts,
)

MAP = FeatureMap(
    tables={"user": 5, "item": 7, "action": 4},
    categorical={"user": "user", "item": "item", "other": "item"},
    numeric=("age", "price"),
    sequences={"seen": "item", "did": "action"},
    max_length=3,
)
# Three tables of dimension 1, 2 and 3, in an order that is not that of their dimensions; one is hashed.
MIXED = FeatureMap(
    tables={"city": 90, "user": 300, "item": 20, "sex": 3},
    categorical={"item": "item", "user": "user", "sex": "sex", "city": "city"},
    sequences={"seen": "item", "where": "city"},
    max_length=4,
)
EVERY_KIND = EmbeddingConfig(width=8, per_field=True, hash_above=200, hash_rows=50)
CONFIGS = {
    "one matrix": EmbeddingConfig(width=8),
    "per field": EmbeddingConfig(width=8, per_field=True),
    "hashed": EmbeddingConfig(width=8, hash_above=15, hash_rows=50),
    "every kind": EVERY_KIND,
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def batch() -> Batch:
    return Batch(
        categorical=torch.tensor([[1, 2, 3], [4, 6, 0]], dtype=torch.int32),
        numeric=torch.tensor([[1.0, -2.0], [0.0, 3.0]]),
        sequences={
            "did": torch.tensor([[0, 1, 3], [0, 0, 2]], dtype=torch.int32),
            "seen": torch.tensor([[0, 2, 6], [0, 0, 3]], dtype=torch.int32),
        },
        labels=torch.zeros(2, 0),
        weight=torch.ones(2),
    )


def random_batch(feature_map: FeatureMap, rows: int = 6) -> Batch:
    """Any ids, padding among them."""
    draw = torch.Generator().manual_seed(1)

    def ids(table: str, *shape: int) -> torch.Tensor:
        return torch.randint(0, feature_map.tables[table], shape, dtype=torch.int32, generator=draw)

    return Batch(
        torch.stack([ids(table, rows) for table in feature_map.categorical.values()], dim=1),
        torch.randn(rows, len(feature_map.numeric), generator=draw),
        {name: ids(table, rows, feature_map.max_length) for name, table in feature_map.sequences.items()},
        torch.zeros(rows, 0),
        torch.ones(rows),
    )


def matrices(embedding: FeatureEmbedding) -> list[RowMatrix]:
    return [module for module in embedding.modules() if isinstance(module, RowMatrix)]


def test_a_plain_integer_is_the_width() -> None:
    class Model(Config):
        embedding: EmbeddingConfig

    assert build(Model, {"embedding": 16}).embedding == EmbeddingConfig(width=16)
    assert FeatureEmbedding(MAP, 4).fields(batch()).shape == (2, 5, 4)
    for wrong in (True, 0, 1.5, "wide", {"dropout": 0.1}):
        with pytest.raises(ConfigError, match="embedding"):
            build(Model, {"embedding": wrong})


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"std": 0.0}, {"dropout": 1.0}, {"hash_above": 0}, {"hash_rows": 0}]
)
def test_settings_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EmbeddingConfig.model_validate({"width": 4, **wrong})


def test_every_id_of_every_table_has_its_own_row() -> None:
    embedding = FeatureEmbedding(MAP, 4)
    (matrix,) = matrices(embedding)
    assert matrix.weight.shape == (1 + 4 + 6 + 3, 4)
    with torch.no_grad():
        matrix.weight.copy_(torch.arange(14.0)[:, None].expand(14, 4))
    fields = embedding.fields(batch())
    assert fields[:, :3, 0].tolist() == [[1, 4 + 2, 4 + 3], [4, 4 + 6, 0]]
    sequences = embedding.sequences(batch())
    assert sequences.shape == (2, 3, 2, 4)
    assert sequences[..., 0, 0].tolist() == [[0, 4 + 2, 4 + 6], [0, 0, 4 + 3]]
    assert sequences[..., 1, 0].tolist() == [[0, 10 + 1, 10 + 3], [0, 0, 10 + 2]]


@every_config
def test_an_id_has_one_vector_wherever_its_table_is_named(config: EmbeddingConfig) -> None:
    embedding, rows = FeatureEmbedding(MIXED, config), random_batch(MIXED)
    vectors: dict[tuple[str, int], torch.Tensor] = {}
    columns = [
        *zip(MIXED.categorical.values(), rows.categorical.T, embedding.fields(rows).unbind(1), strict=True),
        *(
            (table, rows.sequences[name].flatten(), embedding.sequences(rows)[:, :, s].flatten(0, 1))
            for s, (name, table) in enumerate(MIXED.sequences.items())
        ),
    ]
    for table, ids, found in columns:
        for number, vector in zip(ids.tolist(), found, strict=True):
            if number == 0:
                assert torch.equal(vector, torch.zeros(8))
            else:
                torch.testing.assert_close(vectors.setdefault((table, number), vector), vector)
    assert len({tuple(vector.tolist()) for vector in vectors.values()}) == len(vectors)


def test_numbers_are_a_direction_and_a_bias() -> None:
    embedding = FeatureEmbedding(MAP, 4)
    fields = embedding.fields(batch())
    assert fields.shape == (2, 5, 4)
    torch.testing.assert_close(fields[0, 4], -2.0 * embedding.direction[1] + embedding.bias[1])


def test_without_fields_there_are_none() -> None:
    only_history = replace(MAP, categorical={}, numeric=())
    rows = replace(batch(), categorical=torch.zeros(2, 0, dtype=torch.int32), numeric=torch.zeros(2, 0))
    assert FeatureEmbedding(only_history, 4).fields(rows).shape == (2, 0, 4)


@every_config
@pytest.mark.parametrize("sparse", [False, True])
def test_padding_is_zero_and_stays_so(config: EmbeddingConfig, sparse: bool) -> None:
    embedding, rows = FeatureEmbedding(MIXED, config), random_batch(MIXED)
    for matrix in matrices(embedding):
        matrix.sparse = sparse
    assert any((ids == 0).any() for ids in (rows.categorical, *rows.sequences.values()))
    (embedding.fields(rows).square().sum() + embedding.sequences(rows).square().sum()).backward()
    for matrix in matrices(embedding):
        assert matrix.weight.grad is not None
        assert matrix.weight.grad.is_sparse == sparse
        gradient = matrix.weight.grad.to_dense()
        assert gradient[1:].any()
        assert not gradient[0].any()
        if sparse:
            assert 0 not in matrix.weight.grad.coalesce().indices()
    nothing = replace(
        rows,
        categorical=torch.zeros_like(rows.categorical),
        sequences={name: torch.zeros_like(ids) for name, ids in rows.sequences.items()},
    )
    embedding.zero_grad()
    (embedding.fields(nothing).sum() + embedding.sequences(nothing).sum()).backward()
    assert not embedding.fields(nothing).any()
    for matrix in matrices(embedding):
        assert matrix.weight.grad is not None
        assert not matrix.weight.grad.to_dense().any()


@every_config
def test_a_sparse_gradient_is_the_dense_one_on_the_rows_read(config: EmbeddingConfig) -> None:
    torch.manual_seed(0)
    embedding, rows = FeatureEmbedding(MIXED, config), random_batch(MIXED, rows=40)

    def gradients() -> dict[str, torch.Tensor]:
        embedding.zero_grad()
        (embedding.fields(rows).square().sum() + embedding.sequences(rows).pow(3).sum()).backward()
        return {
            name: value.grad.clone() for name, value in embedding.named_parameters() if value.grad is not None
        }

    dense = gradients()
    for matrix in matrices(embedding):
        matrix.sparse = True
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient.to_dense(), dense[name])
        if gradient.is_sparse:
            touched = gradient._indices()[0]
            assert bool((touched.diff() > 0).all())  # each row once
            assert len(touched) < len(gradient)


def test_in_evaluation_the_gradient_is_dense() -> None:
    # The way that export and posteriors take, whatever the model was trained with.
    embedding = FeatureEmbedding(MAP, 4).eval()
    (matrix,) = matrices(embedding)
    matrix.sparse = True
    embedding.fields(batch()).sum().backward()
    assert matrix.weight.grad is not None
    assert not matrix.weight.grad.is_sparse


def test_ids_beyond_the_integers_of_a_float_stay_apart() -> None:
    # 2^24 + 1 is the first integer that float32 cannot hold.
    size = (1 << 24) + 3
    embedding = FeatureEmbedding(FeatureMap(tables={"id": size}, categorical={"id": "id"}), 1)
    (matrix,) = matrices(embedding)
    with torch.no_grad():
        matrix.weight.zero_()
        matrix.weight[(1 << 24) + 1] = 5.0
    ids = torch.tensor([[1 << 24], [(1 << 24) + 1], [(1 << 24) + 2]], dtype=torch.int32)
    rows = Batch(ids, torch.zeros(3, 0), {}, torch.zeros(3, 0), torch.ones(3))
    assert embedding.fields(rows).flatten().tolist() == [0.0, 5.0, 0.0]


def test_tables_may_have_more_rows_together_than_int32_counts() -> None:
    sizes = [2_000_000_000, 2_000_000_000, 5]
    starts = table_starts(sizes)
    assert starts.tolist() == [0, 1_999_999_999, 3_999_999_998]
    ids = torch.tensor([[1_999_999_999, 1_999_999_999, 4], [0, 0, 0]], dtype=torch.int32)
    assert table_rows(ids, starts).tolist() == [[1_999_999_999, 3_999_999_998, 4_000_000_002], [0, 0, 0]]
    with torch.device("meta"):
        tables = StackedTables({str(number): size for number, size in enumerate(sizes)}, 16, 0.1)
    assert tables.matrix.weight.shape == (4_000_000_003, 16)
    assert table_starts([2, (1 << 31) - 1, 2]).tolist() == [0, 1, (1 << 31) - 1]


@pytest.mark.parametrize("dimension", range(1, 61))
def test_own_dimension_is_the_fourth_root(dimension: int) -> None:
    assert own_dimension(dimension**4) == min(50, dimension)
    assert own_dimension(dimension**4 + 1) == min(50, dimension)
    assert own_dimension(dimension**4 - 1) == max(1, min(50, dimension - 1))


def test_per_field_tables_have_their_own_dimension_and_are_projected() -> None:
    embedding = FeatureEmbedding(MIXED, EmbeddingConfig(width=8, per_field=True))
    rows = random_batch(MIXED)
    kinds = [kind for kind in embedding.kinds if isinstance(kind, ProjectedTables)]
    shapes = {kind.names: tuple(kind.stack.matrix.weight.shape) for kind in kinds}
    assert shapes == {("sex",): (3, 1), ("item",): (20, 2), ("city",): (90, 3), ("user",): (300, 4)}
    (city,) = (kind for kind in kinds if kind.names == ("city",))
    expected = city.stack.matrix.weight[rows.categorical[:, 3].long()] @ city.projection[0]
    torch.testing.assert_close(embedding.fields(rows)[:, 3], expected)


def test_tables_of_one_dimension_are_projected_each_by_its_own_map() -> None:
    torch.manual_seed(0)
    tables = ProjectedTables({"a": 20, "b": 30}, dimension=2, width=8, std=0.1)
    weight, (a, b) = tables.stack.matrix.weight, tables.projection
    found = tables(torch.tensor([[5, 7]], dtype=torch.int32), torch.tensor([1, 0]))
    torch.testing.assert_close(found[0], torch.stack([weight[19 + 5] @ b, weight[7] @ a]))


def test_hash_embedding_by_its_formula() -> None:
    torch.manual_seed(0)
    tables = HashedTables({"user": 1000, "item": 700}, rows=13, width=4, std=0.1)
    ids = torch.tensor([[3, 3], [999, 699], [0, 5]], dtype=torch.int32)
    found = tables(ids, torch.tensor([0, 1]))
    constants = hash_constants(["user", "item"])
    for row in range(3):
        for column, start in enumerate((0, 999)):
            number, expected = int(ids[row, column]), torch.zeros(4)
            for k in range(HASHES):
                a, b = constants[column, :, k].tolist()
                shared = tables.shared.weight[1 + (a * number + b) % (2**31 - 1) % 13]
                expected = expected + tables.importance.matrix.weight[start + number, k] * shared
            torch.testing.assert_close(found[row, column], expected if number else torch.zeros(4))


def test_hashes_do_not_overflow_and_are_the_same_on_every_machine() -> None:
    constants = hash_constants(["user", "item"])
    assert constants.tolist() == [
        [[1137472430, 2095682670], [1562330078, 1592511043]],
        [[996245188, 1378269858], [298689641, 1031780980]],
    ]
    assert torch.equal(hash_constants(["item"])[0], constants[1])
    ids = torch.tensor([1, 2, (1 << 24) + 1, 30_000_000, (1 << 31) - 2], dtype=torch.int32)
    largest = torch.full((1, 2, HASHES), (1 << 31) - 2)
    found = hash_rows(ids[:, None], largest, 1000)
    expected = [1 + (number + 1) * ((1 << 31) - 2) % ((1 << 31) - 1) % 1000 for number in ids.tolist()]
    assert found[:, 0, 0].tolist() == expected


def test_hashes_spread_evenly_and_pairs_rarely_collide() -> None:
    ids = torch.arange(1, 20_001, dtype=torch.int32)
    rows = hash_rows(ids[:, None], hash_constants(["user"]), 100)[:, 0]
    for function in range(HASHES):
        count = rows[:, function].bincount(minlength=101)[1:].double()
        assert count.min() > 150
        assert count.max() < 250
    # 20,000 ids on 10,000 pairs of rows: independent hashes give a pair two ids on average.
    assert max(Counter(map(tuple, rows.tolist())).values()) < 15


def test_thirty_million_ids_are_told_apart_by_their_mix() -> None:
    size = 30_000_000
    tables = HashedTables({"id": size}, rows=10, width=4, std=0.1)
    assert sum(parameter.numel() for parameter in tables.parameters()) == size * HASHES + 11 * 4
    ids = torch.tensor([[1 << 24], [(1 << 24) + 1], [size - 1], [0]], dtype=torch.int32)
    found = tables(ids, torch.tensor([0]))[:, 0]
    assert torch.equal(found[3], torch.zeros(4))
    assert torch.pdist(found).min() > 1e-4


@every_config
def test_vectors_start_at_the_standard_deviation_asked_for(config: EmbeddingConfig) -> None:
    torch.manual_seed(0)
    large = replace(MIXED, tables={name: 100 * size for name, size in MIXED.tables.items()})
    embedding = FeatureEmbedding(large, config.model_copy(update={"width": 64, "std": 0.3}))
    fields = embedding.fields(random_batch(large, rows=2000)).detach()
    assert fields.std(dim=(0, 2)).sub(0.3).abs().max() < 0.08


def test_dropout_takes_whole_fields_and_whole_events_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    wide = replace(MAP, max_length=30)
    ones = replace(
        batch(),
        categorical=torch.ones(500, 3, dtype=torch.int32),
        numeric=torch.ones(500, 2),
        sequences={name: torch.ones(500, 30, dtype=torch.int32) for name in MAP.sequences},
    )
    embedding = FeatureEmbedding(wide, EmbeddingConfig(width=4, dropout=0.25))
    plain_fields, plain_events = embedding.eval().fields(ones), embedding.sequences(ones)
    assert torch.equal(embedding.fields(ones), plain_fields)
    embedding.train()
    for found, plain in ((embedding.fields(ones), plain_fields), (embedding.sequences(ones), plain_events)):
        share = (found / plain).flatten(2)  # every number of a field, or of all parts of an event
        kept = share[..., :1] != 0
        torch.testing.assert_close(share, (kept / 0.75).expand_as(share))
        assert kept.float().mean() == pytest.approx(0.75, abs=0.05)
        torch.testing.assert_close(share.mean(), torch.tensor(1.0), atol=0.05, rtol=0)


@pytest.mark.parametrize("config", [4, EVERY_KIND])
def test_what_cannot_be_embedded_is_refused_when_built(config: EmbeddingConfig | int) -> None:
    for size in (0, 1):
        with pytest.raises(ConfigError, match=r"'item'.*has no ids"):
            FeatureEmbedding(replace(MAP, tables={**MAP.tables, "item": size}), config)
    with pytest.raises(ConfigError, match=r"'other'.*'itm'.*Did you mean 'item'"):
        FeatureEmbedding(replace(MAP, categorical={"other": "itm"}), config)
    with pytest.raises(ConfigError, match=r"'seen'.*'itm'"):
        FeatureEmbedding(replace(MAP, sequences={"seen": "itm"}), config)


def test_event_mask_sees_any_sequence() -> None:
    rows = batch()
    rows.sequences["did"][1, 1] = 1  # known by its action alone
    mask = FeatureEmbedding(MAP, 4).event_mask(rows)
    assert mask.tolist() == [[False, True, True], [False, True, True]]


def test_events_are_normalised_and_one_part_is_not_projected() -> None:
    torch.manual_seed(0)
    two = EventEmbedding(2, 8)
    events = two(torch.randn(3, 5, 2, 8) * 0.01)
    assert events.shape == (3, 5, 8)
    torch.testing.assert_close(events.mean(-1), torch.zeros(3, 5), rtol=0, atol=1e-5)
    one, parts = EventEmbedding(1, 8), torch.randn(3, 5, 1, 8)
    torch.testing.assert_close(one(parts), torch.nn.functional.layer_norm(parts[:, :, 0], (8,)))


def test_positions_count_from_the_newest_event() -> None:
    positions = PositionEmbedding(4, 8)
    torch.testing.assert_close(positions(4)[-2:], positions(2))
    torch.testing.assert_close(positions(4)[-1], positions.weight[0])
    longer = positions(6)
    torch.testing.assert_close(longer[:3], positions.weight[3].expand(3, 8))
