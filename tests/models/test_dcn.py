from __future__ import annotations

from typing import Any

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn.batches import Batch

MAP = FeatureMap(tables={"user": 4, "item": 5}, categorical={"user": "user", "item": "item"})
FLAT = 2 * 16


def made(**content: Any) -> CtrModel:
    torch.manual_seed(0)
    return build_model(model_config(content), MAP)


def make_batch() -> Batch:
    torch.manual_seed(1)
    ids = torch.stack([torch.randint(1, size, (9,)) for size in (4, 5)], dim=1).int()
    return Batch(ids, torch.zeros(9, 0), {}, torch.zeros(9, 0), torch.ones(9))


def test_a_dcnv2_of_rank_one_is_a_dcn() -> None:
    old, new = made(name="dcn"), made(name="dcnv2")
    weights = {
        name: value.expand(FLAT, -1) if name.endswith(".w.weight") else value
        for name, value in old.state_dict().items()
    }
    biases = {name: torch.zeros(FLAT) for name in new.state_dict() if name.endswith(".w.bias")}
    # A bias of DCN stands outside of the product, where DCNv2 has none: both start at zero.
    new.load_state_dict({n: v for n, v in weights.items() if not n.endswith(".b")} | biases)
    torch.testing.assert_close(new(make_batch()).logits, old(make_batch()).logits)


@pytest.mark.parametrize(
    ("content", "hidden", "width"),
    [
        ({"name": "dcn"}, (16, 8), FLAT + 8),
        ({"name": "dcn"}, (), FLAT),
        ({"name": "dcnv2"}, (16, 8), FLAT + 8),
        ({"name": "dcnv2"}, (), FLAT),
        ({"name": "dcnv2", "structure": "stacked"}, (16, 8), 8),
        ({"name": "dcnv2", "structure": "stacked"}, (), FLAT),
    ],
)
def test_what_the_last_layer_reads(content: dict[str, Any], hidden: tuple[int, ...], width: int) -> None:
    assert made(**content, hidden=hidden)(make_batch()).hidden.shape == (9, width)


def test_structures_without_a_deep_network_are_the_cross_network_alone() -> None:
    parallel = made(name="dcnv2", hidden=())
    stacked = made(name="dcnv2", hidden=(), structure="stacked")
    assert torch.equal(parallel(make_batch()).hidden, stacked(make_batch()).hidden)


def test_a_stacked_deep_network_reads_what_is_crossed() -> None:
    crossed = made(name="dcnv2", hidden=())(make_batch()).hidden
    stacked = made(name="dcnv2", hidden=(16,), structure="stacked")
    tower = [parameter for name, parameter in stacked.named_parameters() if ".tower.0." in name]
    expected = torch.relu(crossed @ tower[0].T + tower[1])
    torch.testing.assert_close(stacked(make_batch()).hidden, expected)


def test_low_rank_needs_fewer_weights() -> None:
    def size(model: CtrModel) -> int:
        return sum(parameter.numel() for name, parameter in model.named_parameters() if ".cross." in name)

    assert size(made(name="dcn")) == 3 * 2 * FLAT
    assert size(made(name="dcnv2")) == 3 * (FLAT + 1) * FLAT
    low = made(name="dcnv2", mixture={"rank": 4, "experts": 1, "activation": "identity"})
    assert size(low) == 3 * (2 * 4 + 1) * FLAT
