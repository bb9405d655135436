"""The result of a simulation: strategies, the hindsight optimum, and all events."""

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
    """What one strategy did.

    Its value is the true expected value where the log has it, else pCTR times the value of a click. Unlike
    clicks, the value does not depend on luck.

    Attributes:
        name: the name of the strategy, with its settings where two of one kind ran.
        regret_split: the regret by cause; None with several slots or a frequency cap, where a regret cannot
            be split by auction, and where strategies bid against each other.
        exploration_spend: spend on impressions whose ad was another than the best by estimate; None for
            strategies that never explore.
    """

    name: str
    regret_split: RegretSplit | None
    exploration_spend: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"name": self.name, **asdict(self)}

    @property
    def kpis(self) -> dict[str, float | None]:
        """The KPIs alone, without the name and the split."""
        return {field.name: getattr(self, field.name) for field in fields(Kpis)}


@dataclass(frozen=True)
class OptimumResult:
    """What a bidder who knew all prices would have bought under the same budget and largest bid.

    Attributes:
        wins: number of auctions bought; one per episode may be bought in part.
        clicks: number of clicks on them; None if the log has no clicks.
        spend: money paid.
        value: expected value of the auctions bought.
        multiplier: value that a unit of money buys at the margin; None with several episodes.
        budget_binds: False if the budget pays for everything of value in every episode.
        upper_bound: whether it ignores a limit, so that the best bidder may have bought less; shares of it
            are then too low (see `ctrkit.bidding.simulation.market_ledger.MarketLedger.best`).
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
        strategies: the result of each strategy, in the order given.
        optimum: the hindsight optimum.
        budget: the budget of all episodes together, in units of money.
        episodes: number of episodes.
        notes: sentences that a reader of the numbers should know.
        events: one row per strategy and auction: strategy, auction (from 0), episode, tick, market_price,
            timestamp, ad, bid (as submitted, after all caps), won, slot (from 0, −1 where lost), click,
            conversion, earned, value (expected), spend, estimate (the bidder's own value of the slot),
            explored, multiplier, chances (the probability of each candidate; only of won auctions, and only
            if the bid does not depend on the choice). Outcomes and spend are 0 where lost. The column slot is
            there if pages have several slots; timestamp, click, conversion and earned if the log has them;
            explored and chances if a strategy explores.
        trajectory: one row per strategy and tick, at the tick's end: strategy, episode, tick, timestamp
            (where known), auctions, wins, spend and value since the start of the episode, and the multiplier
            of the tick's bids (null for strategies that do not pace).
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
        """One row per strategy."""
        import pandas as pd

        return pd.DataFrame([{"name": one.name, **one.kpis} for one in self.strategies])
