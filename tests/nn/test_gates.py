from __future__ import annotations

from typing import Literal

import pytest
import torch

from ctrkit.nn.gates import EmbeddingGate, FeatureGate, RowGate, SqueezeExcitation

ROWS, VECTORS, WIDTH = 3, 4, 5


def vectors() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(ROWS, VECTORS, WIDTH)


@torch.no_grad()
def test_feature_gates_by_hand() -> None:
    torch.manual_seed(0)
    gate, context = FeatureGate(3, 2, hidden=(4,)), torch.randn(ROWS, 3)
    first = gate.mlp[0]
    for b in range(ROWS):
        h = torch.clamp(first.weight @ context[b] + first.bias, min=0)
        scores = gate.gates.weight @ h + gate.gates.bias
        torch.testing.assert_close(gate(context)[b], 2 / (1 + torch.exp(-scores)))


def test_without_a_context_gates_are_learned_and_start_open() -> None:
    gate = FeatureGate(0, 2, hidden=(4,))
    assert gate(torch.zeros(ROWS, 0)).tolist() == [1.0, 1.0]
    assert [name for name, _ in gate.named_parameters()] == ["constant"]
    with torch.no_grad():
        gate.constant.copy_(torch.tensor([-20.0, 20.0]))
    torch.testing.assert_close(gate(torch.zeros(ROWS, 0)), torch.tensor([0.0, 2.0]))


@pytest.mark.parametrize("gates", [1, WIDTH])
@torch.no_grad()
def test_gates_of_a_row_lie_vector_by_vector(gates: int) -> None:
    row = RowGate(VECTORS, WIDTH, gates)
    row.gate.gates.weight.zero_()
    row.gate.gates.bias.copy_(torch.arange(VECTORS * gates) / 10)
    expected = 2 * torch.sigmoid(torch.arange(VECTORS * gates).reshape(VECTORS, gates) / 10)
    torch.testing.assert_close(row(vectors()), expected.expand(ROWS, -1, -1))


def test_gates_of_a_row_differ_with_any_vector_of_it() -> None:
    torch.manual_seed(0)
    row, v = RowGate(VECTORS, WIDTH, 1), vectors()
    changed = v.clone()
    changed[:, 2] += 1.0
    assert bool((row(changed)[:, 0] != row(v)[:, 0]).all())


@pytest.mark.parametrize("gates", [1, WIDTH])
@torch.no_grad()
def test_gates_of_embeddings_number_by_number(gates: int) -> None:
    torch.manual_seed(0)
    gate, v = EmbeddingGate(VECTORS, WIDTH, gates), vectors()
    for b in range(ROWS):
        for i in range(VECTORS):
            for k in range(gates):
                score = sum(v[b, i, n] * gate.weight[i, n, k] for n in range(WIDTH))
                torch.testing.assert_close(gate(v)[b, i, k], 1 / (1 + torch.exp(-score)))


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@torch.no_grad()
def test_senet_number_by_number(activation: Literal["relu", "sigmoid"]) -> None:
    torch.manual_seed(0)
    senet, v = SqueezeExcitation(VECTORS, 2.0, activation), vectors()
    w1, w2 = senet.squeeze.weight, senet.excite.weight
    assert w1.shape == (2, VECTORS)
    for b in range(ROWS):
        z = torch.stack([v[b, i].sum() / WIDTH for i in range(VECTORS)])
        scores = w2 @ torch.clamp(w1 @ z, min=0)
        a = torch.clamp(scores, min=0) if activation == "relu" else 1 / (1 + torch.exp(-scores))
        expected = torch.stack([a[i] * v[b, i] for i in range(VECTORS)])
        torch.testing.assert_close(senet(v)[b], expected)


def test_senet_of_few_fields_keeps_one_number() -> None:
    assert SqueezeExcitation(2, 3.0, "relu").squeeze.out_features == 1


@pytest.mark.parametrize("fields", [2, 7])
def test_senet_equals_fuxictr_with_its_weights(fields: int) -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers")
    torch.manual_seed(0)
    for activation in ("relu", "sigmoid"):
        theirs = peers.SqueezeExcitation(fields, 3, activation)
        ours, v = SqueezeExcitation(fields, 3.0, activation), torch.randn(ROWS, fields, WIDTH)  # type: ignore[arg-type]
        first, second = (weight.detach() for weight in theirs.parameters())
        ours.load_state_dict({"squeeze.weight": first, "excite.weight": second})
        torch.testing.assert_close(ours(v), theirs(v))


def test_gates_equal_those_of_fuxictr_with_its_weights() -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers")
    torch.manual_seed(0)
    theirs = peers.MLP_Block(3, [4], output_dim=6, output_activation="Sigmoid")
    ours, context = FeatureGate(3, 6, hidden=(4,)), torch.randn(ROWS, 3)
    names = ("mlp.0.weight", "mlp.0.bias", "gates.weight", "gates.bias")
    ours.load_state_dict(dict(zip(names, (p.detach() for p in theirs.parameters()), strict=True)))
    torch.testing.assert_close(ours(context), 2 * theirs(context))
