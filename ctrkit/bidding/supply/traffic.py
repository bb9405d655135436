"""How traffic varies with the hour of the day or of the week."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.errors import ConfigError

# 1970-01-01 was a Thursday, and weeks begin on Mondays.
_THURSDAY = 3 * 24
# The Monday before the first unix second.
_MONDAY = -_THURSDAY * HOUR


@dataclass(frozen=True, eq=False)
class TrafficShape:
    """Relative traffic by hour of the day (UTC) or of the week (from Monday 00:00 UTC).

    Traffic is even within an hour. Moments are unix seconds.

    Attributes:
        weight: [24] or [168], the relative number of auctions in each hour, at least 0 and not all 0.

    Raises:
        ConfigError: another number of weights, or a weight that is negative or not finite.
    """

    weight: Floats

    def __post_init__(self) -> None:
        weight = np.array(self.weight, np.float64)
        if weight.shape not in ((24,), (168,)):
            raise ConfigError(
                f"the weights of a traffic shape have shape {weight.shape}",
                hint="Give 24 weights for the hours of a day, or 168 for those of a week from Monday",
            )
        if not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
            raise ConfigError("the weights of a traffic shape must be finite, at least 0, and not all 0")
        object.__setattr__(self, "weight", weight)

    @classmethod
    def flat(cls) -> Self:
        """The same traffic in every hour."""
        return cls(np.ones(24))

    def moments(self, share: ArrayLike, start: float, days: float = 1.0) -> Floats:
        """The moments when these shares of the traffic of a span have passed; an array of the same shape.

        Args:
            share: in [0, 1].
            start: unix seconds.
            days: how long the span is.

        Raises:
            ConfigError: the span has no traffic at all.
        """
        first, last = self._before(start), self._before(start + days * DAY)
        if not last > first:
            raise ConfigError(
                f"there is no traffic within {days:g} days from {start:g}",
                hint="Give a longer span, or a shape with traffic in its hours",
            )
        whole = first + np.asarray(share, np.float64) * (last - first)
        periods = np.floor(whole)
        inside = np.interp(whole - periods, *self._rising)
        moment = _MONDAY + (periods * len(self.weight) + inside) * HOUR
        return np.clip(moment, start, start + days * DAY)

    @cached_property
    def _cumulative(self) -> Floats:
        """The share of a period's traffic before each of its hours, and 1, [hours + 1]."""
        running = np.concatenate([[0.0], np.cumsum(self.weight)])
        return np.asarray(running / running[-1])

    @cached_property
    def _rising(self) -> tuple[Floats, Floats]:
        """Shares of a period's traffic, and the hours by which they have passed; empty hours are skipped."""
        share = self._cumulative
        # An hour without traffic makes two corners of one share; of a run, the first and last are enough.
        corner = np.r_[True, np.diff(share) > 0] | np.r_[np.diff(share) > 0, True]
        return share[corner], np.flatnonzero(corner).astype(np.float64)

    def _before(self, moment: float) -> float:
        """The number of periods of traffic between an early Monday and a moment."""
        hours = len(self.weight)
        periods, inside = divmod((moment - _MONDAY) / HOUR, hours)
        return float(periods + np.interp(inside, np.arange(hours + 1), self._cumulative))


def _typical_day() -> Floats:
    """Least at four in the morning, most at eight in the evening."""
    hour = np.arange(24)
    return 1.0 + 0.6 * np.sin((hour - 13.5) * np.pi / 12) + 0.25 * np.sin((hour - 9) * np.pi / 6)


_WEEKEND = np.repeat([1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.85], 24)
# Shapes by name: even, a day with a busy evening, and a week of such days with a quieter weekend.
TRAFFIC: Final[dict[str, TrafficShape]] = {
    "flat": TrafficShape.flat(),
    "day": TrafficShape(_typical_day()),
    "week": TrafficShape(np.tile(_typical_day(), 7) * _WEEKEND),
}
