"""Bid landscapes: the chance that a bid wins, learnt from what auctions tell. One kind a class."""

from __future__ import annotations

from typing import Final

from ctrkit.bidding.landscapes.base import Landscape
from ctrkit.bidding.landscapes.bounds import PriceBounds
from ctrkit.bidding.landscapes.histogram import Histogram
from ctrkit.bidding.landscapes.parametric import Gamma, LogLogistic, LogNormal, SmoothLandscape

# A new landscape is added here, and with that to the shared tests.
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
