"""Assigns users to the arms of an experiment by a salted hash: the same user always gets the same arm.

A hash puts each user at a place of a line, and an arm owns stretches of the line; all other places are the
control's. An arm that grows takes places of the control, and one that shrinks gives its newest places back.
So a change of shares moves users between the control and that arm alone, never from one arm to another.
Experiments with different salts are independent of one another (Kohavi, Tang and Xu, "Trustworthy Online
Controlled Experiments", 2020, chapter 14).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.errors import ConfigError
from ctrkit.hashing import mixed, mixed_word, text_hash, text_hashes

# Places of the line: shares are right to a millionth.
PLACES = 1_000_000


class Stretch(NamedTuple):
    """Places of an arm.

    Attributes:
        arm: name of the arm.
        start: the first place.
        end: the place behind the last one.
    """

    arm: str
    start: int
    end: int


@dataclass(frozen=True)
class Assignment:
    """Which arm a user has.

    Attributes:
        salt: name of the experiment, with which keys of users are hashed.
        stretches: places of the arms, in the order in which they were taken.
    """

    salt: str
    stretches: tuple[Stretch, ...] = ()

    def share(self, arm: str) -> float:
        """The share of users that have an arm."""
        return self._size(arm) / PLACES

    def with_share(self, arm: str, share: float) -> Assignment:
        """The assignment with another share of an arm; 0 removes it.

        Raises:
            ConfigError: the share is negative, or more than the arm and the control have.
        """
        more = round(share * PLACES) - self._size(arm) if 0 <= share <= 1 else PLACES + 1
        free = PLACES - sum(one.end - one.start for one in self.stretches)
        if more > free:
            most = self.share(arm) + free / PLACES
            hint = f"Give a number from 0 to {most:g}: the other arms have the rest"
            raise ConfigError(f"a share of {share:g} is not to be had", hint=hint, argument="share")
        return replace(self, stretches=self._grown(arm, more) if more > 0 else self._shrunk(arm, -more))

    def arms(self, users: pl.Series) -> pl.Series:
        """The arm of each user: null for the control, and for a user without a key.

        Args:
            users: keys; a number is the same user as its text.
        """
        places = self._places(users.cast(pl.String))
        found = np.full(places.size, len(self.stretches))
        for number, one in enumerate(self.stretches):
            found[(places >= one.start) & (places < one.end)] = number
        found[users.is_null().to_numpy()] = len(self.stretches)
        names = pl.Series("arm", [*(one.arm for one in self.stretches), None], dtype=pl.String)
        return names.gather(found)

    def arm(self, user: str | None) -> str | None:
        """The arm of one user; None for the control, and for a user without a key."""
        if user is None:
            return None
        word = mixed_word(text_hash(user) ^ self._salt)
        place = int((word >> 11) * 2.0**-53 * PLACES)
        return next((one.arm for one in self.stretches if one.start <= place < one.end), None)

    @cached_property
    def _salt(self) -> int:
        return text_hash(self.salt)

    def _size(self, arm: str) -> int:
        return sum(one.end - one.start for one in self.stretches if one.arm == arm)

    def _places(self, users: pl.Series) -> NDArray[np.int64]:
        # The upper 53 bits, as a number from 0 to 1.
        shares = (mixed(text_hashes(users) ^ np.uint64(self._salt)) >> np.uint64(11)).astype(
            np.float64
        ) * 2.0**-53
        return (shares * PLACES).astype(np.int64)

    def _grown(self, arm: str, more: int) -> tuple[Stretch, ...]:
        taken, start, found = sorted(self.stretches, key=lambda one: one.start), 0, [*self.stretches]
        for end, behind in [*((one.start, one.end) for one in taken), (PLACES, PLACES)]:
            size = min(end - start, more)
            if size:
                found.append(Stretch(arm, start, start + size))
                more -= size
            start = behind
        return _joined(found)

    def _shrunk(self, arm: str, less: int) -> tuple[Stretch, ...]:
        found: list[Stretch] = []
        for one in reversed(self.stretches):
            size = min(one.end - one.start, less) if one.arm == arm else 0
            less -= size
            if one.end - size > one.start:
                found.append(one._replace(end=one.end - size))
        return tuple(reversed(found))


def _joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """The same places, with one stretch where two of an arm follow each other."""
    found: list[Stretch] = []
    for arm, of in groupby(stretches, lambda one: one.arm):
        for one in of:
            if found and found[-1].arm == arm and found[-1].end == one.start:
                one = Stretch(arm, found.pop().start, one.end)
            found.append(one)
    return tuple(found)
