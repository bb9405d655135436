"""Search of a long history, and attention over the events that it finds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ctrkit.nn.encoders.attention import check_heads


class EventSearch(nn.Module, ABC):
    """Attention of a target over the events of a history with the highest scores.

    Scores of all events are cheap, and choose a few events. Multi-head attention reads these. Scores get no
    gradient from the choice. If scores are equal, the newest events are chosen. A history with too few events
    is read whole. The reading of an empty history is zero.

    Args:
        width: width of targets and events.
        top: number of events that are chosen.
        heads: number of attention heads.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, width: int, top: int, heads: int) -> None:
        super().__init__()
        self.top = top
        self.attention = ChosenAttention(width, heads)

    @abstractmethod
    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        """Scores of all events, higher is better: `[U, K, d], [U, L, d] -> [U, H, K, L]`.

        H is 1, or the number of heads if each head makes a choice of its own. K may be 1 too, for scores that
        do not depend on the target.
        """

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read each history with each of its targets.

        Args:
            target: `[U, K, d]`.
            events: `[U, L, d]`.
            mask: bool, True at events that may be read: `[U, L]`, or `[U, K, L]` for each target.

        Returns:
            `[U, K, d]`.
        """
        places, found = self._choice(target, events, mask)
        reading: Tensor = self.attention(target, events, places, found)
        return reading

    def weights(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """The attention weight of each event, as a mean over the heads; arguments as in `forward`.

        Returns:
            `[U, K, L]`, zero at events that are not chosen. The weights of a target sum to 1, or to 0 if no
            event is chosen.
        """
        places, found = self._choice(target, events, mask)
        weights = self.attention.weights(target, events, places, found)
        everywhere = weights.new_zeros(*weights.shape[:3], events.shape[1])
        return everywhere.scatter_add(3, places.expand_as(weights), weights).mean(dim=1)

    def _choice(self, target: Tensor, events: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        mask = mask.unsqueeze(1) if mask.dim() == 2 else mask
        shape = mask.shape[0], target.shape[1], mask.shape[2]
        return best_events(self.scores(target, events).detach(), mask.expand(shape).unsqueeze(1), self.top)


def best_events(scores: Tensor, mask: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """The events with the highest scores. Equal scores, in single precision, go to the newest events.

    Args:
        scores: `[..., L]`, oldest event first.
        mask: bool, of a shape that fits, True at events that may be chosen.
        top: k, the number of events to choose.

    Returns:
        Places of the events, `[..., min(k, L)]`, in no order, and bool of this shape: whether there is an
        event at the place. It is False where there are fewer than k events.
    """
    length = scores.shape[-1]
    exact = scores.float().double()
    newness = torch.arange(length, dtype=torch.float64, device=scores.device)
    # Neighbours in single precision differ by 2^-24 of their size, so this changes no order but that of
    # equals. It holds for histories of up to 2^15 events.
    unequal = exact + newness * (exact.abs() * 2.0**-40 + 1e-60)
    best = unequal.masked_fill(~mask, -torch.inf).topk(min(top, length), dim=-1, sorted=False)
    return best.indices, best.values > -torch.inf


class ChosenAttention(nn.Module):
    """Multi-head attention ("Attention Is All You Need", Vaswani et al., NeurIPS 2017) of each target over
    events that were chosen for it. Its projections have no biases.

    Raises:
        ConfigError: the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(heads, width, "history.readouts")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, target: Tensor, events: Tensor, places: Tensor, found: Tensor) -> Tensor:
        """Read the chosen events.

        Args:
            target: `[U, K, width]`.
            events: `[U, L, width]`.
            places: places of the chosen events, `[U, heads or 1, K, k]`.
            found: bool of this shape, whether there is an event at the place.

        Returns:
            `[U, K, width]`, zero where nothing was found.
        """
        weights = self.weights(target, events, places, found)
        values = _at(self._split(self.value(events)), places)
        read = (weights.unsqueeze(3) @ values).squeeze(3)  # [U, heads, K, width / heads]
        mixed: Tensor = self.output(read.transpose(1, 2).flatten(2))
        return mixed

    def weights(self, target: Tensor, events: Tensor, places: Tensor, found: Tensor) -> Tensor:
        """The attention weights of the chosen events, `[U, heads, K, k]`; arguments as in `forward`."""
        query = self._split(self.query(target))
        keys = _at(self._split(self.key(events)), places)
        scores = (keys @ query.unsqueeze(4)).squeeze(4) / math.sqrt(query.shape[3])
        # Finite, as nothing found has nothing to sum to 1.
        scores = scores.masked_fill(~found, torch.finfo(scores.dtype).min)
        weights: Tensor = scores.softmax(dim=-1) * found
        return weights

    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        """The attention scores of all events: `[U, K, width], [U, L, width] -> [U, heads, K, L]`."""
        query, keys = self._split(self.query(target)), self._split(self.key(events))
        return query @ keys.transpose(2, 3) / math.sqrt(query.shape[3])

    def _split(self, x: Tensor) -> Tensor:
        """`[U, N, width] -> [U, heads, N, width / heads]`."""
        return x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads).transpose(1, 2)


def _at(rows: Tensor, places: Tensor) -> Tensor:
    """Rows at places: `[U, H, L, d], [U, H or 1, K, k] -> [U, H, K, k, d]`.

    Rows are taken from one matrix, so that gradients have its size, and not that of all pairs.
    """
    histories, heads, length, width = rows.shape
    first = torch.arange(histories * heads, device=rows.device).view(histories, heads, 1, 1) * length
    chosen = places + first
    return rows.reshape(-1, width).index_select(0, chosen.flatten()).view(*chosen.shape, width)
