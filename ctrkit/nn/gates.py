"""Gates on features: factors that scale each embedding, or each of its dimensions."""

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

    With weights near zero, all gates are near 1. Without a context, the gates are parameters, the same for
    all rows.

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
    """Gates on N vectors, computed from all N vectors: a `FeatureGate` whose context is the row.

    Args:
        vectors: N.
        width: d.
        gates: number of gates of a vector: 1 for the whole vector, d for one gate for each dimension.
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
        gates: number of gates of a vector: 1 for the whole vector ("vector-wise"), d for one gate for each
            dimension ("bit-wise").
    """

    def __init__(self, vectors: int, width: int, gates: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vectors, width, gates) * (2 / (width + gates)) ** 0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, gates]`."""
        return torch.sigmoid((vectors.transpose(0, 1) @ self.weight).transpose(0, 1))


class SqueezeExcitation(nn.Module):
    """SENET over fields, of FiBiNET (Huang et al., RecSys 2019, arXiv 1905.09433): each vector is multiplied
    by a weight that is computed from the means of all vectors.

        z_i = mean(v_i),  a = activation(W2 ReLU(W1 z)),  v'_i = a_i v_i

    Args:
        vectors: N.
        reduction: N divided by the width between W1 and W2; that width is at least 1.
        activation: "relu" as published, or "sigmoid".
    """

    def __init__(self, vectors: int, reduction: float, activation: Literal["relu", "sigmoid"]) -> None:
        super().__init__()
        between = max(1, int(vectors / reduction))
        self.squeeze = nn.Linear(vectors, between, bias=False)
        self.excite = nn.Linear(between, vectors, bias=False)
        self.activation = torch.relu if activation == "relu" else torch.sigmoid
        # The input of W2 is never negative: a field that starts with only negative weights is lost to ReLU.
        with torch.no_grad():
            self.excite.weight.abs_()

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, d]`."""
        a = self.activation(self.excite(torch.relu(self.squeeze(vectors.mean(dim=2)))))
        return vectors * a.unsqueeze(2)
