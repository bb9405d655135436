"""Embeddings of numbers: a line, a piecewise linear function, and a vector for a missing number."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctrkit.data.bins import Bins

# A number below all edges, in the place of a missing one: its encoding is 0.
_BELOW = -1e30


class NumberReader(nn.Module):
    """Numbers of a batch as vectors, from weights that are given.

    Each number v of a field is read as

        v * direction + bias + sum_j c_j(v) * step_j,    c_j(v) = clip((v - e_j) / (e_j+1 - e_j), 0, 1),

    where e_j are the edges of the field's bins (see `ctrkit.data.bins.Bins`). This is the interpolation
    between a vector for each edge, which is the sum of the steps below it. Beyond the outermost edges only
    the linear part moves: there are no rows from which a slope of its own could be learned.

    A missing number, NaN, is read as centre * direction + bias + missing + sum_j mean(c_j) * step_j: with
    missing = 0, this is the mean of the field's vectors over the training rows.

    Args:
        bins: the bins of each field.
        centres: the mean of each field's numbers over the training rows.

    Attributes:
        steps: K, the largest number of bins of a field.
    """

    scale: Tensor
    shift: Tensor
    means: Tensor
    centres: Tensor

    def __init__(self, bins: Sequence[Bins], centres: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("centres", torch.tensor(centres), persistent=False)
        self.steps = max((len(one.means) for one in bins), default=0)
        scale, shift, means = torch.zeros(3, len(bins), 1, self.steps, dtype=torch.float64)
        for field, one in enumerate(bins):
            edges, count = torch.tensor(one.edges, dtype=torch.float64), len(one.means)
            scale[field, 0, :count] = 1.0 / edges.diff()
            shift[field, 0, :count] = -edges[:-1] * scale[field, 0, :count]
            means[field, 0, :count] = torch.tensor(one.means, dtype=torch.float64)
        for name, values in (("scale", scale), ("shift", shift), ("means", means)):
            self.register_buffer(name, values.float(), persistent=False)

    def forward(
        self, numbers: Tensor, direction: Tensor, bias: Tensor, steps: Tensor | None, missing: Tensor | None
    ) -> Tensor:
        """The vectors of the numbers, `[B, N, d]`.

        Args:
            numbers: `[B, N]`, NaN where one is missing.
            direction: `[N, d]`.
            bias: `[N, d]`.
            steps: `[N, K, d]`; None without bins.
            missing: `[N, d]`; without it, a missing number is read as the mean number of the training rows.
        """
        known = present(numbers, self.centres)
        if missing is None:
            return known.unsqueeze(-1) * direction + bias
        numbers, known = numbers.t(), known.t()
        absent = numbers.isnan()
        inputs = torch.stack([known, torch.ones_like(known), absent.to(known.dtype)], dim=2)
        if steps is None:
            return torch.bmm(inputs, torch.stack([direction, bias, missing], dim=1)).transpose(0, 1)
        missing = missing + torch.bmm(self.means, steps).squeeze(1)
        line = torch.bmm(inputs, torch.stack([direction, bias, missing], dim=1))
        below = numbers.masked_fill(absent, _BELOW).unsqueeze(2)
        encoding = torch.addcmul(self.shift, below, self.scale).clamp_(0.0, 1.0)
        return torch.baddbmm(line, encoding, steps).transpose(0, 1)


def present(numbers: Tensor, centres: Tensor) -> Tensor:
    """Numbers `[B, N]` with the mean `[N]` of the training rows in the place of missing ones, `[B, N]`."""
    return torch.where(numbers.isnan(), centres, numbers)
