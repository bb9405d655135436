"""Self-attention of fields over one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError


class InteractingLayer(nn.Module):
    """The interacting layer of "AutoInt: Automatic Feature Interaction Learning via Self-Attentive Neural
    Networks" (Song et al., CIKM 2019, arXiv 1810.11921):

        e'_m = ReLU( [sum_k a_mk W_value e_k, of every head] + W_residual e_m ),  a_m = softmax_k <q_m, k_k>

    The products of queries and keys are not scaled, as in the paper's formulas.

    Args:
        inputs: width of a field.
        outputs: width of the output, of all heads together.
        heads: number of attention heads.
        dropout: dropout rate of the attention weights.

    Raises:
        ConfigError: the heads do not divide `outputs`.
    """

    def __init__(self, inputs: int, outputs: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if outputs % heads:
            raise ConfigError(
                f"{heads} attention heads do not divide the attention width {outputs}",
                hint="Give a number of heads that divides the width",
            )
        self.heads = heads
        self.query_key_value = nn.Linear(inputs, 3 * outputs, bias=False)
        self.residual = nn.Linear(inputs, outputs, bias=False)
        # Glorot for each matrix: with the smaller initial weights of `nn.Linear`, the signal of the fields
        # would almost vanish after three layers of attention without a bias.
        for weight in (*self.query_key_value.weight.chunk(3), self.residual.weight):
            nn.init.xavier_normal_(weight)
        self.dropout = nn.Dropout(dropout)

    def forward(self, fields: Tensor) -> Tensor:
        """`[B, N, inputs] -> [B, N, outputs]`."""
        projected = self.query_key_value(fields).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # [B, heads, N, outputs / heads] each
        a = self.dropout(torch.softmax(query @ key.transpose(2, 3), dim=-1))
        attended = (a @ value).transpose(1, 2).flatten(2)
        return torch.relu(attended + self.residual(fields))
