"""SDIM: the events that share hash buckets with the target."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.nn.pooling.base import Pooling, PoolingShape
from ctrkit.nn.sim_hash import SimHash
from ctrkit.settings import Count, checked


@checked
class SDIMPooling(Pooling):
    """The sum of the events in the target's hash bucket, averaged over many hashes, as in SDIM.

    Attributes:
        hashes: number of hashes.
        bits: length of each hash. With b bits there are 2^b buckets.
    """

    name: ClassVar[str] = "sdim"
    reads: ClassVar[Literal["states", "events", "encoder"]] = "events"
    hashes: Count = 16
    bits: Annotated[Count, Field(le=10)] = 3

    def module(self, shape: PoolingShape) -> nn.Module:
        return BucketReader(shape.width, self.hashes, self.bits)


class BucketReader(nn.Module):
    """The reading of "Sampling Is All You Need on Modeling Long-Term User Behaviors for CTR Prediction" (Cao
    et al., CIKM 2022, arXiv 2205.10249).

    Each hash puts the events of a history into buckets, by the signs of random projections. The target is put
    into a bucket in the same way. Its reading is the sum of the events in its bucket, scaled to the length 1
    and averaged over the hashes. An event at the angle a to the target is in its bucket with the probability
    (1 - a / pi)^bits, so the share of hashes in which they meet is an attention weight.

    The buckets of a history are summed once for all its targets. A target then costs the same at any length
    of the history. The gradient reaches the events, and not the target, which only chooses.

    Args:
        width: width of targets and events.
        hashes: number of hashes.
        bits: number of projections of each hash.
    """

    powers: Tensor

    def __init__(self, width: int, hashes: int, bits: int) -> None:
        super().__init__()
        self.hashes, self.bits = hashes, bits
        self.hash = SimHash(width, hashes * bits)
        self.register_buffer("powers", 2 ** torch.arange(bits), persistent=False)

    def forward(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """Read each history with each of its targets.

        Args:
            target: `[U, K, width]`.
            events: `[U, L, width]`.
            mask: bool `[U, L]`, True at events.

        Returns:
            `[U, K, width]`, zero for an empty history.
        """
        buckets = 2**self.bits
        numbers = torch.arange(buckets, device=events.device)
        inside = (self._buckets(events).unsqueeze(3) == numbers) & mask[:, :, None, None]
        sums = inside.flatten(2).transpose(1, 2).to(events.dtype) @ events  # [U, hashes * buckets, width]
        first = torch.arange(len(events) * self.hashes, device=events.device) * buckets
        own = self._buckets(target) + first.view(len(events), 1, self.hashes)
        found = F.normalize(sums.flatten(0, 1), dim=-1).index_select(0, own.flatten())
        return found.view(*own.shape, events.shape[2]).mean(dim=2)

    def weights(self, target: Tensor, events: Tensor, mask: Tensor) -> Tensor:
        """The share of hashes in which each event meets the target, zero at padding; arguments as in
        `forward`.

        Returns:
            `[U, K, L]`, in [0, 1].
        """
        meet = self._buckets(target).unsqueeze(2) == self._buckets(events).unsqueeze(1)
        return meet.to(events.dtype).mean(dim=3) * mask.unsqueeze(1)

    def _buckets(self, vectors: Tensor) -> Tensor:
        """The bucket of each vector in each hash: `[U, N, width] -> int64 [U, N, hashes]`."""
        bits: Tensor = self.hash(vectors).reshape(*vectors.shape[:2], self.hashes, self.bits)
        return (bits * self.powers).sum(dim=3)
