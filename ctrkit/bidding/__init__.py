"""Auctions, bid strategies that keep to a budget, and what the best bidder could have had. Needs no torch."""

from ctrkit.bidding.market.auctions import (
    Auctions,
    Slots,
    auctions_from_log,
    open_auction_log,
    read_auction_log,
)
from ctrkit.bidding.market.frequency import FrequencyCap
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.optimum.hindsight import Optimum, hindsight_optimum
from ctrkit.bidding.pacing.dual import DualPacer, Pace
from ctrkit.bidding.pacing.spend_plan import SpendPlan
from ctrkit.bidding.simulation.result import OptimumResult, SimulationResult, StrategyResult
from ctrkit.bidding.simulation.simulator import simulate
from ctrkit.bidding.strategies import (
    STRATEGIES,
    Bids,
    BidStrategy,
    DualBidding,
    LinearBidding,
    ThompsonBidding,
    TickResult,
    TruthfulBidding,
    parse_strategy,
)

__all__ = [
    "STRATEGIES",
    "AuctionRule",
    "Auctions",
    "BidStrategy",
    "Bids",
    "CampaignTerms",
    "DualBidding",
    "DualPacer",
    "FrequencyCap",
    "LinearBidding",
    "Optimum",
    "OptimumResult",
    "Pace",
    "SimulationResult",
    "Slots",
    "SpendPlan",
    "StrategyResult",
    "ThompsonBidding",
    "TickResult",
    "TruthfulBidding",
    "auctions_from_log",
    "hindsight_optimum",
    "open_auction_log",
    "parse_strategy",
    "read_auction_log",
    "simulate",
]
