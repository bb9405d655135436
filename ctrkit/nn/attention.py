"""Attention of a target item over a history."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ctrkit.nn.mlp import MLP


class TargetAttention(nn.Module):
    """Attention of "Deep Interest Network for Click-Through Rate Prediction" (Zhou et al., KDD 2018).

    An event h gets the weight a(t, h) = MLP([t, h, t - h, t * h]) for the target t, and the reading is the
    sum of a(t, h) h. The weights are not normalised over the history, so that the sum tells how strong the
    interest is, not only where it lies; of an empty history it is zero.

    Args:
        width: of target and events.
        hidden: widths of the MLP.
    """

    def __init__(self, width: int, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.tower = MLP(4 * width, hidden)
        self.score = nn.Linear(self.tower.outputs, 1)

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read a history.

        Args:
            target: `[B, width]`.
            events: `[B, L, width]`.
            mask: bool `[B, L]`, True at events.

        Returns:
            `[B, width]`.
        """
        t = target.unsqueeze(1).expand_as(events)
        weights: Tensor = self.score(self.tower(torch.cat([t, events, t - events, t * events], dim=-1)))
        weights = weights * mask.unsqueeze(-1)
        return (weights * events).sum(dim=1)


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """The state at the newest event, zero for an empty history: `[B, L, width] -> [B, width]`."""
    return states[:, -1] * mask[:, -1:]
