"""Bid strategies, one per file: commands and tests know every strategy in this folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ctrkit.bidding.strategies.base import AuctionHistory, Bids, BidStrategy, ImpressionOutcomes, TickResult
from ctrkit.bidding.strategies.bootstrapped import BootstrappedBidding
from ctrkit.bidding.strategies.constant import ConstantBidding
from ctrkit.bidding.strategies.dual import AdditiveDualBidding, DualBidding
from ctrkit.bidding.strategies.epsilon_greedy import EpsilonGreedyBidding
from ctrkit.bidding.strategies.exploring import ExploringBidding
from ctrkit.bidding.strategies.fixed_multiplier import FixedMultiplierBidding
from ctrkit.bidding.strategies.greedy import GreedyBidding
from ctrkit.bidding.strategies.lift import LiftBidding
from ctrkit.bidding.strategies.linear import LinearBidding
from ctrkit.bidding.strategies.ortb import Ortb1Bidding, Ortb2Bidding
from ctrkit.bidding.strategies.pid import PidBidding
from ctrkit.bidding.strategies.risk_aware import RiskAwareBidding
from ctrkit.bidding.strategies.rlb import RlbBidding, SsMdpBidding
from ctrkit.bidding.strategies.shaded import ShadedBidding
from ctrkit.bidding.strategies.target import TargetBidding
from ctrkit.bidding.strategies.thompson import ThompsonBidding
from ctrkit.bidding.strategies.throttling import ThrottlingBidding
from ctrkit.bidding.strategies.traffic_pid import TrafficPidBidding
from ctrkit.bidding.strategies.truthful import TruthfulBidding
from ctrkit.bidding.strategies.ucb import UcbBidding
from ctrkit.bidding.strategies.uniform_random import UniformRandomBidding
from ctrkit.policies.laplace import LastLayerPosterior
from ctrkit.settings import Registry

STRATEGIES: Final = Registry[BidStrategy[Any]](BidStrategy, __name__)
# Ways to give a strategy: a line `NAME:key=value,...`, a mapping of `name` and settings, or a `BidStrategy`.
StrategyLike: TypeAlias = str | Mapping[str, Any] | BidStrategy[Any]

__all__ = [
    "STRATEGIES",
    "AdditiveDualBidding",
    "AuctionHistory",
    "BidStrategy",
    "Bids",
    "BootstrappedBidding",
    "ConstantBidding",
    "DualBidding",
    "EpsilonGreedyBidding",
    "ExploringBidding",
    "FixedMultiplierBidding",
    "GreedyBidding",
    "ImpressionOutcomes",
    "LiftBidding",
    "LinearBidding",
    "Ortb1Bidding",
    "Ortb2Bidding",
    "PidBidding",
    "RiskAwareBidding",
    "RlbBidding",
    "ShadedBidding",
    "SsMdpBidding",
    "StrategyLike",
    "TargetBidding",
    "ThompsonBidding",
    "ThrottlingBidding",
    "TickResult",
    "TrafficPidBidding",
    "TruthfulBidding",
    "UcbBidding",
    "UniformRandomBidding",
    "parse_strategy",
]


def parse_strategy(given: StrategyLike, posterior: LastLayerPosterior | None = None) -> BidStrategy[Any]:
    """A strategy from `NAME` or `NAME:key=value,...`, for example `linear:base_bid=10,average_ctr=0.004`.

    Args:
        given: a line, a mapping such as `{"name": "linear", "base_bid": 10}`, or a strategy.
        posterior: the posterior of a model's last layer, for strategies that draw from it or use its
            uncertainty.

    Raises:
        ConfigError: an unknown name or key (the error names the nearest), a value of another type or out of
            bounds, or no posterior for a strategy that needs one.
    """
    return STRATEGIES.read(given).knowing(posterior)
