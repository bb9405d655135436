"""DCNv3, also called FCN: cross networks whose order grows linearly or exponentially with depth.

From "FCN: Fusing Exponential and Linear Cross Network for Click-Through Rate Prediction" (Li et al.,
arXiv 2407.13349), in the form of its authors' code, whose outputs these classes reproduce.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError
from ctrkit.nn.scan import check_shapes
from ctrkit.shapes import Shapes

_SHAPES = Shapes("b: D; x: B H D")


def two_views(embeddings: Tensor, heads: int) -> Tensor:
    """Field embeddings as the cross networks' input: `[B, F, d * heads] -> [B, heads, F * d]`.

    Each embedding is cut into one piece of width d for each head, and each piece into two halves. A head's
    vector holds the first halves of all fields, then all second halves. d must be even.
    """
    batch, fields, width = embeddings.shape
    halves = embeddings.reshape(batch, fields, heads, 2, width // heads // 2)
    return halves.permute(0, 2, 3, 1, 4).reshape(batch, heads, fields * width // heads)


class LowRankLinear(nn.Sequential):
    """A linear layer without bias whose matrix is a product of two: `[..., inputs] -> [..., outputs]`.

    Initial entries of the product have Glorot's variance (AISTATS 2010) for a full matrix.
    """

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=False))
        for factor in self.parameters():
            nn.init.normal_(factor, std=(2 / (inputs + outputs) / rank) ** 0.25)


class CrossNetwork(nn.Module):
    """The layers that both cross networks share. The networks differ in what the cross vector multiplies.

    Layer l maps the state x to `x * (c + b) + x` (exponential) or `x0 * (c + b) + x` (linear), with h = W x
    of half the width, optional batch normalisation, and

        c = [h | h * m],  m = ReLU(LN(h))

    So the second half is a copy of the first, gated by itself (the self-mask). All heads share their weights.
    Dropout acts on the whole new state.

    With many fields the matrices W hold most parameters of a model. `rank` replaces each by two factors,
    W = U V. Then a layer needs 3 / 2 times D times `rank` multiplications, not D / 2 times D.

    Args:
        width: D, the width of a head's vector; even.
        layers: number of cross layers.
        heads: H, which only batch normalisation needs.
        layer_norm: whether h is normalised inside the gate.
        batch_norm: whether h is normalised before the gate, with heads as channels.
        dropout: dropout rate of the new state after every layer.
        rank: rank of each W; None for the full matrix.

    Raises:
        ConfigError: `rank` is above D / 2, the rank of a full matrix.
    """

    exponential: ClassVar[bool]

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int = 1,
        layer_norm: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        half = width // 2
        if rank is not None and rank > half:
            raise ConfigError(
                f"the rank {rank} is above {half}, the largest rank of a cross layer of width {width}",
                hint="Give a smaller `rank`, or none",
            )
        self.w = nn.ModuleList(
            nn.Linear(width, half, bias=False) if rank is None else LowRankLinear(width, half, rank)
            for _ in range(layers)
        )
        # U(0, 1) as published, not zero: embeddings are small and their products smaller still, so b gives
        # the state a linear path at the first step.
        self.b = nn.ParameterList(torch.rand(width) for _ in range(layers))
        self.layer_norm = nn.ModuleList(
            nn.LayerNorm(half) if layer_norm else nn.Identity() for _ in range(layers)
        )
        self.batch_norm = nn.ModuleList(
            nn.BatchNorm1d(heads) if batch_norm else nn.Identity() for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, 1)
        for linear in (*self.w, self.head):
            if isinstance(linear, nn.Linear):
                nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(self.head.bias)

    def state(self, x0: Tensor) -> Tensor:
        """The state after the last layer: `[B, H, D] -> [B, H, D]`."""
        check_shapes("CrossNetwork", _SHAPES, b=self.b[0], x=x0)
        x = x0
        for w, b, layer_norm, batch_norm in zip(
            self.w, self.b, self.layer_norm, self.batch_norm, strict=True
        ):
            h = batch_norm(w(x))
            m = torch.relu(layer_norm(h))
            c = torch.cat([h, h * m], dim=-1)
            x = self.dropout((x if self.exponential else x0) * (c + b) + x)
        return x

    def logit(self, state: Tensor) -> Tensor:
        """The mean of the heads' logits from the last state: `[B, H, D] -> [B]`."""
        logits: Tensor = self.head(state)
        return logits.squeeze(-1).mean(dim=1)

    def shares(self, state: Tensor) -> Tensor:
        """What each dimension of the last state adds to the logit: `[B, H, D] -> [B, D]`. The sum over
        dimensions is the logit."""
        return state.mean(dim=1) * self.head.weight[0] + self.head.bias / state.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        """`[B, H, D] -> logit [B]`."""
        return self.logit(self.state(x))


class ExponentialCross(CrossNetwork):
    """The exponential cross network (ECN): after l layers, interactions of order up to 2^l."""

    exponential = True


class LinearCross(CrossNetwork):
    """The linear cross network (LCN): after l layers, interactions of order up to l + 1."""

    exponential = False
