"""SimHash: codes of vectors by the signs of random projections."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SimHash(nn.Module):
    """One bit for each random direction: whether the projection of a vector is positive.

    The bits of two vectors with the angle a differ with the probability a / pi ("Similarity Estimation
    Techniques from Rounding Algorithms", Charikar, STOC 2002). The directions are drawn once and kept with
    the weights. They are not trained, and no gradient passes.

    Args:
        width: width of the vectors.
        bits: number of directions.
    """

    directions: Tensor

    def __init__(self, width: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(width, bits))

    def forward(self, vectors: Tensor) -> Tensor:
        """`[..., width] -> bool [..., bits]`."""
        return vectors.detach() @ self.directions > 0
