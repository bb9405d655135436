"""What a simulation found: a row a strategy, the hindsight optimum, and the events behind them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StrategyResult:
    """What one strategy did.

    Attributes:
        name: of the strategy, with its parameters where two of one kind ran.
        auctions, wins: counts.
        clicks, conversions: that happened on what was won; None where the log does not know.
        spend: in units of money.
        value: expected value of what was won: by the truth where the log holds it, else by pCTR times the
            value of a click. It has no luck in it, unlike clicks.
        earned: money that came in on what was won; None where the log does not know.
        share_of_optimum: value over that of the hindsight optimum; None where the optimum is worth nothing.
        win_rate, budget_used: shares.
        cost_per_click: None without clicks.
    """

    name: str
    auctions: int
    wins: int
    clicks: int | None
    spend: float
    value: float
    share_of_optimum: float | None
    conversions: int | None
    earned: float | None
    win_rate: float
    budget_used: float
    cost_per_click: float | None


@dataclass(frozen=True)
class OptimumResult:
    """What a bidder who knew all prices would have bought under the same budget and largest bid.

    Attributes:
        wins: auctions bought; one an episode may be bought in part.
        clicks: of them, None where the log does not know.
        multiplier: value that a unit of money buys at the margin; None with several episodes.
        budget_binds: False where the budget pays for everything of value in every episode.
    """

    wins: float
    clicks: float | None
    spend: float
    value: float
    multiplier: float | None
    budget_binds: bool


@dataclass(frozen=True)
class SimulationResult:
    """The outcome of `simulate`.

    Attributes:
        strategies: in the order given.
        budget: of all episodes together, in units of money.
        notes: sentences that a reader of the numbers should know.
        events: one row an auction and strategy: strategy, auction (from 0), episode, tick, market_price,
            timestamp, ad, bid (as submitted, after all caps), won, click, conversion, earned, value
            (expected), spend, multiplier. What is won only is 0 where lost; timestamp, click, conversion and
            earned are there where the log knows them.
        trajectory: one row a tick and strategy, as of the tick's end: strategy, episode, tick, timestamp
            (where known), auctions, wins, spend and value since the episode's start, and the multiplier that
            the tick was bid with (null for strategies that do not pace).
    """

    strategies: tuple[StrategyResult, ...]
    optimum: OptimumResult
    budget: float
    episodes: int
    notes: tuple[str, ...]
    events: pl.DataFrame
    trajectory: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"strategies": [asdict(one) for one in self.strategies], "optimum": asdict(self.optimum)}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """A row a strategy."""
        import pandas as pd

        return pd.DataFrame([asdict(one) for one in self.strategies])
