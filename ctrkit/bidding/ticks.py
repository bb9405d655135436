"""Cuts a stream of auctions into ticks: the steps in which strategies bid and learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, repeat, takewhile

from ctrkit.bidding.auctions import Auctions, joined
from ctrkit.errors import ConfigError


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

    def divided(self, size: int) -> Iterator[Auctions]:
        """The ticks of `size` auctions in a larger piece, see `edges`."""
        for start, end in pairwise(edges(len(self.auctions), size, self.opens_episode)):
            yield self.auctions[start:end]


# Auctions of the shortest tick at the start of an episode.
FIRST = 10


def edges(n: int, size: int, opens_episode: bool) -> list[int]:
    """Where the ticks of n auctions begin, and where the last one ends.

    The first `size` auctions of an episode are bid in ticks of 10, 20, 40 and so on, so that multipliers are
    found before much is spent: with a first one that is far too low, a whole tick would cost dear.
    """
    sums = (FIRST * (2**k - 1) for k in count(1))
    early = takewhile(lambda edge: opens_episode and edge < min(size, n), sums)
    return sorted({*early, *range(0, n, size), n})


def cut(
    chunks: Iterable[Auctions], size: int, episode_length: int | Sequence[int] | None = None
) -> Iterator[Tick]:
    """Ticks of `size` auctions, the last one of an episode shorter where it must be.

    The ticks are the same however the stream is chunked, and a chunk is let go after it was used.

    Args:
        episode_length: auctions of every episode, or of each; by default all are one.

    Raises:
        ConfigError: more auctions than the episodes have.
        DataError: an auction with a value out of range, with its row in the stream.
    """
    # Where no length is known, an episode has no end.
    given = repeat(episode_length) if isinstance(episode_length, int) else iter(episode_length or (1 << 62,))
    waiting: deque[Auctions] = deque()
    index = received = held = left = 0
    episode, opens = -1, False

    def take(n: int) -> Tick:
        """The next n auctions; of chunks only what they share a tick with is copied."""
        nonlocal index, held, left, opens
        parts, missing = [], n
        while missing:
            head = waiting.popleft()
            if len(head) > missing:
                waiting.appendleft(head[missing:])
            parts.append(head[:missing])
            missing -= len(parts[-1])
        tick = Tick(joined(parts), index, episode, opens)
        index, held, left, opens = index + 1, held - n, left - n, False
        return tick

    for chunk in chunks:
        chunk.check(first_row=received)
        received += len(chunk)
        held += len(chunk)
        if len(chunk):
            waiting.append(chunk)
        while held:
            if not left:
                left, episode, opens = next(given, 0), episode + 1, True
                if not left:
                    raise ConfigError(
                        f"there are more auctions than the {episode} episodes have",
                        mend="Give the length of every episode",
                    )
            if held < (wanted := min(size, left)):
                break
            yield take(wanted)
    if held:
        yield take(held)
