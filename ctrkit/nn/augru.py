"""AUGRU: a GRU over the history, steered by the attention of the target."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class AUGRU(nn.Module):
    """GRU with attentional update gate, from "Deep Interest Evolution Network for Click-Through Rate
    Prediction" (Zhou et al., AAAI 2019).

    It goes over the states i_1, ..., i_L of a history and ends with the interest h_L in a target t:

        a_j = softmax_j(i_j W t)
        r_j = sigmoid(W_r i_j + U_r h_{j-1} + b_r)
        u_j = a_j sigmoid(W_u i_j + U_u h_{j-1} + b_u)
        n_j = tanh(W_n i_j + r_j * U_n h_{j-1} + b_n)
        h_j = (1 - u_j) h_{j-1} + u_j n_j

    Padding gets no attention, so it does not change h. For an empty history h is zero.

    The paper's auxiliary loss (the encoder's states predict the next event) needs sampled negatives and is
    left out.

    Args:
        width: width of states, targets and h.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Linear(width, width, bias=False)
        self.of_state = nn.Linear(width, 3 * width)  # W_r, W_u, W_n
        self.of_interest = nn.Linear(width, 3 * width, bias=False)  # U_r, U_u, U_n

    def forward(self, target: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """The interest in each target at the end of its history.

        Args:
            target: `[U, K, width]`.
            states: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            `[U, K, width]`.
        """
        width = states.shape[2]
        shares = self.weights(target, states, mask).unsqueeze(3).unbind(2)  # L of [U, K, 1]
        gates = self.of_state(states).unsqueeze(2).unbind(1)  # L of [U, 1, 3 width]
        interest = torch.zeros_like(target)
        for share, of_state in zip(shares, gates, strict=True):
            of_interest = self.of_interest(interest)
            both = torch.sigmoid(of_state[..., : 2 * width] + of_interest[..., : 2 * width])
            reset, update = both.chunk(2, dim=-1)
            new = torch.tanh(of_state[..., 2 * width :] + reset * of_interest[..., 2 * width :])
            interest = torch.lerp(interest, new, share * update)
        return interest

    def weights(self, target: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """The weights a_j, which sum to 1 over a history with events: `[U, K, L]`."""
        scores = target @ self.attention(states).transpose(1, 2)
        present = mask.unsqueeze(1)
        # Finite, as a history without events has nothing to sum to 1.
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
        weights: Tensor = scores.softmax(dim=-1) * present
        return weights
