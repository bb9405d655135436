from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctrkit.errors import ConfigError
from ctrkit.nn.wukong import Compression, FactorizationMachineBlock, WukongLayer

ROWS, WIDTH = 3, 4


def array(x: torch.Tensor) -> NDArray[np.float64]:
    return x.detach().numpy()


def normalised(x: NDArray[np.float64], norm: Any) -> NDArray[np.float64]:
    deviations = x - x.mean()
    return deviations / np.sqrt((deviations**2).mean() + norm.eps) * array(norm.weight) + array(norm.bias)


def randomised(module: Any) -> Any:
    """The module in double precision, with no weight at the 0 or 1 where it starts."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double()


def factorization_machine(block: Any, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """reshape(MLP(LN(flatten(X Xᵀ Y)))) of one row, from the n x n matrix of all inner products."""
    count = len(x)
    products = np.array([[sum(x[i] * x[j]) for j in range(count)] for i in range(count)])
    y = array(block.projection.weight).T
    flat = [
        sum(products[i, j] * y[j, k] for j in range(count)) for i in range(count) for k in range(y.shape[1])
    ]
    hidden = normalised(np.array(flat), block.norm)
    for layer in block.mlp:
        if isinstance(layer, torch.nn.Linear):
            hidden = np.maximum(array(layer.weight) @ hidden + array(layer.bias), 0)
    return (array(block.last.weight) @ hidden + array(block.last.bias)).reshape(-1, x.shape[1])


def test_compression_by_loops() -> None:
    compression, x = randomised(Compression(5, 2)), torch.randn(ROWS, 5, WIDTH, dtype=torch.float64)
    w, found = array(compression.weight), array(compression(x))
    for b in range(ROWS):
        for m in range(2):
            expected = sum(w[m, i] * array(x)[b, i] for i in range(5))
            np.testing.assert_allclose(found[b, m], expected, rtol=1e-10)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 7)])
def test_factorization_machine_block_by_loops(hidden: tuple[int, ...]) -> None:
    block = randomised(FactorizationMachineBlock(5, WIDTH, 3, 2, hidden))
    x = torch.randn(ROWS, 5, WIDTH, dtype=torch.float64)
    found = array(block(x))
    assert found.shape == (ROWS, 3, WIDTH)
    for b in range(ROWS):
        np.testing.assert_allclose(found[b], factorization_machine(block, array(x[b])), rtol=1e-8)


@pytest.mark.parametrize("linear", [2, 4])  # 5 vectors, as many as before, and 7
def test_layer_by_loops(linear: int) -> None:
    layer = randomised(WukongLayer(5, WIDTH, 3, linear, 2, (6,)))
    x = torch.randn(ROWS, 5, WIDTH, dtype=torch.float64)
    found = array(layer(x))
    assert found.shape == (ROWS, layer.outputs, WIDTH) == (ROWS, 3 + linear, WIDTH)
    for b, row in enumerate(array(x)):
        made = np.concatenate([factorization_machine(layer.products, row), array(layer.linear.weight) @ row])
        residual = row if linear == 2 else array(layer.residual.weight) @ row
        expected = [normalised(vector, layer.norm) for vector in made + residual]
        np.testing.assert_allclose(found[b], expected, rtol=1e-8)


def test_a_layer_adds_its_inputs_where_their_number_stays() -> None:
    assert not list(WukongLayer(5, WIDTH, 3, 2, 2, ()).residual.parameters())
    assert list(WukongLayer(5, WIDTH, 3, 3, 2, ()).residual.parameters())


def test_vectors_of_width_1_cannot_be_normalised() -> None:
    with pytest.raises(ConfigError, match="width 1"):
        WukongLayer(5, 1, 3, 2, 2, ())
