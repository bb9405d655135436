"""What a shock is: one quantity of the market is multiplied by a factor for some time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field

from ctrkit.arrays import Floats, Indices
from ctrkit.bidding.market.auctions import HOUR, Auctions
from ctrkit.errors import ConfigError, DataError
from ctrkit.settings import NotNegative, checked, title

# Gives the next chunk under factors [n], and the rows of the chunk that it is made from.
Action: TypeAlias = Callable[[Auctions, Floats], tuple[Auctions, Indices]]


def _edge(given: Any) -> Any:
    """A share of the stream as a number, an hour of the day as a text like `12h`."""
    in_hours = isinstance(given, str) and given.endswith("h")
    at, most = float(given.removesuffix("h") if in_hours else given), 24 if in_hours else 1
    if not 0 <= at <= most:
        raise ValueError(f"{'an hour' if in_hours else 'a share'} lies within [0, {most}]")
    return f"{at:g}h" if in_hours else at


Edge: TypeAlias = Annotated[float | str, BeforeValidator(_edge)]


def _at(edge: float | str) -> float:
    return float(edge.removesuffix("h")) if isinstance(edge, str) else edge


@checked
class Shock(ABC):
    """One quantity of the market is multiplied by a factor from start to end, and unchanged at other times.

    Start and end are shares of the stream's auctions, or hours of the day (UTC) if an `h` follows the number.
    A start hour after the end hour goes over midnight. The end itself is not a part of the shock.

    Attributes:
        order: shocks with a lower order act first, so that a new click has the value of its own moment.

    Raises:
        ConfigError: a number out of range, an end that is not after the start, or only one of both in hours.
    """

    what: ClassVar[str] = "shock"
    name: ClassVar[str]
    order: ClassVar[int]
    factor: NotNegative = Field(description="the factor by which the quantity is multiplied")
    start: Edge = Field(
        default=0.0, description="start, a share of the auctions, or an hour of the day (UTC) such as 12h"
    )
    end: Edge | None = Field(
        default=None, description="end, like the start; by default the end of all auctions or of the day"
    )
    drift: bool = Field(
        default=False,
        description="whether the factor changes gradually, in a straight line from 1 at the start to its "
        "full size at the end",
    )

    def __post_init__(self) -> None:
        edges = [edge for edge in (self.start, self.end) if edge not in (None, 0)]
        if len({type(edge) for edge in edges}) > 1:
            raise ConfigError(
                f"{title(self)}: one of start and end is an hour, and the other is a share",
                hint="Write an h after both numbers, or after none",
            )
        start, end = self._from, self._to
        if (start > end and not self.hours) or start in (end, self._whole):
            raise ConfigError(
                f"{title(self)}: the end {end:g} is not after the start {start:g}",
                hint="Give a start before the end",
            )

    @classmethod
    @abstractmethod
    def action(cls, seed: int) -> Action:
        """The change that all shocks of this kind together make to a stream, chunk by chunk.

        Args:
            seed: seed of random draws; the result is the same however the stream is chunked.
        """

    def factors(self, row: Floats, auctions: int, timestamp: Floats | None) -> Floats:
        """The factor of each of n auctions, [n].

        Args:
            row: [n], the index of each auction in the stream, from 0.
            auctions: number of auctions of the whole stream.
            timestamp: [n], seconds since 1970; only read for hours.

        Raises:
            DataError: a shock by hours for auctions without timestamps.
        """
        length = self._to - self._from
        if not self.hours:
            since = row / max(auctions, 1) - self._from
        elif timestamp is None:
            raise DataError(
                f"{title(self)} has hours, but the auctions have no timestamps",
                column="timestamp",
                hint="Give start and end as shares of the stream, such as 0.5",
            )
        else:
            since, length = (timestamp / HOUR - self._from) % 24, length if length > 0 else length + 24
        size = since / length if self.drift else 1.0
        return 1.0 + (self.factor - 1.0) * np.where((since >= 0) & (since < length), size, 0.0)

    @property
    def hours(self) -> bool:
        """Whether start or end is an hour, which needs timestamps."""
        return isinstance(self.start, str) or isinstance(self.end, str)

    @property
    def _whole(self) -> float:
        return 24.0 if self.hours else 1.0

    @property
    def _from(self) -> float:
        return _at(self.start)

    @property
    def _to(self) -> float:
        return self._whole if self.end is None else _at(self.end)


def every_row(change: Callable[[Auctions, Floats], Auctions]) -> Action:
    """The action of a change that keeps all rows in their place."""
    return lambda chunk, factor: (change(chunk, factor), np.arange(len(chunk)))


def generator(seed: int, stream: int) -> np.random.Generator:
    """A generator of random numbers that no other kind of shock shares."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
