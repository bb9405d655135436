"""torch-rechub's heads with our weights, where it is installed: the same probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctrkit.config import build
from ctrkit.models.dnn import DNN, DNNConfig
from ctrkit.models.heads.base import HEADS, Heads
from tests.models.heads.toys import FLAT, TASKS, rows, shape_of

multi_task: Any = pytest.importorskip("torch_rechub.models.multi_task")
DenseFeature: Any = pytest.importorskip("torch_rechub.basic.features").DenseFeature

BOTTOM = {"dims": [7, 4]}
TOWER = {"dims": [6]}
TOWERS = [TOWER] * len(TASKS)
FEATURES = [DenseFeature("x", embed_dim=FLAT)]


class Given(nn.Module):
    """Embeddings that are handed in as they are."""

    def forward(self, x: Tensor, features: Any, squeeze_dim: bool) -> Tensor:
        return x if squeeze_dim else x.unsqueeze(1)


def ours(content: dict[str, Any], tasks: tuple[str, ...] = TASKS) -> Heads:
    torch.manual_seed(0)
    shape, config = shape_of(tasks), build(HEADS[content["name"]].config_class, {**content, "towers": [6]})
    heads = HEADS[content["name"]](config, lambda: DNN(DNNConfig(hidden=(7, 4)), shape), shape)
    return heads.double()


def linears(modules: Iterable[nn.Module]) -> list[nn.Linear]:
    return [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]


@torch.no_grad()
def carry(ours: Iterable[nn.Module], theirs: Iterable[nn.Module]) -> None:
    """Give the linear layers of theirs the weights of ours, and no bias where ours has none."""
    for source, target in zip(linears(ours), linears(theirs), strict=True):
        target.weight.copy_(source.weight)
        if target.bias is not None:
            target.bias.copy_(source.bias if source.bias is not None else torch.zeros_like(target.bias))


def prepared(peer: Any) -> Any:
    """A peer that reads embeddings, and whose batch norms (it has one after every layer) change nothing."""
    peer.embedding = Given()
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 0.0
    return peer.double().eval()


def assert_same(heads: Heads, peer: Any) -> None:
    inputs = rows(50, 3.0)
    torch.testing.assert_close(peer(inputs.vectors.flatten(1)), heads(inputs).logits.sigmoid())


def test_mmoe() -> None:
    heads = ours({"name": "mmoe", "experts": 3})
    peer = prepared(multi_task.MMOE(FEATURES, ["classification"] * 3, 3, BOTTOM, TOWERS))
    carry(heads.backbones, peer.experts)
    carry(heads.gates, peer.gates)
    carry(heads.towers, peer.towers)
    assert_same(heads, peer)


def test_ple() -> None:
    content = {"name": "ple", "layers": 3, "task_experts": 2, "shared_experts": 2, "expert_widths": [7, 4]}
    heads = ours(content)
    peer = prepared(multi_task.PLE(FEATURES, ["classification"] * 3, 3, 2, 2, BOTTOM, TOWERS))
    experts = [heads.backbones, *(layer.experts for layer in heads.layers)]
    gates = [heads.first.gates, *(layer.gates.gates for layer in heads.layers)]
    for of_layer, gates_of_layer, layer in zip(experts, gates, peer.cgc_layers, strict=True):
        carry(of_layer, [*layer.experts_specific, *layer.experts_shared])
        shared = [layer.gate_shared] if hasattr(layer, "gate_shared") else []
        carry(gates_of_layer, [*layer.gates_specific, *shared])
    carry(heads.towers, peer.towers)
    assert_same(heads, peer)


def test_aitm() -> None:
    heads = ours({"name": "aitm"})
    peer = prepared(multi_task.AITM(FEATURES, 3, BOTTOM, TOWERS))
    carry(heads.backbones, peer.bottoms)
    carry(heads.towers, peer.towers)
    for transfer, gate, attention in zip(heads.transfers, peer.info_gates, peer.aits, strict=True):
        carry([transfer.information], [gate])
        ordered = [transfer.query, transfer.key, transfer.value]
        carry(ordered, [attention.q_layer, attention.k_layer, attention.v_layer])
    assert_same(heads, peer)


def test_esmm() -> None:
    heads, inputs = ours({"name": "esmm"}, TASKS[:2]), rows(50, 3.0)
    tower = {"dims": [*BOTTOM["dims"], *TOWER["dims"]]}
    peer = prepared(multi_task.ESMM(FEATURES, FEATURES, tower, tower))
    for task, theirs in enumerate((peer.tower_ctr, peer.tower_cvr)):
        # It has two groups of features and reads both: ours is the first, and the second is ignored.
        carry([heads.backbones[task], heads.towers[task]], [widened(theirs)])
    conversion, click, both = peer(inputs.vectors.flatten(1)).unbind(dim=1)
    p = heads(inputs).logits.sigmoid()
    torch.testing.assert_close(torch.stack([click, conversion], dim=1), p)
    torch.testing.assert_close(both, p.prod(dim=1))


@torch.no_grad()
def widened(tower: nn.Module) -> nn.Module:
    """A view of a tower without the second half of what its first layer reads, which is set to zero."""
    first = linears([tower])[0]
    first.weight.zero_()
    view = nn.Linear(FLAT, first.out_features).double()
    view.weight, view.bias = nn.Parameter(first.weight[:, :FLAT]), first.bias
    return nn.ModuleList([view, *linears([tower])[1:]])
