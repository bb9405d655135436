"""Bid landscapes: the probability that a bid wins, learnt from auctions. One class per kind."""

from __future__ import annotations

from typing import Final

from ctrkit.bidding.landscapes.base import Landscape
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.bidding.landscapes.histogram import Histogram
from ctrkit.bidding.landscapes.parametric import Gamma, LogLogistic, LogNormal, SmoothLandscape

# A new landscape is added here; the shared tests then cover it.
LANDSCAPES: Final[dict[str, type[Landscape]]] = {
    kind.name: kind for kind in (LogNormal, LogLogistic, Gamma, Histogram)
}

__all__ = [
    "LANDSCAPES",
    "Gamma",
    "Histogram",
    "Landscape",
    "LogLogistic",
    "LogNormal",
    "PriceBounds",
    "SmoothLandscape",
]
