"""What a simulation found: a row a strategy, the hindsight optimum, and the events behind them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import polars as pl

from ctrkit.bidding.simulation.regret import Kpis, RegretSplit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StrategyResult(Kpis):
    """What one strategy did; its value is by the truth where the log holds it, else by pCTR times the value
    of a click, and has no luck in it, unlike clicks.

    Attributes:
        name: of the strategy, with its parameters where two of one kind ran.
        regret_split: where the regret comes from; None with several slots or a frequency cap, under which
            the auctions cannot be told apart one by one, and where strategies bid against each other.
        exploration_spend: what the impressions cost whose ad was another than the one thought the best; None
            for strategies that never explore.
    """

    name: str
    regret_split: RegretSplit | None
    exploration_spend: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"name": self.name, **asdict(self)}

    @property
    def kpis(self) -> dict[str, float | None]:
        """All but the name and the split."""
        return {field.name: getattr(self, field.name) for field in fields(Kpis)}


@dataclass(frozen=True)
class OptimumResult:
    """What a bidder who knew all prices would have bought under the same budget and largest bid.

    Attributes:
        wins: auctions bought; one an episode may be bought in part.
        clicks: of them, None where the log does not know.
        multiplier: value that a unit of money buys at the margin; None with several episodes.
        budget_binds: False where the budget pays for everything of value in every episode.
        upper_bound: whether it forgets a limit, so that the best bidder may have bought less: shares of it
            are then too low. See `ctrkit.bidding.simulation.market_ledger.MarketLedger.best`.
    """

    wins: float
    clicks: float | None
    spend: float
    value: float
    multiplier: float | None
    budget_binds: bool
    upper_bound: bool = False


@dataclass(frozen=True)
class SimulationResult:
    """The outcome of `simulate`.

    Attributes:
        strategies: in the order given.
        budget: of all episodes together, in units of money.
        notes: sentences that a reader of the numbers should know.
        events: one row an auction and strategy: strategy, auction (from 0), episode, tick, market_price,
            timestamp, ad, bid (as submitted, after all caps), won, slot (from 0, −1 where lost), click,
            conversion, earned, value (expected), spend, estimate (what the bidder took the slot to be worth),
            explored, multiplier, chances (with which each candidate would have been chosen, of won auctions,
            where the bid does not hang on the choice). What is won only is 0 where lost; slot is there where
            pages have several, timestamp, click, conversion and earned where the log knows them, and explored
            and chances where a strategy explores.
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
        return {"strategies": [one.to_dict() for one in self.strategies], "optimum": asdict(self.optimum)}

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """A row a strategy."""
        import pandas as pd

        return pd.DataFrame([{"name": one.name, **one.kpis} for one in self.strategies])
