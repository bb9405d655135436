"""CIN, the compressed interaction network of xDeepFM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctrkit.errors import ConfigError

# Number of pair products computed at a time. On a CPU they stay in the cache (a quarter to one million is
# fastest); elsewhere the limit only bounds memory.
_CPU_PRODUCTS = 1 << 20
_DEVICE_PRODUCTS = 1 << 27


def compress(x: Tensor, x0: Tensor, weight: Tensor) -> Tensor:
    """All products of an entry of x with an entry of x0, compressed: `[N, H], [N, F] -> [N, M]`.

        y_m = sum over h, f of weight[m, h, f] x_h x0_f

    Args:
        x: `[N, H]`.
        x0: `[N, F]`.
        weight: `[M, H, F]`.
    """
    if torch.compiler.is_compiling():  # torch.compile and torch.export trace operations, not Functions
        return _products(x, x0) @ weight.flatten(1).t()
    y: Tensor = _Compress.apply(x, x0, weight)  # type: ignore[no-untyped-call]
    return y


def _products(x: Tensor, x0: Tensor, out: Tensor | None = None) -> Tensor:
    """`[N, H], [N, F] -> [N, H * F]`."""
    return torch.mul(x.unsqueeze(2), x0.unsqueeze(1), out=out).flatten(1)


class _Compress(torch.autograd.Function):
    """`compress` over chunks of rows, which never holds the products of all rows.

    The products are H x F numbers for each row, hundreds of times the input and output. The backward pass
    computes them again: one multiplication each costs less than reading them from memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, x0, weight)
        y = x.new_empty(len(x), len(weight))
        matrix = weight.flatten(1).t()
        for rows, (space,) in _chunks(x, x0, buffers=1):
            torch.mm(_products(x[rows], x0[rows], out=space), matrix, out=y[rows])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, x0, weight = ctx.saved_tensors
        grad_x, grad_x0 = torch.empty_like(x), torch.empty_like(x0)
        matrix = weight.flatten(1)
        grad_matrix = torch.zeros_like(matrix)
        for rows, (space, grad_products) in _chunks(x, x0, buffers=2):
            grad_y = grads[0][rows]
            grad_matrix.addmm_(grad_y.t(), _products(x[rows], x0[rows], out=space))
            torch.mm(grad_y, matrix, out=grad_products.flatten(1))
            grad_x[rows] = (grad_products @ x0[rows].unsqueeze(2)).squeeze(2)
            grad_x0[rows] = (x[rows].unsqueeze(1) @ grad_products).squeeze(1)
        return grad_x, grad_x0, grad_matrix.view_as(weight)


def _chunks(x: Tensor, x0: Tensor, buffers: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Slices of the rows, and for each slice buffers `[rows, H, F]` with arbitrary content."""
    products = x.shape[1] * x0.shape[1]
    size = max(1, (_CPU_PRODUCTS if x.device.type == "cpu" else _DEVICE_PRODUCTS) // products)
    space = [x.new_empty(min(size, len(x)), x.shape[1], x0.shape[1]) for _ in range(buffers)]
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        yield rows, [buffer[: rows.stop - start] for buffer in space]


class CIN(nn.Module):
    """The compressed interaction network of "xDeepFM" (Lian et al., KDD 2018, arXiv 1803.05170).

    Layer k makes M_k feature maps (vectors of width d) from all products of a map of the layer before with a
    field. They are interactions of order k + 1 only.

        X^k_m = g(sum over h, f of W^k[m, h, f] X^{k-1}_h * X^0_f)

    Each map of every layer, summed over its d numbers, is one output.

    Args:
        fields: F, number of vectors.
        maps: M_1, M_2, ...
        activation: g. The paper found the identity best.
        split_half: whether the first half of a layer's maps goes to the next layer and only the second half
            is output, as in the authors' code. It halves the work. The last layer is not split.

    Attributes:
        outputs: number of outputs.

    Raises:
        ConfigError: there is no layer, or a layer that is split has an odd number of maps.
    """

    def __init__(
        self,
        fields: int,
        maps: Sequence[int],
        activation: Literal["identity", "relu"] = "identity",
        split_half: bool = False,
    ) -> None:
        super().__init__()
        if not maps:
            raise ConfigError("a CIN needs at least one layer", hint="Give the number of maps of each layer")
        odd = [number for number in maps[:-1] if split_half and number % 2]
        if odd:
            raise ConfigError(
                f"a CIN layer of {odd[0]} maps cannot be split into halves",
                hint="Give every layer but the last an even number of maps",
            )
        kept = [number // 2 if split_half else number for number in maps[:-1]]
        self.split_half, self.relu = split_half, activation == "relu"
        self.outputs = sum(kept) + maps[-1]
        self.weights = nn.ParameterList(
            # X^k keeps the scale of the products.
            torch.randn(number, before, fields) * (before * fields) ** -0.5
            for number, before in zip(maps, (fields, *kept), strict=True)
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, F, d] -> [B, outputs]`."""
        width = vectors.shape[2]
        # One row for each row and dimension, which no layer mixes: then a layer is one matrix product.
        x = x0 = vectors.transpose(1, 2).flatten(0, 1)  # [B * d, F]
        outputs = []
        for layer, weight in enumerate(self.weights, start=1):
            x = compress(x, x0, weight)
            if self.relu:
                x = torch.relu(x)
            output = x
            if self.split_half and layer < len(self.weights):
                x, output = x.chunk(2, dim=1)
            outputs.append(output)
        return torch.cat(outputs, dim=1).reshape(-1, width, self.outputs).sum(dim=1)
