"""Whole models against those of DeepCTR-Torch: the same weights, the same probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.nn.cin import CIN
from ctrkit.nn.cross_layers import CrossStack, MatrixCross, MixtureCross, VectorCross
from ctrkit.nn.first_order import FirstOrder
from ctrkit.nn.mlp import MLP

peers = pytest.importorskip("deepctr_torch.models")

IDS, WIDTH, HIDDEN = 7, 8, (16, 12)
NAMES = ("user", "item", "hour", "place")
MAP = FeatureMap(tables=dict.fromkeys(NAMES, IDS), categorical={name: name for name in NAMES})


def rows(ids: torch.Tensor) -> Batch:
    count = len(ids)
    return Batch(ids.int(), torch.zeros(count, 0), {}, torch.zeros(count, 0), torch.ones(count))


def part(model: CtrModel, kind: type[nn.Module]) -> Any:
    return next(module for module in model.modules() if isinstance(module, kind))


def linears(module: nn.Module) -> Iterator[nn.Linear]:
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear))


@torch.no_grad()
def carry_embeddings(ours: CtrModel, theirs: Any) -> None:
    """Embeddings, first-order weights where we have them, and the deep network."""
    every = rows(torch.arange(IDS)[:, None].expand(-1, len(NAMES)))
    vectors = ours.embedding.fields(every)
    first_order = [module for module in ours.modules() if isinstance(module, FirstOrder)]
    weights = first_order[0](every, None) if first_order else torch.zeros(IDS, len(NAMES))
    for column, name in enumerate(NAMES):
        theirs.embedding_dict[name].weight.copy_(vectors[:, column])
        theirs.linear_model.embedding_dict[name].weight.copy_(weights[:, column : column + 1])
    for mine, yours in zip(linears(part(ours, MLP)), theirs.dnn.linears, strict=True):
        yours.load_state_dict(mine.state_dict())


@torch.no_grad()
def carry_last_layer(ours: CtrModel, theirs: Any, *layers: nn.Linear) -> None:
    widths = [layer.in_features for layer in layers]
    read = ours.last_layer.weight
    for layer, weight in zip(layers, read[:, : sum(widths)].split(widths, dim=1), strict=True):
        layer.weight.copy_(weight)
    theirs.out.bias.copy_(ours.last_layer.bias)


def make_pair(peer: str, content: dict[str, Any], **options: Any) -> tuple[CtrModel, Any]:
    torch.manual_seed(0)
    columns = [peers_inputs().SparseFeat(name, IDS, WIDTH) for name in NAMES]
    theirs = getattr(peers, peer)(columns, columns, dnn_hidden_units=HIDDEN, **options).eval()
    # Large enough embeddings, so that products of them count.
    embedding = {"width": WIDTH, "std": 0.7}
    model = build_model(model_config({"embedding": embedding, "hidden": HIDDEN, **content}), MAP).eval()
    carry_embeddings(model, theirs)
    return model, theirs


def peers_inputs() -> Any:
    return pytest.importorskip("deepctr_torch.inputs")


def assert_equal(ours: CtrModel, theirs: Any) -> None:
    torch.manual_seed(2)
    ids = torch.randint(1, IDS, (30, len(NAMES)))
    with torch.no_grad():
        logits, probabilities = ours(rows(ids)).logits, theirs(ids.float())
    assert float(logits.std()) > 0.02
    torch.testing.assert_close(logits.sigmoid(), probabilities, rtol=1e-5, atol=1e-6)


def test_deepfm() -> None:
    ours, theirs = make_pair("DeepFM", {"name": "deepfm"})
    carry_last_layer(ours, theirs, theirs.dnn_linear)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("halves", [False, True])
def test_xdeepfm(halves: bool) -> None:
    ours, theirs = make_pair(
        "xDeepFM",
        {"name": "xdeepfm", "maps": (6, 4), "split_half": halves, "activation": "relu"},
        cin_layer_size=(6, 4),
        cin_split_half=halves,
    )
    carry_last_layer(ours, theirs, theirs.dnn_linear, theirs.cin_linear)
    with torch.no_grad():
        for weight, convolution in zip(part(ours, CIN).weights, theirs.cin.conv1ds, strict=True):
            convolution.weight.copy_(weight.flatten(1).unsqueeze(2))
            convolution.bias.zero_()
    assert_equal(ours, theirs)


@pytest.mark.parametrize(("name", "form"), [("dcn", "vector"), ("dcnv2", "matrix")])
def test_dcn_and_dcnv2(name: str, form: str) -> None:
    ours, theirs = make_pair("DCN", {"name": name, "layers": 2}, cross_num=2, cross_parameterization=form)
    carry_last_layer(ours, theirs, theirs.dnn_linear)
    with torch.no_grad():
        for number, layer in enumerate(part(ours, CrossStack).layers):
            bias = layer.b if isinstance(layer, VectorCross) else layer.w.bias
            assert isinstance(layer, VectorCross | MatrixCross)
            theirs.crossnet.bias[number, :, 0] = bias.normal_()
            weight = layer.w.weight
            theirs.crossnet.kernels[number] = weight.T if isinstance(layer, VectorCross) else weight
    assert_equal(ours, theirs)


def test_mixture_of_dcnv2() -> None:
    mixture = {"rank": 3, "experts": 2}
    ours, theirs = make_pair(
        "DCNMix", {"name": "dcnv2", "layers": 2, "mixture": mixture}, cross_num=2, low_rank=3, num_experts=2
    )
    carry_last_layer(ours, theirs, theirs.dnn_linear)
    gates = torch.cat([gate.weight.detach() for gate in theirs.crossnet.gating])  # the same in each layer
    with torch.no_grad():
        for number, layer in enumerate(part(ours, CrossStack).layers):
            assert isinstance(layer, MixtureCross)
            assert layer.c is not None
            assert layer.gate is not None
            layer.gate.weight.copy_(gates)
            theirs.crossnet.V_list[number] = layer.v.weight.unflatten(0, (2, 3)).transpose(1, 2)
            theirs.crossnet.U_list[number] = layer.u.weight.unflatten(1, (2, 3)).transpose(0, 1)
            theirs.crossnet.C_list[number] = layer.c
            theirs.crossnet.bias[number, :, 0] = layer.u.bias.normal_()
    assert_equal(ours, theirs)
