"""Where auctions come from: a made-up market of known truth; logs under shocks, other luck, another model."""

from __future__ import annotations

from ctrkit.bidding.supply.miscalibration import miscalibrated, recalibrated_in_hindsight, truthful_sight
from ctrkit.bidding.supply.prices import PriceModel, parse_price_model
from ctrkit.bidding.supply.resample import resampled
from ctrkit.bidding.supply.shocks import Shock, parse_shock, shocked
from ctrkit.bidding.supply.synthetic_market import SyntheticMarket, parse_market
from ctrkit.bidding.supply.traffic import TRAFFIC, TrafficShape

__all__ = [
    "TRAFFIC",
    "PriceModel",
    "Shock",
    "SyntheticMarket",
    "TrafficShape",
    "miscalibrated",
    "parse_market",
    "parse_price_model",
    "parse_shock",
    "recalibrated_in_hindsight",
    "resampled",
    "shocked",
    "truthful_sight",
]
