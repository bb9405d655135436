"""What a shock is: something of the market times a factor for some of the time."""

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

# The next chunk under factors [n], and which rows of the chunk it is made of.
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
    """One thing of the market times a factor for some of the time; outside of it all is as before.

    Start and end are shares of the stream's auctions, or with an `h` behind them hours of the day (UTC),
    where a start after the end goes over midnight; the end does not belong to the shock.

    Attributes:
        order: shocks of a lower one act before, so that a new click brings what it would at its own moment.

    Raises:
        ConfigError: a number out of range, an end that is not after the start, or one of both in hours.
    """

    what: ClassVar[str] = "shock"
    name: ClassVar[str]
    order: ClassVar[int]
    factor: NotNegative = Field(description="by which it is multiplied")
    start: Edge = Field(default=0.0, description="a share of the auctions, or an hour of the day such as 12h")
    end: Edge | None = Field(
        default=None, description="likewise; by default the end of all auctions or of the day"
    )
    drift: bool = Field(
        default=False,
        description="whether the factor goes from 1 at the start to its full size at the end in a straight "
        "line, rather than at a step",
    )

    def __post_init__(self) -> None:
        edges = [edge for edge in (self.start, self.end) if edge not in (None, 0)]
        if len({type(edge) for edge in edges}) > 1:
            raise ConfigError(
                f"{title(self)}: one of start and end is an hour and the other a share",
                hint="Write an h behind both",
            )
        start, end = self._from, self._to
        if (start > end and not self.hours) or start in (end, self._whole):
            raise ConfigError(
                f"{title(self)}: it ends at {end:g}, and starts only at {start:g}",
                hint="Give a start before the end",
            )

    @classmethod
    @abstractmethod
    def action(cls, seed: int) -> Action:
        """What all shocks of this kind do together to a stream, chunk by chunk.

        Args:
            seed: of what is drawn; the same however the stream is chunked.
        """

    def factors(self, row: Floats, auctions: int, timestamp: Floats | None) -> Floats:
        """The factor of each of n auctions, [n].

        Args:
            row: [n], in the stream, from 0.
            auctions: of the whole stream.
            timestamp: [n].

        Raises:
            DataError: hours without timestamps.
        """
        length = self._to - self._from
        if not self.hours:
            since = row / max(auctions, 1) - self._from
        elif timestamp is None:
            raise DataError(
                f"{title(self)} comes by the hour, and these auctions have no time",
                column="timestamp",
                hint="Give start and end as shares of the stream, such as 0.5",
            )
        else:
            since, length = (timestamp / HOUR - self._from) % 24, length if length > 0 else length + 24
        size = since / length if self.drift else 1.0
        return 1.0 + (self.factor - 1.0) * np.where((since >= 0) & (since < length), size, 0.0)

    @property
    def hours(self) -> bool:
        """Whether it comes by the hour, which needs timestamps."""
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
    """The action of a change that leaves the rows where they are."""
    return lambda chunk, factor: (change(chunk, factor), np.arange(len(chunk)))


def generator(seed: int, stream: int) -> np.random.Generator:
    """Luck of a stream of its own: no two of the shocks share one."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
