"""ETA: the events whose hash codes are nearest to the target's, then attention over them."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from ctrkit.nn.pooling.base import Pooling, PoolingShape
from ctrkit.nn.search import EventSearch
from ctrkit.nn.sim_hash import SimHash
from ctrkit.settings import Count, checked


@checked
class ETAPooling(Pooling):
    """Attention over the events whose hash codes are nearest to the target's, as in ETA.

    Attributes:
        top: number of events that are read.
        heads: number of attention heads.
        bits: length of a hash code.
    """

    name: ClassVar[str] = "eta"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"
    top: Count = 50
    heads: Count = 2
    bits: Count = 32

    def module(self, shape: PoolingShape) -> nn.Module:
        return HashSearch(shape.width, self.top, self.heads, self.bits)


class HashSearch(EventSearch):
    """The search of "End-to-End User Behavior Retrieval in Click-Through Rate Prediction Model" (Chen et al.,
    2021, arXiv 2108.04468): the events with the smallest Hamming distance of their SimHash codes to the
    target's.

    The score is the number of equal bits minus that of different bits. Many events have equal scores.

    Args:
        width: width of targets and events.
        top: number of events that are chosen.
        heads: number of attention heads.
        bits: length of a code.
    """

    def __init__(self, width: int, top: int, heads: int, bits: int) -> None:
        super().__init__(width, top, heads)
        self.hash = SimHash(width, bits)

    def scores(self, target: Tensor, events: Tensor) -> Tensor:
        # With bits as -1 and 1, one matrix product compares all codes.
        codes, of_events = (2.0 * self.hash(x).to(x.dtype) - 1.0 for x in (target, events))
        scores: Tensor = codes @ of_events.transpose(1, 2)
        return scores.unsqueeze(1)
