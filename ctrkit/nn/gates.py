"""Gates on features: how much of each embedding, or of each of its dimensions, goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ctrkit.nn.mlp import MLP


class FeatureGate(nn.Module):
    """Gates between 0 and 2 that a context sets, as in FinalMLP's feature selection (Mao et al., AAAI 2023,
    arXiv 2304.00902):

        gates = 2 sigmoid(W MLP(context) + b)

    With weights near zero, nothing is gated. Where there is no context, the gates are learned as they are,
    the same for all rows.

    Args:
        context: width of the context; 0 for none.
        gates: number of gates.
        hidden: widths of the MLP.
    """

    def __init__(self, context: int, gates: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        if context:
            self.mlp = MLP(context, hidden)
            self.gates = nn.Linear(self.mlp.outputs, gates)
        else:
            self.constant = nn.Parameter(torch.zeros(gates))

    def forward(self, context: Tensor) -> Tensor:
        """`[B, context] -> [B, gates]`, or `[gates]` without a context."""
        scores: Tensor = self.gates(self.mlp(context)) if hasattr(self, "gates") else self.constant
        return 2 * torch.sigmoid(scores)


class RowGate(nn.Module):
    """Gates on N vectors, set by all of them together: a `FeatureGate` whose context is the row.

    Args:
        vectors: N.
        width: d.
        gates: number of gates of a vector: 1 for the whole of it, d for each dimension.
        hidden: widths of the MLP.
    """

    def __init__(self, vectors: int, width: int, gates: int, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.gate = FeatureGate(vectors * width, vectors * gates, hidden)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, gates]`."""
        gates: Tensor = self.gate(vectors.flatten(1)).unflatten(1, (vectors.shape[1], -1))
        return gates


class EmbeddingGate(nn.Module):
    """The embedding gate of "GateNet: Gating-Enhanced Deep Network for Click-Through Rate Prediction" (Huang
    et al., arXiv 2007.03519), with weights of its own for each field: g_i = sigmoid(W_i e_i).

    Args:
        vectors: N.
        width: d.
        gates: numbers of gates of a vector: 1 for the whole of it ("vector-wise"), d for each dimension
            ("bit-wise").
    """

    def __init__(self, vectors: int, width: int, gates: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vectors, width, gates) * (2 / (width + gates)) ** 0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, gates]`."""
        return torch.sigmoid((vectors.transpose(0, 1) @ self.weight).transpose(0, 1))


class SqueezeExcitation(nn.Module):
    """SENET over fields, of FiBiNET (Huang et al., RecSys 2019, arXiv 1905.09433): each vector times a weight
    that the means of all vectors set.

        z_i = mean(v_i),  a = activation(W2 ReLU(W1 z)),  v'_i = a_i v_i

    Args:
        vectors: N.
        reduction: N over the width between W1 and W2, of one at least.
        activation: "relu" as published, or "sigmoid".
    """

    def __init__(self, vectors: int, reduction: float, activation: Literal["relu", "sigmoid"]) -> None:
        super().__init__()
        between = max(1, int(vectors / reduction))
        self.squeeze = nn.Linear(vectors, between, bias=False)
        self.excite = nn.Linear(between, vectors, bias=False)
        self.activation = torch.relu if activation == "relu" else torch.sigmoid
        # What W2 weighs is never negative: a field that starts with negative weights alone is lost to ReLU.
        with torch.no_grad():
            self.excite.weight.abs_()

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, d]`."""
        a = self.activation(self.excite(torch.relu(self.squeeze(vectors.mean(dim=2)))))
        return vectors * a.unsqueeze(2)
