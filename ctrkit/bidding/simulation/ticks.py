"""Cuts a stream of auctions into ticks: the steps in which strategies bid and learn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise, repeat, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Indices
from ctrkit.bidding.market.auctions import Auctions, joined
from ctrkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class ShownAuctions:
    """Consecutive auctions, and those among them that bidders are shown: the ones that are worth bidding.

    Attributes:
        whole: all of them.
        rows: [m], the places of those shown; None where all are.
    """

    whole: Auctions
    rows: Indices | None

    @property
    def auctions(self) -> Auctions:
        """Those that bidders are shown."""
        return self.whole if self.rows is None else self.whole[self.rows]

    def spread(self, column: NDArray[Any], elsewhere: float = 0) -> NDArray[Any]:
        """A column [m, ...] of those shown as one of all, with a value for the others."""
        if self.rows is None:
            return column
        whole = np.full((len(self.whole), *column.shape[1:]), elsewhere, column.dtype)
        whole[self.rows] = column
        return whole


@dataclass(frozen=True)
class Tick:
    """Consecutive auctions of one episode, between two updates of the strategies.

    Attributes:
        index: of the tick in the stream.
        episode: both from 0.
        opens_episode: whether it is the first of its episode.
        worth: [m], the places of the auctions that are worth bidding. Only they are shown to bidders and make
            up the size of a tick, so that the others, of whatever number, change nothing but the money left.
    """

    auctions: Auctions
    index: int
    episode: int
    opens_episode: bool
    worth: Indices

    def shown(self, start: int = 0, end: int | None = None) -> ShownAuctions:
        """From one place among those worth bidding to before another, and all that lie between."""
        m, n = len(self.worth), len(self.auctions)
        end = m if end is None else end
        first, last = (
            int(self.worth[place]) if 0 < place < m else (n if place else 0) for place in (start, end)
        )
        if m == n:
            return ShownAuctions(self.auctions[start:end], None)
        return ShownAuctions(self.auctions[first:last], self.worth[start:end] - first)

    def divided(self, size: int, opening: int | None) -> Iterator[ShownAuctions]:
        """The ticks of `size` auctions worth bidding in a larger piece, see `edges`."""
        if not len(self.worth):
            yield ShownAuctions(self.auctions, self.worth)
            return
        for start, end in pairwise(edges(len(self.worth), size, opening)):
            yield self.shown(start, end)


# Auctions of the shortest tick at the start of an episode.
FIRST = 10


def edges(n: int, size: int, opening: int | None) -> list[int]:
    """Where the ticks of n auctions begin, and where the last one ends.

    The first `size` auctions that a bidder bids in in an episode are bid in ticks of 10, 20, 40 and so on, so
    that multipliers are found before much is spent: with a first one that is far too low, a whole tick would
    cost dear.

    Args:
        opening: the place of the first of them; None where it is in none, or in an earlier piece.
    """
    if opening is None:
        return sorted({*range(0, n, size), n})
    sums = (opening + FIRST * (2**k - 1) for k in count(0))
    early = takewhile(lambda edge: edge < min(opening + size, n), sums)
    return sorted({*early, *range(0, n, size), n})


def cut(
    chunks: Iterable[Auctions], size: int, episode_length: int | Sequence[int] | None = None
) -> Iterator[Tick]:
    """Ticks of `size` auctions worth bidding, the last one of an episode shorter where it must be.

    The ticks are the same however the stream is chunked, and a chunk is let go after it was used. Auctions
    that are worth nothing belong to the tick of the one before them.

    Args:
        episode_length: auctions of every episode, or of each; by default all are one.

    Raises:
        ConfigError: more auctions than the episodes have.
        DataError: an auction with a value out of range, with its row in the stream.
    """
    # Where no length is known, an episode has no end.
    given = repeat(episode_length) if isinstance(episode_length, int) else iter(episode_length or (1 << 62,))
    waiting: deque[Auctions] = deque()
    worth = np.empty(0, np.intp)  # places in the stream
    index = received = gone = left = met = 0  # gone: auctions that were given out, met: of those in `worth`
    ads: int | None = None
    episode, opens = -1, False

    def take(n: int) -> Tick:
        """The next n auctions; of chunks only what they share a tick with is copied."""
        nonlocal index, gone, left, opens, met
        parts, missing = [], n
        while missing:
            head = waiting.popleft()
            if len(head) > missing:
                waiting.appendleft(head[missing:])
            parts.append(head[:missing])
            missing -= len(parts[-1])
        end = int(np.searchsorted(worth, gone + n))
        tick = Tick(joined(parts), index, episode, opens, worth[met:end] - gone)
        index, gone, left, opens, met = index + 1, gone + n, left - n, False, end
        return tick

    for chunk in chunks:
        chunk.check(first_row=received)
        ads = chunk.click_probability.shape[1] if ads is None else ads
        if chunk.click_probability.shape[1] != ads:
            raise DataError(
                f"one chunk has places for {ads} ads, and another for {chunk.click_probability.shape[1]}",
                column="click_probability",
                hint="Fill up the shorter lists with ads of probability 0",
            )
        worth, met = np.concatenate([worth[met:], received + np.flatnonzero(chunk.worth_bidding)]), 0
        received += len(chunk)
        if len(chunk):
            waiting.append(chunk)
        while received > gone:
            if not left:
                left, episode, opens = next(given, 0), episode + 1, True
                if not left:
                    raise ConfigError(
                        f"there are more auctions than the {episode} episodes have",
                        hint="Give the length of every episode",
                    )
            # A tick ends before the next one that is worth bidding, or with its episode.
            next_one = int(worth[met + size]) - gone if met + size < len(worth) else received - gone + 1
            if received - gone < (wanted := min(next_one, left)):
                break
            yield take(wanted)
    if received > gone:
        yield take(received - gone)
