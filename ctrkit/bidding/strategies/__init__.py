"""Bid strategies, one a file, and the text by which a command names them."""

from __future__ import annotations

from typing import Any, Final

from ctrkit.bidding.strategies.base import Bids, BidStrategy, TickResult
from ctrkit.bidding.strategies.dual import DualBidding
from ctrkit.bidding.strategies.linear import LinearBidding
from ctrkit.bidding.strategies.thompson import ThompsonBidding
from ctrkit.bidding.strategies.truthful import TruthfulBidding
from ctrkit.errors import ConfigError, nearest
from ctrkit.policies.laplace import LastLayerPosterior

# A new strategy is added here, and with that to the command line and the shared tests.
STRATEGIES: Final[dict[str, type[BidStrategy[Any]]]] = {
    strategy.name: strategy for strategy in (TruthfulBidding, LinearBidding, DualBidding, ThompsonBidding)
}

__all__ = [
    "STRATEGIES",
    "BidStrategy",
    "Bids",
    "DualBidding",
    "LinearBidding",
    "ThompsonBidding",
    "TickResult",
    "TruthfulBidding",
    "parse_strategy",
]


def parse_strategy(text: str, posterior: LastLayerPosterior | None = None) -> BidStrategy[Any]:
    """A strategy from `NAME` or `NAME:key=value,...`, for example `linear:base_bid=10,average_ctr=0.004`.

    Args:
        posterior: of a model's last layer, for the strategies that sample from it.

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
            arguments[key] = float(value)
        except ValueError as error:
            raise ConfigError(
                f"strategy '{name}': {key} is '{value}', which is no number",
                mend=f"Write for example {name}:{key}=1",
            ) from error
    if cls is ThompsonBidding:
        if posterior is None:
            raise ConfigError(
                f"strategy '{name}' draws from a model's last layer, and there is no model with a posterior",
                mend="Give a model that `ctrkit train` wrote, or use the strategy 'dual'",
            )
        arguments["posterior"] = posterior
    return cls(**arguments)
