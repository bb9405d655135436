"""Cuts a stream of auctions into ticks: the steps in which strategies bid and learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ctrkit.bidding.auctions import Auctions, concatenate


@dataclass(frozen=True)
class Tick:
    """Consecutive auctions of one episode, between two updates of the strategies.

    Attributes:
        index: of the tick in the stream; episode: both from 0.
        opens_episode: whether it is the first of its episode.
    """

    auctions: Auctions
    index: int
    episode: int
    opens_episode: bool


def cut(chunks: Iterable[Auctions], size: int, episode_length: int | None = None) -> Iterator[Tick]:
    """Ticks of `size` auctions, the last one of an episode shorter where it must be.

    The ticks are the same however the stream is chunked, and a chunk is let go after it was used.

    Raises:
        DataError: an auction with a value out of range, with its row in the stream.
    """
    position = index = received = 0
    waiting: Auctions | None = None

    def make(auctions: Auctions) -> Tick:
        episode, within = divmod(position, episode_length) if episode_length else (0, position)
        return Tick(auctions, index, episode, within == 0)

    def wanted() -> int:
        return min(size, episode_length - position % episode_length) if episode_length else size

    for chunk in chunks:
        chunk.check(first_row=received)
        received += len(chunk)
        waiting = chunk if waiting is None else concatenate(waiting, chunk)
        while len(waiting) >= wanted():
            now, waiting = waiting[: wanted()], waiting[wanted() :]
            yield make(now)
            position, index = position + len(now), index + 1
    if waiting is not None and len(waiting):
        yield make(waiting)
