"""Cross layers of DCN: by a vector, by a matrix, and by a mixture of matrices of low rank.

All of them map the input x0 and the state x to x0 * f(x) + x: after l layers, interactions of order up to
l + 1. The cross networks of DCNv3 are in `ctrkit.nn.cross`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

ActivationName: TypeAlias = Literal["tanh", "relu", "identity"]

_ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class CrossLayer(nn.Module, ABC):
    """The next state from the input x0 and the state x."""

    @abstractmethod
    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        """`[B, D], [B, D] -> [B, D]`."""


class CrossStack(nn.Module):
    """A sequence of cross layers: `[B, D] -> [B, D]`."""

    def __init__(self, layers: Iterable[CrossLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x0: Tensor) -> Tensor:
        """The last state. The first state is x0."""
        x = x0
        for layer in self.layers:
            x = layer(x0, x)
        return x


class VectorCross(CrossLayer):
    """x0 (w x) + b + x, with a vector w: "Deep & Cross Network for Ad Click Predictions" (Wang et al.,
    ADKDD 2017, arXiv 1708.05123).

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Linear(width, 1, bias=False)
        self.b = nn.Parameter(torch.zeros(width))
        nn.init.xavier_normal_(self.w.weight)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        crossed: Tensor = x0 * self.w(x) + self.b + x
        return crossed


class MatrixCross(CrossLayer):
    """x0 * (W x + b) + x, with a full matrix W: "DCN V2" (Wang et al., WWW 2021, arXiv 2008.13535).

    It equals `VectorCross` where all rows of W are equal and b = 0.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Linear(width, width)
        nn.init.xavier_normal_(self.w.weight)
        nn.init.zeros_(self.w.bias)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        crossed: Tensor = x0 * self.w(x) + x
        return crossed


class MixtureCross(CrossLayer):
    """A mixture of K low-rank cross layers: "DCN V2" (Wang et al., WWW 2021, arXiv 2008.13535).

        x0 * (sum over i of G_i(x) U_i g(C_i g(V_i x)) + b) + x,   G = softmax(linear(x))

    The gates sum to 1, so one b is enough. The gates scale the experts' results in their r dimensions, so one
    multiplication applies the U of all experts. A single expert has no gate. Without the activation g there
    is no C either, as U would absorb it: a single expert is then `MatrixCross` with W = U V.

    Args:
        width: D.
        rank: r, of each expert's matrix.
        experts: K.
        activation: g.
    """

    def __init__(self, width: int, rank: int, experts: int = 1, activation: ActivationName = "tanh") -> None:
        super().__init__()
        self.activation = _ACTIVATIONS.get(activation)
        self.experts = experts
        self.v = nn.Linear(width, experts * rank, bias=False)
        self.u = nn.Linear(experts * rank, width)
        self.c = nn.Parameter(torch.empty(experts, rank, rank)) if self.activation is not None else None
        self.gate = nn.Linear(width, experts, bias=False) if experts > 1 else None
        # Glorot for each expert's matrix, not for those of all experts laid side by side.
        std = (2 / (width + rank)) ** 0.5
        nn.init.normal_(self.v.weight, std=std)
        nn.init.normal_(self.u.weight, std=std)
        nn.init.zeros_(self.u.bias)
        if self.c is not None:
            nn.init.normal_(self.c, std=rank**-0.5)

    def forward(self, x0: Tensor, x: Tensor) -> Tensor:
        found = self.v(x).unflatten(1, (self.experts, -1))  # [B, K, r]
        if self.activation is not None:
            found = self.activation(torch.einsum("bkr,ksr->bks", self.activation(found), self.c))
        if self.gate is not None:
            found = found * torch.softmax(self.gate(x), dim=1).unsqueeze(2)
        crossed: Tensor = x0 * self.u(found.flatten(1)) + x
        return crossed
