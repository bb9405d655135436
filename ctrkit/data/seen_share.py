"""The share of events, such as conversions, that have come by an age, from rows of all ages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Booleans, Floats


@dataclass(frozen=True)
class SeenShare:
    """The share of the events that have come by an age: a step function.

    Attributes:
        ages: ages at which it rises, ascending, [k].
        shares: the share from each of them on, up to 1, [k].
    """

    ages: Floats
    shares: Floats

    def at(self, ages: Floats) -> Floats:
        """The share by each age."""
        found: Floats = np.append(0.0, self.shares)[np.searchsorted(self.ages, ages, side="right")]
        return found

    @property
    def median(self) -> float | None:
        """The median delay; None where no event was seen."""
        return float(self.ages[np.searchsorted(self.shares, 0.5)]) if self.ages.size else None


def seen_share(delays: Floats, happened: Booleans, ages: Floats, weight: Floats, window: float) -> SeenShare:
    """P(delay <= age | the event comes within the window), from rows of all ages.

    The product-limit estimate S of rows without the event (Kaplan and Meier, JASA 1958), where a row is
    censored at its age or at the window, gives (1 - S(age)) / (1 - S(window)).

    Args:
        delays: seconds from row to event, read where it happened, [n].
        happened: whether the event came within the window and by the row's age, [n].
        ages: seconds for which each row has been observed, at least 0, [n].
        weight: number of rows that each row stands for, [n].
        window: the window.
    """
    until = np.minimum(np.where(happened, delays, ages), window)
    order = np.argsort(until, kind="stable")
    until, events = until[order], (weight * happened)[order]
    moments, first = np.unique(until, return_index=True)
    at_risk = weight.sum() - np.concatenate([[0.0], np.cumsum(weight[order])])[first]
    events = np.add.reduceat(events, first) if first.size else events
    kept = events > 0
    come = 1.0 - np.cumprod(1.0 - events[kept] / at_risk[kept])
    return SeenShare(moments[kept], come / come[-1] if come.size else come)
