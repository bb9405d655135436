"""Bid strategies, one a file, and the text by which a command names them."""

from __future__ import annotations

from typing import Any, Final

from ctrkit.bidding.strategies.base import Bids, BidStrategy, History, Outcomes, TickResult, fields_of
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
from ctrkit.errors import ConfigError, nearest
from ctrkit.policies.laplace import LastLayerPosterior

_KNOWN: Final[tuple[type[BidStrategy[Any]], ...]] = (
    ConstantBidding,
    UniformRandomBidding,
    TruthfulBidding,
    LinearBidding,
    Ortb1Bidding,
    Ortb2Bidding,
    LiftBidding,
    RiskAwareBidding,
    RlbBidding,
    SsMdpBidding,
    DualBidding,
    AdditiveDualBidding,
    PidBidding,
    TrafficPidBidding,
    ThrottlingBidding,
    FixedMultiplierBidding,
    ThompsonBidding,
    BootstrappedBidding,
    UcbBidding,
    EpsilonGreedyBidding,
    GreedyBidding,
    ShadedBidding,
    TargetBidding,
)

# A new strategy is added there, and with that to the command line and the shared tests.
STRATEGIES: Final[dict[str, type[BidStrategy[Any]]]] = {strategy.name: strategy for strategy in _KNOWN}

__all__ = [
    "STRATEGIES",
    "AdditiveDualBidding",
    "BidStrategy",
    "Bids",
    "BootstrappedBidding",
    "ConstantBidding",
    "DualBidding",
    "EpsilonGreedyBidding",
    "ExploringBidding",
    "FixedMultiplierBidding",
    "GreedyBidding",
    "History",
    "LiftBidding",
    "LinearBidding",
    "Ortb1Bidding",
    "Ortb2Bidding",
    "Outcomes",
    "PidBidding",
    "RiskAwareBidding",
    "RlbBidding",
    "ShadedBidding",
    "SsMdpBidding",
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


def parse_strategy(text: str, posterior: LastLayerPosterior | None = None) -> BidStrategy[Any]:
    """A strategy from `NAME` or `NAME:key=value,...`, for example `linear:base_bid=10,average_ctr=0.004`.

    Args:
        posterior: of a model's last layer, for the strategies that draw from it or heed how sure it is.

    Raises:
        ConfigError: unknown name or parameter (the nearest known one is named), a value that is no number
            or out of range, or a posterior that is needed and not given.
    """
    name, _, settings = text.partition(":")
    if name not in STRATEGIES:
        raise ConfigError(f"unknown bid strategy '{name}'", mend=nearest(name, STRATEGIES))
    cls = STRATEGIES[name]
    arguments: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        known = cls.parameters()
        if not equals:
            raise ConfigError(
                f"strategy '{text}': '{setting}' is not of the form key=value",
                mend=f"Write for example {name}:{known[0]}=1",
            )
        if key not in known:
            raise ConfigError(
                f"strategy '{name}' has no parameter '{key}'",
                mend=nearest(key, known),
            )
        if key in arguments:
            raise ConfigError(f"strategy '{text}': {key} is given twice", mend="Leave one out")
        try:
            # A parameter whose default is a text takes one.
            arguments[key] = value if isinstance(getattr(cls, key), str) else float(value)
        except ValueError as error:
            raise ConfigError(
                f"strategy '{name}': {key} is '{value}', which is no number",
                mend=f"Write for example {name}:{key}=1",
            ) from error
    if issubclass(cls, ExploringBidding) and posterior is None:
        raise ConfigError(
            f"strategy '{name}' draws from a model's last layer, and there is no model with a posterior",
            mend="Give a model that `ctrkit train` wrote, or use the strategy 'dual'",
        )
    if posterior is not None and "posterior" in (field.name for field in fields_of(cls)):
        arguments["posterior"] = posterior
    return cls(**arguments)
