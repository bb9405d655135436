"""Weights over histories, and gates of fusions, against what the network made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctrkit.explanations import FusionShares, GateDistribution, attention_weights, fusion_gates
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.batches import Batch
from ctrkit.nn.fusion import OPERATIONS, ContextGate, SoftFusion
from tests.explanations.toys import MAPS, make, rows


def watched(network: nn.Module, kind: type[nn.Module], data: Any) -> list[tuple[tuple[Tensor, ...], Tensor]]:
    """Inputs and output of every module of a kind."""
    found: list[tuple[tuple[Tensor, ...], Tensor]] = []
    handles = [
        module.register_forward_hook(lambda module, inputs, output: found.append((inputs, output)))
        for module in network.modules()
        if isinstance(module, kind)
    ]
    with torch.no_grad():
        network(Batch.of(data, slice(0, len(data))))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("hidden", [(8,), (8, 4)])
def test_the_reading_is_the_weighted_sum_of_the_events(hidden: tuple[int, ...]) -> None:
    """Where one hidden layer lets the compiled kernel read, its weights are those of the plain path."""
    torch.manual_seed(0)
    attention = TargetAttention(6, hidden)
    target, events, mask = torch.randn(3, 2, 6), torch.randn(3, 5, 6), torch.rand(3, 5) > 0.4
    weights = attention.weights(target, events, mask)
    assert weights.shape == (3, 2, 5)
    torch.testing.assert_close(weights @ events, attention(target, events, mask), rtol=1e-4, atol=1e-5)
    pairs = torch.cat([(attention.of_target(target[0, 0]) + attention.of_event(events[0, 1])
                        + attention.of_pair(target[0, 0] * events[0, 1])).relu()[None]])  # fmt: skip
    expected = attention.score(attention.tower(pairs))[0, 0] * mask[0, 1]
    torch.testing.assert_close(weights[0, 0, 1], expected)


@pytest.mark.parametrize("name", ["mdaf", "din"])
def test_the_weights_of_a_network_give_its_readings(name: str) -> None:
    network, data = make({"name": name}), rows()
    (weights,) = attention_weights(network, data)
    readings = watched(network, TargetAttention, data)
    assert len(weights) == len(readings) == (2 if name == "mdaf" else 1)
    for found, ((_, events, _), reading) in zip(weights.values(), readings, strict=True):
        expected = (torch.from_numpy(found).float().unsqueeze(1) @ events).squeeze(1)
        torch.testing.assert_close(expected, reading[:, 0], rtol=1e-4, atol=1e-5)
        empty = data.sequences["seen_items"][:] == 0
        assert not found[empty].any()
        assert found[~empty].any()


@pytest.mark.parametrize("name", ["augru", "sim_soft", "eta", "twin"])
def test_the_weights_of_some_sum_to_one(name: str) -> None:
    data = rows()
    (found,) = attention_weights(make({"name": "din", "history": {"readouts": [name]}}), data)
    (weights,) = found.values()
    some = (data.sequences["seen_items"][:] > 0).any(axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), some.astype(float), atol=1e-6)


def test_a_network_without_attention_has_no_weights() -> None:
    assert attention_weights(make({"name": "fm"}), rows()) == ({},)
    assert attention_weights(make({"name": "mdaf"}, MAPS["no history"]), rows(MAPS["no history"])) == ()
    assert fusion_gates(make({"name": "fm"}), rows()) == ()


def test_the_mixture_of_a_soft_fusion() -> None:
    network = make({"name": "mdaf"})
    fusion = next(module for module in network.modules() if isinstance(module, SoftFusion))
    with torch.no_grad():
        fusion.mixture.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    (found,) = fusion_gates(network, rows())
    assert isinstance(found, FusionShares)
    assert found.name == "heads.backbone.fusion"
    expected = np.exp([0.0, 1.0, -1.0, 2.0]) / np.exp([0.0, 1.0, -1.0, 2.0]).sum()
    assert list(found.shares.values()) == pytest.approx(expected.tolist())
    assert tuple(found.shares) == OPERATIONS


def test_a_context_gate_is_what_its_output_lies_between_its_branches() -> None:
    network, data = make({"name": "mdaf", "fusion": {"name": "context_gate"}}), rows(count=40)
    (found,) = fusion_gates(network, data)
    (((branches, _), output),) = watched(network, ContextGate, data)
    a, b = branches.double().unbind(1)
    clear = (a - b).abs() > 0.05  # elsewhere the division is by almost nothing
    gate = torch.where(clear, (output.double() - b) / (a - b), torch.nan).numpy()
    assert isinstance(found, GateDistribution)
    assert (found.first, found.second) == ("cross", "behaviour")
    np.testing.assert_allclose(found.by_row, np.nanmean(gate, axis=1), atol=5e-3)
    np.testing.assert_allclose(found.by_dimension, np.nanmean(gate, axis=0), atol=2e-2)
    content = found.to_dict()
    assert content["mean"] == pytest.approx(found.by_row.mean())
    assert content["quantiles_over_rows"][2] == pytest.approx(np.median(found.by_row))
