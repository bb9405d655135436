"""Fusion of two branches of equal width into one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftFusion(nn.Module):
    """A learned softmax mixture of four operations, those of OptFusion (Zhang et al., arXiv 2411.15731):

    sum, product, concatenation with a linear layer, and attention: the sum of softmax(linear(x)) * x over
    the branches. The softmax runs over dimensions and is scaled by their number, so that its weights are 1
    on average and no operation starts out weaker than the others.
    """

    OPERATIONS = ("add", "product", "concatenation", "attention")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.zeros(len(self.OPERATIONS)))
        self.concatenation = nn.Linear(2 * width, width)
        self.attention = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """`[B, width], [B, width] -> [B, width]`."""
        attended = [
            torch.softmax(scores(x), dim=-1) * x.shape[-1] * x
            for scores, x in zip(self.attention, (a, b), strict=True)
        ]
        concatenated = self.concatenation(torch.cat([a, b], dim=-1))
        results = torch.stack([a + b, a * b, concatenated, attended[0] + attended[1]], dim=-1)
        return results @ torch.softmax(self.mixture, dim=0)

    def weights(self) -> dict[str, float]:
        """The share of each operation in the mixture."""
        shares = torch.softmax(self.mixture.detach(), dim=0).tolist()
        return dict(zip(self.OPERATIONS, shares, strict=True))


class ContextGate(nn.Module):
    """`g * a + (1 - g) * b` with g = sigmoid(linear([a, b, context])) for each dimension.

    Args:
        width: of both branches.
        context: width of the context, the user's profile for instance.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width + context, width)

    def forward(self, a: Tensor, b: Tensor, context: Tensor) -> Tensor:
        """`[B, width], [B, width], [B, context] -> [B, width]`."""
        g = torch.sigmoid(self.gate(torch.cat([a, b, context], dim=-1)))
        return g * a + (1 - g) * b
