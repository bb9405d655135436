from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.history import HistoryState

MAP = FeatureMap(
    tables={"user": 5, "item": 7, "action": 4},
    categorical={"user": "user", "item": "item"},
    numeric=("age",),
    sequences={"seen": "item", "did": "action"},
    max_length=3,
)
SEEN = torch.tensor([[0, 2, 6], [0, 0, 0]], dtype=torch.int32)
DID = torch.tensor([[1, 3, 2], [0, 0, 0]], dtype=torch.int32)  # the oldest event is known by its action alone


def rows() -> Batch:
    return Batch(
        categorical=torch.tensor([[1, 2], [4, 0]], dtype=torch.int32),
        numeric=torch.tensor([[1.5], [-2.0]]),
        sequences={"did": DID, "seen": SEEN},
        labels=torch.zeros(2, 0),
        weight=torch.ones(2),
    )


def history(ids: dict[str, torch.Tensor]) -> HistoryState:
    mask = torch.stack([sequence != 0 for sequence in ids.values()]).any(dim=0)
    nothing = torch.zeros(*mask.shape, 0)
    return HistoryState(mask=mask, events=nothing, states=nothing, ids=ids)


def made() -> FirstOrder:
    torch.manual_seed(0)
    return FirstOrder(MAP, EmbeddingConfig(width=1))


def weights(first_order: FirstOrder, size: int, column: int, name: str = "") -> torch.Tensor:
    """The weight of each id, read one at a time: from a field, or as the only event of a sequence."""
    ids = torch.arange(size, dtype=torch.int32)
    columns = torch.zeros(size, 2, dtype=torch.int32)
    if not name:
        columns[:, column] = ids
    sequences = {key: ids[:, None] * int(key == name) for key in MAP.sequences}
    batch = replace(rows(), categorical=columns, numeric=torch.zeros(size, 1))
    return first_order(batch, history(sequences))[:, column].detach()


def test_terms_are_weights_of_fields_and_means_over_events() -> None:
    first_order = made()
    terms = first_order(rows(), history({"did": DID, "seen": SEEN})).detach()
    assert terms.shape == (2, first_order.outputs)
    item, seen, did = (
        weights(first_order, 7, 1),
        weights(first_order, 7, 3, "seen"),
        weights(first_order, 4, 4, "did"),
    )
    torch.testing.assert_close(terms[:, 1], item[[2, 0]])
    # Sequences in the order of the feature map, and each divided by the number of its own events.
    torch.testing.assert_close(terms[0, 3], (seen[2] + seen[6]) / 2)
    torch.testing.assert_close(terms[0, 4], (did[1] + did[3] + did[2]) / 3)
    assert bool((terms[1, 3:] == 0).all())
    assert item[0] == seen[0] == did[0] == 0  # padding


def test_an_item_shown_and_an_item_seen_are_two_features() -> None:
    first_order = made()
    assert bool((weights(first_order, 7, 1)[1:] != weights(first_order, 7, 3, "seen")[1:]).all())


def test_numbers_are_a_line() -> None:
    first_order = made()
    ages = torch.tensor([[0.0], [1.0], [3.0]])
    batch = replace(rows(), categorical=torch.zeros(3, 2, dtype=torch.int32), numeric=ages, sequences={})
    at0, at1, at3 = first_order(batch, None)[:, 2]
    torch.testing.assert_close(at3, at0 + 3 * (at1 - at0))


def test_shared_histories_are_repeated() -> None:
    first_order, batch = made(), rows()
    shared = {"did": DID, "seen": SEEN}
    three_each = replace(
        batch,
        categorical=batch.categorical.repeat(3, 1),  # six rows, all unlike their neighbours
        numeric=torch.randn(6, 1),
    )
    repeated = {name: ids.repeat_interleave(3, dim=0) for name, ids in shared.items()}
    torch.testing.assert_close(
        first_order(three_each, history(shared)), first_order(three_each, history(repeated))
    )


@pytest.mark.parametrize("padding", [1, 4])
def test_left_padding_changes_nothing(padding: int) -> None:
    first_order = made()
    ids = {"did": DID, "seen": SEEN}
    padded = {name: torch.nn.functional.pad(sequence, (padding, 0)) for name, sequence in ids.items()}
    torch.testing.assert_close(first_order(rows(), history(padded)), first_order(rows(), history(ids)))


def test_weights_are_one_an_id_and_start_near_zero() -> None:
    torch.manual_seed(0)
    first_order = FirstOrder(FeatureMap(tables={"id": 5000}, categorical={"id": "id"}))
    ids = torch.arange(5000, dtype=torch.int32)[:, None]
    terms = first_order(Batch(ids, torch.zeros(5000, 0), {}, torch.zeros(5000, 0), torch.ones(5000)), None)
    assert sum(parameter.numel() for parameter in first_order.parameters()) == 5000
    assert 0.009 < float(terms.detach().std()) < 0.011
