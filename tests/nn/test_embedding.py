from __future__ import annotations

import torch

from ctrkit.data.batches import Batch, FeatureMap
from ctrkit.nn.embedding import EventEmbedding, FeatureEmbedding, PositionEmbedding

MAP = FeatureMap(
    tables={"user": 5, "item": 7, "action": 4},
    categorical={"user": "user", "item": "item", "other": "item"},
    numeric=("age", "price"),
    sequences={"seen": "item", "did": "action"},
    max_length=3,
)


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


def test_every_id_of_every_table_has_its_own_row() -> None:
    embedding = FeatureEmbedding(MAP, 4)
    assert embedding.weight.shape == (1 + 4 + 6 + 3, 4)
    with torch.no_grad():
        embedding.weight.copy_(torch.arange(14.0)[:, None].expand(14, 4))
    fields = embedding.fields(batch())
    assert fields[:, :3, 0].tolist() == [[1, 4 + 2, 4 + 3], [4, 4 + 6, 0]]
    sequences = embedding.sequences(batch())
    assert sequences.shape == (2, 3, 2, 4)
    assert sequences[..., 0, 0].tolist() == [[0, 4 + 2, 4 + 6], [0, 0, 4 + 3]]
    assert sequences[..., 1, 0].tolist() == [[0, 10 + 1, 10 + 3], [0, 0, 10 + 2]]


def test_numbers_are_a_direction_and_a_bias() -> None:
    embedding = FeatureEmbedding(MAP, 4)
    fields = embedding.fields(batch())
    assert fields.shape == (2, 5, 4)
    torch.testing.assert_close(fields[0, 4], -2.0 * embedding.direction[1] + embedding.bias[1])


def test_padding_is_zero_and_stays_so() -> None:
    embedding = FeatureEmbedding(MAP, 4)
    optimizer = torch.optim.Adam(embedding.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss = embedding.fields(batch()).sum() + embedding.sequences(batch()).sum()
        loss.backward()
        assert embedding.weight.grad is not None
        assert torch.equal(embedding.weight.grad[0], torch.zeros(4))
        optimizer.step()
    assert torch.equal(embedding.weight[0], torch.zeros(4))
    assert torch.equal(embedding.fields(batch())[1, 2], torch.zeros(4))


def test_ids_beyond_the_integers_of_a_float_stay_apart() -> None:
    # 2^24 + 1 is the first integer that float32 cannot hold.
    size = (1 << 24) + 3
    embedding = FeatureEmbedding(FeatureMap(tables={"id": size}, categorical={"id": "id"}), 1)
    with torch.no_grad():
        embedding.weight.zero_()
        embedding.weight[(1 << 24) + 1] = 5.0
    ids = torch.tensor([[1 << 24], [(1 << 24) + 1], [(1 << 24) + 2]], dtype=torch.int32)
    rows = Batch(ids, torch.zeros(3, 0), {}, torch.zeros(3, 0), torch.ones(3))
    assert embedding.fields(rows).flatten().tolist() == [0.0, 5.0, 0.0]


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
