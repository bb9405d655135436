"""Attention of targets over a history."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctrkit.nn.mlp import MLP


class TargetAttention(nn.Module):
    """Attention of "Deep Interest Network for Click-Through Rate Prediction" (Zhou et al., KDD 2018).

    An event h gets the weight a(t, h) = MLP([t, h, t * h]) for the target t, and the reading is the sum of
    a(t, h) h. The weights are not normalised over the history, so that the sum tells how strong the
    interest is, not only where it lies; of an empty history it is zero.

    The paper's t - h is left out, as a linear layer that reads t and h has it already. The first layer is
    written as a sum of three, so that the parts of t and h are computed once for each target and each event
    rather than for each pair.

    Args:
        width: of target and events.
        hidden: widths of the MLP, one at least.
    """

    def __init__(self, width: int, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.of_target = nn.Linear(width, hidden[0])
        self.of_event = nn.Linear(width, hidden[0], bias=False)
        self.of_pair = nn.Linear(width, hidden[0], bias=False)
        self.tower = MLP(hidden[0], hidden[1:])
        self.score = nn.Linear(self.tower.outputs, 1)

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read each history with each of its targets.

        Args:
            target: `[U, K, width]`.
            events: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            `[U, K, width]`.
        """
        weights = self.weights(target, events) * mask.unsqueeze(1)
        return weights @ events

    def weights(self, target: Tensor, events: Tensor) -> Tensor:
        """a(t, h) of every pair: `[U, K, width], [U, L, width] -> [U, K, L]`."""
        pairs = target.unsqueeze(2) * events.unsqueeze(1)
        first = self.of_pair(pairs) + self.of_target(target).unsqueeze(2) + self.of_event(events).unsqueeze(1)
        scores: Tensor = self.score(self.tower(torch.relu(first)))
        return scores.squeeze(-1)
