"""Auctions, bid strategies that keep to a budget, and what the best bidder could have had. Needs no torch."""

from ctrkit.bidding.auctions import Auctions, Slots, auctions_from_log, open_auction_log, read_auction_log
from ctrkit.bidding.frequency import FrequencyCap
from ctrkit.bidding.hindsight import Optimum, hindsight_optimum, hindsight_optimum_cvxpy
from ctrkit.bidding.pacing import DualPacer, Pace
from ctrkit.bidding.result import OptimumResult, SimulationResult, StrategyResult
from ctrkit.bidding.rules import AuctionRule
from ctrkit.bidding.simulator import simulate
from ctrkit.bidding.spend_plan import SpendPlan
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
from ctrkit.bidding.terms import Terms

__all__ = [
    "STRATEGIES",
    "AuctionRule",
    "Auctions",
    "BidStrategy",
    "Bids",
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
    "Terms",
    "ThompsonBidding",
    "TickResult",
    "TruthfulBidding",
    "auctions_from_log",
    "hindsight_optimum",
    "hindsight_optimum_cvxpy",
    "open_auction_log",
    "parse_strategy",
    "read_auction_log",
    "simulate",
]
