"""Interactions of vectors in pairs: dot products and bilinear forms, each pair once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError

BilinearForm: TypeAlias = Literal["all", "each", "interaction"]


class DotProducts(nn.Module):
    """Dot products of all pairs, as in DLRM (Naumov et al., arXiv 1906.00091).

    Args:
        vectors: N, two at least.

    Attributes:
        outputs: P = N (N - 1) / 2, of the pairs (0, 1), (0, 2), ..., (1, 2), ...
    """

    pairs: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        left, right = torch.triu_indices(vectors, vectors, offset=1)
        self.register_buffer("pairs", left * vectors + right, persistent=False)
        self.outputs = len(self.pairs)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, P]`."""
        products = vectors @ vectors.transpose(1, 2)  # [B, N, N]
        return products.flatten(1).index_select(1, self.pairs)


class BilinearInteraction(nn.Module):
    """The bilinear interactions of FiBiNET (Huang et al., RecSys 2019, arXiv 1905.09433).

    A pair of vectors i < j gives p_ij = (v_i W) * v_j, a Hadamard product after a matrix that is

    - "all": the same for all pairs,
    - "each": W_i, of the pair's first vector,
    - "interaction": W_ij, of the pair alone.

    Args:
        vectors: N, two at least.
        width: d.
        form: which matrix.

    Attributes:
        outputs: P d, with P = N (N - 1) / 2.
    """

    def __init__(self, vectors: int, width: int, form: BilinearForm) -> None:
        super().__init__()
        self.form = form
        pairs = vectors * (vectors - 1) // 2
        self.outputs = pairs * width
        # The last vector is never the first of a pair.
        matrices = {"all": 1, "each": vectors - 1, "interaction": pairs}[form]
        # Glorot's variance for each d x d matrix; `xavier_normal_` would take all of them for one tall layer.
        self.weight = nn.Parameter(torch.randn(matrices, width, width) * width**-0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, P d]`, pair after pair: (0, 1), (0, 2), ..., (1, 2), ..."""
        # All pairs of a first vector at once. A gather of all pairs at once would copy each vector N times.
        products = []
        for i, matrices in enumerate(self._matrices(vectors.shape[1])):
            left = vectors[:, i] @ matrices
            left = left.reshape(
                len(vectors), left.shape[1] // vectors.shape[2], vectors.shape[2]
            )  # [B, pairs or 1, d]
            products.append((left * vectors[:, i + 1 :]).flatten(1))
        return torch.cat(products, dim=1)

    def _matrices(self, vectors: int) -> Sequence[Tensor]:
        """The matrices of each first vector side by side: `[d, pairs d]`, or the one of all its pairs."""
        if self.form == "interaction":
            of_first = torch.split(self.weight, list(range(vectors - 1, 0, -1)))
            return [matrices.transpose(0, 1).flatten(1) for matrices in of_first]
        return self.weight.expand(vectors - 1, -1, -1).unbind()


class BilinearFusion(nn.Module):
    """The bilinear form that joins the two streams of FinalMLP (Mao et al., AAAI 2023, arXiv 2304.00902):

        x^T W y = sum over heads h of x_h^T W_h y_h

    with x and y cut into one piece for each head. The output is what each dimension of y adds to the form, so
    that a linear layer can weigh the dimensions for each task. With all weights 1 it gives the form itself.

    Args:
        first: width of x.
        second: width of y.
        heads: H, a divisor of both.

    Raises:
        ConfigError: H does not divide both widths.
    """

    def __init__(self, first: int, second: int, heads: int = 1) -> None:
        super().__init__()
        for width in (first, second):
            if width % heads:
                raise ConfigError(
                    f"{heads} heads do not divide a stream of width {width}",
                    hint="Give a number of heads that divides the last widths of both streams",
                )
        self.heads = heads
        products = first * second // heads  # summed to one number: Glorot's variance for a single output
        self.weight = nn.Parameter(
            torch.randn(heads, first // heads, second // heads) * (2 / (products + 1)) ** 0.5
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """`[B, first], [B, second] -> [B, second]`, whose sum is the bilinear form."""
        pieces = x.reshape(len(x), self.heads, x.shape[1] // self.heads).transpose(0, 1)  # [H, B, first / H]
        return (pieces @ self.weight).transpose(0, 1).flatten(1) * y
