"""Outcomes that become known only some time after the impression."""

from __future__ import annotations

from collections import deque

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.strategies.base import ImpressionOutcomes


class FeedbackQueue:
    """Impressions that were won and whose outcomes are not known yet.

    Both a click and its absence become known when the waiting time is over. If clicks were told at once and
    their absence only later, a bidder would at first learn from too many clicks.

    Args:
        delay: the waiting time in the unit of the moments; 0 if outcomes are known at once.
    """

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._waiting: deque[tuple[Floats, ImpressionOutcomes]] = deque()

    def add(self, moment: Floats, outcomes: ImpressionOutcomes) -> None:
        """Add impressions at these moments [m], none of which is before a moment that was added earlier."""
        if len(moment):
            self._waiting.append((moment + self._delay, outcomes))

    def known(self, now: float) -> ImpressionOutcomes | None:
        """The outcomes that became known since the last call; None if there are none."""
        found = []
        while self._waiting and self._waiting[0][0][0] <= now:
            due, outcomes = self._waiting.popleft()
            n = int(np.searchsorted(due, now, side="right"))
            found.append(outcomes[:n])
            if n < len(due):
                self._waiting.appendleft((due[n:], outcomes[n:]))
        return _joined(found) if found else None


def _joined(parts: list[ImpressionOutcomes]) -> ImpressionOutcomes:
    if len(parts) == 1:
        return parts[0]
    slots = [part.slots for part in parts]
    hidden = [one.hidden for one in slots if one.hidden is not None]
    return ImpressionOutcomes(
        Slots(
            np.concatenate([one.click_probability for one in slots]),
            np.concatenate([one.value_of_click for one in slots]),
            np.concatenate(hidden) if hidden else None,
        ),
        np.concatenate([part.ad for part in parts]),
        np.concatenate([part.click for part in parts]),
    )
