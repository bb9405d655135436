from __future__ import annotations

from typing import Any

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.nn import cin
from ctrkit.nn.cin import CIN, compress


def by_hand(network: CIN, vectors: torch.Tensor, halves: bool, relu: bool) -> torch.Tensor:
    """The paper's sums, one product at a time."""
    rows = []
    for fields in vectors:
        maps, outputs = list(fields), []
        for layer, weight in enumerate(network.weights):
            made = []
            for one in weight:
                x = torch.zeros_like(fields[0])
                for h, before in enumerate(maps):
                    for f, field in enumerate(fields):
                        x = x + one[h, f] * before * field
                made.append(x.clamp(min=0) if relu else x)
            half = len(made) // 2 if halves and layer < len(network.weights) - 1 else 0
            maps = made[:half] if half else made
            outputs += [x.sum() for x in made[half:]]
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


@pytest.mark.parametrize("activation", ["identity", "relu"])
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("maps", [(3,), (4, 3), (2, 6, 5)])
def test_equals_the_sums_of_the_paper(maps: tuple[int, ...], halves: bool, activation: Any) -> None:
    torch.manual_seed(0)
    network = CIN(3, maps, activation, split_half=halves).double()
    vectors = torch.randn(2, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = by_hand(network, vectors, halves, activation == "relu")
        torch.testing.assert_close(network(vectors), expected)
    assert expected.shape == (2, network.outputs)


def test_order_of_interactions() -> None:
    torch.manual_seed(0)
    network = CIN(4, (5, 6, 7)).double()
    vectors = torch.randn(3, 4, 2, dtype=torch.float64)
    once, twice = network(vectors).split((5, 6, 7), dim=1), network(2 * vectors).split((5, 6, 7), dim=1)
    for order, (x, y) in enumerate(zip(once, twice, strict=True), start=2):
        torch.testing.assert_close(y, 2**order * x)


@pytest.mark.parametrize("products", [1, 6 * 4, 1 << 20])  # one row, two rows, and all rows at a time
def test_compression_and_its_gradient_in_any_chunks(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cin, "_CPU_PRODUCTS", products)
    torch.manual_seed(0)
    x, x0, weight = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 4), (5, 3), (2, 4, 3))
    )
    expected = torch.einsum("nh,nf,mhf->nm", x, x0, weight)
    torch.testing.assert_close(compress(x, x0, weight), expected)
    assert torch.autograd.gradcheck(compress, (x, x0, weight))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(compress(x, x0, weight), expected)


def test_no_rows_at_all() -> None:
    assert CIN(3, (4, 2))(torch.zeros(0, 3, 5)).shape == (0, 6)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="a CIN layer of 3 maps cannot be split into halves"):
        CIN(3, (4, 3, 2), split_half=True)
    with pytest.raises(ConfigError, match="at least one layer"):
        CIN(3, ())
    assert CIN(3, (4, 3), split_half=True).outputs == 2 + 3  # the last layer is not split


@pytest.mark.parametrize(("activation", "theirs"), [("identity", "linear"), ("relu", "relu")])
@pytest.mark.parametrize("halves", [False, True])
def test_equals_deepctr_torch_with_its_weights(activation: Any, theirs: str, halves: bool) -> None:
    interaction = pytest.importorskip("deepctr_torch.layers.interaction")
    torch.manual_seed(0)
    peer = interaction.CIN(5, (8, 6, 4), theirs, halves)
    network = CIN(5, (8, 6, 4), activation, halves)
    with torch.no_grad():
        for weight, convolution in zip(network.weights, peer.conv1ds, strict=True):
            weight.copy_(convolution.weight.view_as(weight))
            convolution.bias.zero_()  # which the paper does not have
    vectors = torch.randn(6, 5, 3)
    torch.testing.assert_close(network(vectors), peer(vectors))


def test_equals_fuxictr_with_its_weights() -> None:
    peers = pytest.importorskip("fuxictr.pytorch.layers.interactions.compressed_interaction_net")
    torch.manual_seed(0)
    peer, network = peers.CompressedInteractionNet(5, [8, 6, 4]), CIN(5, (8, 6, 4))
    with torch.no_grad():
        for weight, convolution in zip(network.weights, peer.cin_layer.values(), strict=True):
            products = convolution.weight.view(len(weight), 5, -1)  # the field first
            weight.copy_(products.transpose(1, 2))
            convolution.bias.zero_()
    vectors = torch.randn(6, 5, 3)
    torch.testing.assert_close(peer.fc(network(vectors)), peer(vectors))
