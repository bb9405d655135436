"""Wukong's building blocks: layers that multiply vectors in pairs and keep their number small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctrkit.nn.mask_block import check_normalised
from ctrkit.nn.mlp import MLP


class Compression(nn.Linear):
    """Weighted sums of vectors, W X, without a bias: Wukong's linear compression block.

    Args:
        vectors: n, the number of vectors.
        sums: m, the number of sums.
    """

    def __init__(self, vectors: int, sums: int) -> None:
        super().__init__(vectors, sums, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, n, d] -> [B, m, d]`."""
        return super().forward(vectors.transpose(1, 2)).transpose(1, 2)


class FactorizationMachineBlock(nn.Module):
    """Wukong's factorization machine block: new vectors from the inner products of all vectors X.

        output = reshape(MLP(LN(flatten(X Xᵀ Y))))

    The factorization machine's n x n matrix of inner products X Xᵀ is projected to n x k by learned weights
    Y. As Xᵀ Y comes first, that matrix is never formed. The last layer of the MLP is linear.

    Args:
        vectors: n, the number of vectors.
        width: d, their width.
        outputs: m, the number of new vectors.
        rank: k, the number of columns of Y.
        hidden: widths of the MLP.
        dropout: dropout rate in the MLP.
    """

    def __init__(
        self, vectors: int, width: int, outputs: int, rank: int, hidden: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.projection = Compression(vectors, rank)
        self.norm = nn.LayerNorm(vectors * rank)
        self.mlp = MLP(vectors * rank, hidden, dropout)
        self.last = nn.Linear(self.mlp.outputs, outputs * width)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, n, d] -> [B, m, d]`."""
        products = vectors @ self.projection(vectors).transpose(1, 2)  # [B, n, k]
        made = self.last(self.mlp(self.norm(products.flatten(1))))
        outputs: Tensor = made.unflatten(1, (-1, vectors.shape[2]))
        return outputs


class WukongLayer(nn.Module):
    """A layer of "Wukong: Towards a Scaling Law for Large-Scale Recommendation" (Zhang et al., ICML 2024,
    arXiv 2403.02545):

        X' = LN([FMB(X); W X] + residual)

    with the vectors of the factorization machine block before those of the linear compression block. The
    residual is X, or sums of its vectors with learned weights where the number of vectors changes. Each
    vector is normalised by itself.

    Args:
        vectors: n, the number of vectors.
        width: d, their width.
        fm_vectors: number of vectors from the factorization machine block.
        linear_vectors: number of vectors from the linear compression block.
        rank: rank of the projected inner products.
        hidden: widths of the factorization machine block's MLP.
        dropout: dropout rate in that MLP.

    Attributes:
        outputs: number of vectors that the layer gives.

    Raises:
        ConfigError: d is 1, where normalisation removes all information.
    """

    def __init__(
        self,
        vectors: int,
        width: int,
        fm_vectors: int,
        linear_vectors: int,
        rank: int,
        hidden: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_normalised(width)
        self.outputs = fm_vectors + linear_vectors
        self.products = FactorizationMachineBlock(vectors, width, fm_vectors, rank, hidden, dropout)
        self.linear = Compression(vectors, linear_vectors)
        self.residual = Compression(vectors, self.outputs) if vectors != self.outputs else nn.Identity()
        self.norm = nn.LayerNorm(width)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, n, d] -> [B, outputs, d]`."""
        made = torch.cat([self.products(vectors), self.linear(vectors)], dim=1)
        normalised: Tensor = self.norm(made + self.residual(vectors))
        return normalised
