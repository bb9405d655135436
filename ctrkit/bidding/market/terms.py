"""The terms on which a campaign bids, the same for every strategy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.bidding.market.clearing import SECOND_PRICE
from ctrkit.bidding.market.frequency import FrequencyCap
from ctrkit.bidding.market.rules import AuctionRule
from ctrkit.errors import ConfigError


@dataclass(frozen=True)
class CampaignTerms:
    """The money and limits of a campaign, and the rule of the exchange.

    Attributes:
        budget: the budget of each episode, in units of money, above 0.
        lifetime_budget: the budget of all episodes together; None sets no such limit. An episode then gets a
            part of the money left, in proportion to its auctions, and never more than `budget`.
        max_bid: the largest bid, in units of money; None sets no limit.
        integer_bids: whether bids are rounded down to whole units of money.
        frequency_cap: the largest number of impressions per user; None sets no limit.
        feedback_delay: the time until the outcome of an impression is known, in seconds where auctions have
            timestamps, else in auctions.
        tells_minimum_bid: whether the exchange tells every bidder the minimum bid to win.
        rule: who wins and what is paid; by default second price, and a bid wins at the market price.

    Raises:
        ConfigError: a number out of range.
    """

    budget: float
    lifetime_budget: float | None = None
    max_bid: float | None = None
    integer_bids: bool = False
    frequency_cap: FrequencyCap | None = None
    feedback_delay: float = 0.0
    tells_minimum_bid: bool = False
    rule: AuctionRule = SECOND_PRICE

    def __post_init__(self) -> None:
        for name in ("budget", "lifetime_budget", "max_bid"):
            setting = getattr(self, name)
            if setting is not None and not (np.isfinite(setting) and setting > 0):
                raise ConfigError(f"{name} is {setting:g} and must be above 0", hint=f"Give a {name} above 0")
        if not (np.isfinite(self.feedback_delay) and self.feedback_delay >= 0):
            raise ConfigError(
                f"feedback_delay is {self.feedback_delay:g} and must be at least 0",
                hint="Give seconds, or auctions where the log has no timestamps",
            )

    @property
    def largest_bid(self) -> float:
        """The largest possible bid in units of money; infinite without a limit, whole if bids are whole."""
        most = np.inf if self.max_bid is None else self.max_bid
        return float(np.floor(most)) if self.integer_bids else most

    def budget_of(self, part: float, spent: float) -> float:
        """The money that an episode may spend.

        Args:
            part: the episode's share of all auctions that are left, its own included.
            spent: the spend of all episodes before.
        """
        if self.lifetime_budget is None:
            return self.budget
        return min(self.budget, max(self.lifetime_budget - spent, 0.0) * part)

    def total(self, episodes: int) -> float:
        """The money that all episodes together may spend."""
        whole = self.budget * episodes
        return whole if self.lifetime_budget is None else min(whole, self.lifetime_budget)
