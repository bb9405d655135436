"""Another sample of a stream of auctions, for intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Indices, Integers
from ctrkit.bidding.market.auctions import Auctions
from ctrkit.bidding.supply.outcomes import Aftermath
from ctrkit.bidding.supply.rows import picked
from ctrkit.errors import DataError
from ctrkit.hashing import GOLDEN, mixed

Counts: TypeAlias = Indices

# P(Poisson(1) ≤ k) for k = 0, 1, ...; the rest is too small for a double.
_CUMULATIVE: Final = np.exp(-1.0) * np.cumsum(1.0 / np.cumprod(np.r_[1.0, np.arange(1.0, 19.0)]))


def resampled(chunks: Iterable[Auctions], seed: int = 0, by_user: bool | None = None) -> Iterator[Auctions]:
    """The Poisson bootstrap: each auction occurs K times, K ~ Poisson(1), at its own time.

    It is like drawing with replacement, except that the number of auctions varies by its square root; and it
    need not know the length of the stream. If users are known, all auctions of a user occur equally often,
    and each repeat counts as a new user. Auctions of one user belong together: intervals that treat them as
    independent would be too narrow.

    If the true click probabilities are known, all clicks are drawn again, with the conversions and money that
    `Aftermath` gives them; else the log's own clicks are repeated.

    Source: N. Chamandy, O. Muralidharan, A. Najmi, S. Naidu, Estimating uncertainty for massive data
    streams, Google (2012).

    Args:
        chunks: the auctions in order of time.
        seed: the seed of the sample; the sample is the same however the stream is chunked.
        by_user: whether to resample whole users; by default if they are known. False treats auctions as
            independent.

    Raises:
        DataError: `by_user` is True and users are unknown.
    """
    times_rng, clicks = (np.random.default_rng(one) for one in np.random.SeedSequence(seed).spawn(2))
    aftermath, codes = Aftermath(), _Codes()
    for chunk in chunks:
        if by_user and chunk.user is None:
            raise DataError(
                "users cannot be resampled because they are unknown",
                column="user",
                hint="Resample auctions, not users",
            )
        whole_users = chunk.user is not None and by_user is not False
        uniform = _of_users(chunk.user, seed) if whole_users else times_rng.random(len(chunk))
        times = np.searchsorted(_CUMULATIVE, uniform, side="right")
        rows = np.repeat(np.arange(len(chunk)), times)
        sample = picked(chunk, rows)
        if whole_users and sample.user is not None:
            # The number of the repeat of each row: 0, 1, ...
            repeat = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
            sample = replace(sample, user=codes.of(sample.user, times[rows]) + repeat)
        if chunk.click is not None and sample.true_click_probability is not None:
            truth = sample.true_click_probability
            sample = aftermath.with_clicks(sample, clicks.random(truth.shape) < truth)
        if len(sample):
            yield sample


def _of_users(user: NDArray[np.integer[Any]] | None, seed: int) -> Floats:
    """A uniform number in [0, 1) for each auction, [n], the same for all auctions of a user."""
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):  # 64-bit integers wrap around
        words = mixed(key + GOLDEN * (np.asarray(user).astype(np.uint64) + np.uint64(1)))
    return np.asarray((words >> np.uint64(11)) * 2.0**-53)


class _Codes:
    """Codes from 0 for the repeats of users, in order of their first appearance, without gaps."""

    def __init__(self) -> None:
        self._first = np.zeros(0, np.int64)  # by user, -1 before its first appearance
        self._given = 0

    def of(self, user: NDArray[np.integer[Any]], times: Counts) -> Integers:
        """The code of the first repeat of users [n] who occur `times` [n] times; the other codes follow."""
        unmet = np.full(max(int(user.max(initial=-1)) + 1 - len(self._first), 0), -1)
        self._first = np.append(self._first, unmet)
        fresh = np.flatnonzero(self._first[user] < 0)
        new = fresh[np.sort(np.unique(user[fresh], return_index=True)[1])]
        ends = self._given + np.cumsum(times[new])
        self._first[user[new]] = ends - times[new]
        self._given = int(ends[-1]) if len(ends) else self._given
        return np.asarray(self._first[user])
