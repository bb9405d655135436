from __future__ import annotations

import numpy as np
import pytest
import torch

from ctrkit.nn.cross_layers import CrossLayer, CrossStack, MatrixCross, MixtureCross, VectorCross

WIDTH = 6


def noisy(layer: CrossLayer) -> CrossLayer:
    """With biases that are not zero."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name in ("b", "w.bias", "u.bias"):
                parameter.normal_()
    return layer


def states() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(4, WIDTH), torch.randn(4, WIDTH)


def test_vector_layer_by_hand() -> None:
    torch.manual_seed(0)
    layer = VectorCross(WIDTH)
    noisy(layer)
    x0, x = states()
    w = layer.w.weight[0].detach()
    for row in range(4):
        outer = torch.outer(x0[row], x[row])  # as the paper has it: x0 x' w + b + x
        torch.testing.assert_close(layer(x0, x)[row], outer @ w + layer.b + x[row])


def test_matrix_layer_by_hand() -> None:
    torch.manual_seed(0)
    layer = MatrixCross(WIDTH)
    noisy(layer)
    x0, x = states()
    for row in range(4):
        for i in range(WIDTH):
            inner = sum(layer.w.weight[i, j] * x[row, j] for j in range(WIDTH)) + layer.w.bias[i]
            torch.testing.assert_close(layer(x0, x)[row, i], x0[row, i] * inner + x[row, i])


@pytest.mark.parametrize("experts", [1, 3])
def test_mixture_by_hand(experts: int) -> None:
    torch.manual_seed(0)
    rank = 2
    layer = MixtureCross(WIDTH, rank, experts)
    noisy(layer)
    assert layer.c is not None
    x0, x = states()
    for row in range(4):
        gates = torch.ones(1) if layer.gate is None else torch.softmax(layer.gate.weight @ x[row], dim=0)
        expected = x[row]
        for i in range(experts):
            own = slice(i * rank, (i + 1) * rank)
            u, v, c = layer.u.weight[:, own], layer.v.weight[own], layer.c[i]
            expert = x0[row] * (u @ torch.tanh(c @ torch.tanh(v @ x[row])) + layer.u.bias)
            expected = expected + gates[i] * expert
        torch.testing.assert_close(layer(x0, x)[row], expected)


def test_matrices_of_equal_rows_are_vectors() -> None:
    torch.manual_seed(0)
    vectors = CrossStack(VectorCross(WIDTH) for _ in range(3))
    matrices = CrossStack(MatrixCross(WIDTH) for _ in range(3))
    with torch.no_grad():
        for matrix, vector in zip(matrices.layers, vectors.layers, strict=True):
            matrix.w.weight.copy_(vector.w.weight.expand(WIDTH, -1))  # rank one: 1 w'
    x0, _ = states()
    torch.testing.assert_close(matrices(x0), vectors(x0))


def test_one_expert_without_activation_is_a_matrix() -> None:
    torch.manual_seed(0)
    low, full = MixtureCross(WIDTH, 2, activation="identity"), MatrixCross(WIDTH)
    noisy(low)
    with torch.no_grad():
        full.w.weight.copy_(low.u.weight @ low.v.weight)
        full.w.bias.copy_(low.u.bias)
    assert low.c is None
    assert low.gate is None
    x0, x = states()
    torch.testing.assert_close(low(x0, x), full(x0, x))


def test_alike_experts_are_one() -> None:
    torch.manual_seed(0)
    one, three = MixtureCross(WIDTH, 2, 1), MixtureCross(WIDTH, 2, 3)
    noisy(one)
    assert one.c is not None
    assert three.c is not None
    with torch.no_grad():
        three.v.weight.copy_(one.v.weight.repeat(3, 1))
        three.u.weight.copy_(one.u.weight.repeat(1, 3))
        three.u.bias.copy_(one.u.bias)
        three.c.copy_(one.c.expand(3, -1, -1))
    x0, x = states()
    torch.testing.assert_close(three(x0, x), one(x0, x))


@pytest.mark.parametrize("kind", [VectorCross, MatrixCross, lambda w: MixtureCross(w, 2, 1, "identity")])
def test_order_of_interactions(kind: type[VectorCross]) -> None:
    # Three layers are a polynomial of degree 4 along a ray: its fifth differences vanish.
    torch.manual_seed(0)
    stack = CrossStack(kind(WIDTH) for _ in range(3)).double()
    ray = torch.randn(1, WIDTH, dtype=torch.float64) * torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    states = stack(ray).detach().numpy()
    fourth, fifth = np.diff(states, n=4, axis=0), np.diff(states, n=5, axis=0)
    assert np.abs(fifth).max() < 1e-9 * np.abs(fourth).max()


@pytest.mark.parametrize("experts", [1, 4])
def test_sizes_of_a_mixture(experts: int) -> None:
    matrices = experts * (2 * WIDTH * 3 + 3 * 3)
    gates = WIDTH * experts if experts > 1 else 0
    assert sum(p.numel() for p in MixtureCross(WIDTH, 3, experts).parameters()) == matrices + gates + WIDTH


def test_vector_and_matrix_layers_equal_fuxictr_with_its_weights() -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers.interactions.cross_net")
    torch.manual_seed(0)
    x0, _ = states()
    v1, v2 = peers.CrossNet(WIDTH, 3), peers.CrossNetV2(WIDTH, 3)
    vectors = CrossStack(VectorCross(WIDTH) for _ in range(3))
    matrices = CrossStack(MatrixCross(WIDTH) for _ in range(3))
    with torch.no_grad():
        for layer, peer in zip(vectors.layers, v1.cross_net, strict=True):
            layer.w.weight.copy_(peer.weight.weight)
            layer.b.copy_(peer.bias.normal_())
        for layer, peer in zip(matrices.layers, v2.cross_layers, strict=True):
            layer.w.load_state_dict(peer.state_dict())
    torch.testing.assert_close(vectors(x0), v1(x0))
    torch.testing.assert_close(matrices(x0), v2(x0))


def test_mixture_equals_deepctr_torch_with_its_weights() -> None:
    peers = pytest.importorskip("deepctr_torch.layers.interaction")
    torch.manual_seed(0)
    rank, experts = 2, 3
    peer = peers.CrossNetMix(WIDTH, rank, experts, 2)
    layers = [MixtureCross(WIDTH, rank, experts) for _ in range(2)]
    with torch.no_grad():
        peer.bias.normal_()
        for number, layer in enumerate(layers):
            assert layer.c is not None
            assert layer.gate is not None
            layer.v.weight.copy_(peer.V_list[number].transpose(1, 2).flatten(0, 1))
            layer.u.weight.copy_(peer.U_list[number].transpose(0, 1).flatten(1))
            layer.u.bias.copy_(peer.bias[number, :, 0])
            layer.c.copy_(peer.C_list[number])
            layer.gate.weight.copy_(
                torch.cat([gate.weight for gate in peer.gating])
            )  # the same in each layer
    x0, _ = states()
    torch.testing.assert_close(CrossStack(layers)(x0), peer(x0))
