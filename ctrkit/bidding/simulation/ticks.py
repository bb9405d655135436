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
    """Consecutive auctions, and those of them that bidders see: the ones that are worth bidding.

    Attributes:
        whole: all the auctions.
        rows: [m], the indices of the auctions that bidders see; None if they see all.
    """

    whole: Auctions
    rows: Indices | None

    @property
    def auctions(self) -> Auctions:
        """The auctions that bidders see."""
        return self.whole if self.rows is None else self.whole[self.rows]

    def spread(self, column: NDArray[Any], elsewhere: float = 0) -> NDArray[Any]:
        """A column [m, ...] of the auctions that bidders see, spread over all; `elsewhere` in the others."""
        if self.rows is None:
            return column
        whole = np.full((len(self.whole), *column.shape[1:]), elsewhere, column.dtype)
        whole[self.rows] = column
        return whole


@dataclass(frozen=True)
class Tick:
    """Consecutive auctions of one episode, between two updates of the strategies.

    Attributes:
        auctions: the auctions.
        index: index of the tick in the stream, from 0.
        episode: index of the episode, from 0.
        opens_episode: whether it is the first tick of its episode.
        worth: [m], the indices of the auctions that are worth bidding. Bidders see only these, and only these
            count in the size of a tick, so the number of the others changes no result.
    """

    auctions: Auctions
    index: int
    episode: int
    opens_episode: bool
    worth: Indices

    def shown(self, start: int = 0, end: int | None = None) -> ShownAuctions:
        """The auctions from place `start` to before place `end`, counted among those worth bidding."""
        m, n = len(self.worth), len(self.auctions)
        end = m if end is None else end
        first, last = (
            int(self.worth[place]) if 0 < place < m else (n if place else 0) for place in (start, end)
        )
        if m == n:
            return ShownAuctions(self.auctions[start:end], None)
        return ShownAuctions(self.auctions[first:last], self.worth[start:end] - first)

    def divided(self, size: int, opening: int | None) -> Iterator[ShownAuctions]:
        """The ticks of `size` auctions worth bidding in a larger piece (see `edges`)."""
        if not len(self.worth):
            yield ShownAuctions(self.auctions, self.worth)
            return
        for start, end in pairwise(edges(len(self.worth), size, opening)):
            yield self.shown(start, end)


# Auctions of the shortest tick at the start of an episode.
FIRST = 10


def edges(n: int, size: int, opening: int | None) -> list[int]:
    """Where the ticks of n auctions begin, and where the last one ends.

    The first `size` auctions of an episode in which a bidder bids are divided into ticks of 10, 20, 40 and so
    on. So multipliers are found before much is spent: with a first multiplier far too low, a whole tick would
    cost too much.

    Args:
        n: number of auctions.
        size: number of auctions of a tick.
        opening: index of the first auction in which the bidder bids in its episode; None if it is not among
            these.
    """
    if opening is None:
        return sorted({*range(0, n, size), n})
    sums = (opening + FIRST * (2**k - 1) for k in count(0))
    early = takewhile(lambda edge: edge < min(opening + size, n), sums)
    return sorted({*early, *range(0, n, size), n})


def cut(
    chunks: Iterable[Auctions], size: int, episode_length: int | Sequence[int] | None = None
) -> Iterator[Tick]:
    """Ticks of `size` auctions worth bidding; the last tick of an episode may be shorter.

    The ticks are the same however the stream is chunked, and a chunk is freed after it was used. Auctions
    that are worth nothing belong to the tick of the auction before them.

    Args:
        chunks: auctions in order of time.
        size: number of auctions worth bidding in a tick.
        episode_length: number of auctions of every episode, or of each; by default all are one episode.

    Raises:
        ConfigError: more auctions than the episodes have.
        DataError: an auction with a value out of range, with its index in the stream.
    """
    # Without a length, the one episode has no end.
    given = repeat(episode_length) if isinstance(episode_length, int) else iter(episode_length or (1 << 62,))
    waiting: deque[Auctions] = deque()
    worth = np.empty(0, np.intp)  # places in the stream
    index = received = gone = left = met = 0  # gone: auctions that were given out, met: of those in `worth`
    ads: int | None = None
    episode, opens = -1, False

    def take(n: int) -> Tick:
        """The next n auctions; a chunk is copied only where a tick spans several."""
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
                f"one chunk has {ads} ads per auction, and another has {chunk.click_probability.shape[1]}",
                column="click_probability",
                hint="Fill the shorter lists with ads of probability 0",
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
                        f"there are more auctions than the {episode} episodes have together",
                        hint="Give the length of every episode",
                    )
            # A tick ends before the next one that is worth bidding, or with its episode.
            next_one = int(worth[met + size]) - gone if met + size < len(worth) else received - gone + 1
            if received - gone < (wanted := min(next_one, left)):
                break
            yield take(wanted)
    if received > gone:
        yield take(received - gone)
