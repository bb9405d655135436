"""Where auctions come from: a simulated market with known truth; logs resampled, shocked or miscalibrated."""

from __future__ import annotations

from ctrkit.bidding.supply.miscalibration import miscalibrated, recalibrated_in_hindsight, truthful_sight
from ctrkit.bidding.supply.prices import PRICES, PriceModel, price_model
from ctrkit.bidding.supply.resample import resampled
from ctrkit.bidding.supply.shocks import SHOCKS, Shock, ShockLike, shocked
from ctrkit.bidding.supply.synthetic_market import SyntheticMarket, parse_market
from ctrkit.bidding.supply.traffic import TRAFFIC, TrafficShape

__all__ = [
    "PRICES",
    "SHOCKS",
    "TRAFFIC",
    "PriceModel",
    "Shock",
    "ShockLike",
    "SyntheticMarket",
    "TrafficShape",
    "miscalibrated",
    "parse_market",
    "price_model",
    "recalibrated_in_hindsight",
    "resampled",
    "shocked",
    "truthful_sight",
]
