"""SIM: events of the target's category or those most similar to it, then attention over them."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ctrkit.nn.mlp import MLP
from ctrkit.nn.pooling.base import Pooling, PoolingShape
from ctrkit.nn.search import EventSearch
from ctrkit.settings import Count, checked


@checked
class HardSearchPooling(Pooling):
    """Attention over the newest events of the target's category, as in SIM with hard search.

    Attributes:
        top: number of events that are read.
        heads: number of attention heads.
        sequence: the sequence whose ids must equal the target's; by default that with the smallest table
            among those that share a table with a field of the target. The unknown id equals no id.
    """

    name: ClassVar[str] = "sim_hard"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"
    reads_ages: ClassVar[bool] = True
    matches: ClassVar[bool] = True
    top: Count = 50
    heads: Count = 2
    sequence: str | None = None

    def module(self, shape: PoolingShape) -> nn.Module:
        return NewestSearch(shape.width, self.top, self.heads)


@checked
class SoftSearchPooling(Pooling):
    """Attention over the events most similar to the target by a learned inner product, as in SIM with soft
    search.

    Attributes:
        top: number of events that are read.
        heads: number of attention heads.
    """

    name: ClassVar[str] = "sim_soft"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"
    top: Count = 50
    heads: Count = 2

    def module(self, shape: PoolingShape) -> nn.Module:
        return SoftSearch(shape.width, self.top, self.heads, shape.attention)


class NewestSearch(EventSearch):
    """The newest events that may be read: the hard search of "Search-based User Interest Modeling with
    Lifelong Sequential Behavior Data for Click-Through Rate Prediction" (Pi et al., CIKM 2020, arXiv
    2006.05639), where the mask is True at events of the target's category.
    """

    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        ages = torch.arange(events.shape[1], device=events.device, dtype=events.dtype)
        return ages.expand(len(events), 1, 1, -1)


class SoftSearch(EventSearch):
    """The soft search of the same paper: the score of an event e for the target t is (W_b e) . (W_a t).

    The choice of events trains neither W_a nor W_b. The paper trains them by a loss of their own: a network
    reads the target and the sum of all events times their scores, and predicts the first task. `search_logit`
    is its logit. The network is needed in training only.

    Args:
        width: width of targets and events.
        top: number of events that are chosen.
        heads: number of attention heads.
        hidden: widths of the network.
    """

    def __init__(self, width: int, top: int, heads: int, hidden: tuple[int, ...]) -> None:
        super().__init__(width, top, heads)
        self.of_target = nn.Linear(width, width, bias=False)
        self.of_event = nn.Linear(width, width, bias=False)
        self.tower = MLP(2 * width, hidden)
        self.logit = nn.Linear(self.tower.outputs, 1)

    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        scores: Tensor = self.of_target(target) @ self.of_event(events).transpose(1, 2)
        return scores.unsqueeze(1)

    def search_logit(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """The logit of the search's own network, `[U, K]`; arguments as in `forward`, with a mask `[U,
        L]`."""
        interest = (self.scores(target, events)[:, 0] * mask.unsqueeze(1)) @ events
        logit: Tensor = self.logit(self.tower(torch.cat([target, interest], dim=2)))
        return logit.squeeze(2)
