"""TWIN: the events with the highest attention scores, then the same attention over them."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from ctrkit.nn.pooling.base import Pooling, PoolingShape
from ctrkit.nn.search import EventSearch
from ctrkit.settings import Count, checked


@checked
class TWINPooling(Pooling):
    """Attention over the events with the highest scores in this attention, as in TWIN.

    Attributes:
        top: number of events that each head reads.
        heads: number of attention heads.
    """

    name: ClassVar[str] = "twin"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"
    reads_ages: ClassVar[bool] = True
    top: Count = 50
    heads: Count = 2

    def module(self, shape: PoolingShape) -> nn.Module:
        return AttentionSearch(shape.width, self.top, self.heads)


class AttentionSearch(EventSearch):
    """The search of "TWIN: TWo-stage Interest Network for Lifelong User Behavior Modeling in CTR Prediction
    at Kuaishou" (Chang et al., KDD 2023, arXiv 2302.02352): the scores of the search are those of the
    attention, with the same weights. Each head chooses its own events.

    With as many events as `top` or fewer it is multi-head attention over the whole history.

    The paper adds a term of features that the user and the event share, such as the time watched. It is left
    out; `positions` adds the age of each event.
    """

    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        return self.attention.scores(target, events)
