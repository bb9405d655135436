"""First-price bid shading under a budget: bids below the value, by the learnt distribution of prices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from pydantic import Field

from ctrkit.arrays import Booleans, Floats
from ctrkit.bidding.landscapes import Gamma, LogLogistic, LogNormal, PriceBounds, SmoothLandscape
from ctrkit.bidding.market.auctions import Slots
from ctrkit.bidding.market.terms import CampaignTerms
from ctrkit.bidding.pacing.dual import Pace
from ctrkit.bidding.pacing.shading import ShadingTable
from ctrkit.bidding.strategies.base import AuctionHistory, Bids, TickResult, best_ad, check_history
from ctrkit.bidding.strategies.paced import PacedBidding
from ctrkit.bidding.strategies.tuning import budget_multiplier, highest_within
from ctrkit.errors import DataError
from ctrkit.settings import UnitInterval, checked

FAMILIES: Final[tuple[type[SmoothLandscape], ...]] = (LogNormal, LogLogistic)
# The first fit is tried after FIRST_FIT auctions, and the next when the auctions seen have grown by GROWTH,
FIRST_FIT, GROWTH = 100, 1.5
# but at the latest when half of the WINDOW auctions that a fit uses are new.
WINDOW = 50_000
# A fit is used once the standard errors of its location (in log price) and log shape are below this.
LARGEST_ERROR = 0.5
# A fit rounds bids and prices to this many levels per octave (0.3 % at most), so that many are equal.
LEVELS = 128
# Explored bids spread over this factor.
SPREAD = 4.0
# Number of quantiles of the values from which a first multiplier is found.
SAMPLE = 4096
# The golden section: the fractional parts of its multiples fill [0, 1) evenly.
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class ShadedState:
    """The pace of the episode, and what is known of the market.

    Attributes:
        pace: the state of the pacer.
        table: the best bid by worth; None before the first fit.
        notices: what was learnt of prices, by tick; only the latest ticks that a fit uses.
        seen: number of auctions so far, over all episodes.
        fit_at: number of auctions at which the next fit is tried.
        wins: number of wins so far.
        own_price: number of wins that paid exactly their bid.
    """

    pace: Pace
    table: ShadingTable | None
    notices: tuple[PriceBounds, ...] = ()
    seen: int = 0
    fit_at: int = FIRST_FIT
    wins: int = 0
    own_price: int = 0

    @property
    def first_price(self) -> bool:
        """Whether winners seem to pay their own bids."""
        return 2 * self.own_price >= self.wins

    @property
    def told(self) -> bool:
        """Whether the exchange seems to tell the prices of all auctions."""
        return bool(self.notices and len(self.notices[-1]) and self.notices[-1].known.all())


@checked
class ShadedBidding(PacedBidding[ShadedState]):
    """b = argmax (v − μ·b) F(b) for first-price auctions; the landscape F and the multiplier μ are learnt.

    μ is paced as in `dual`. F is the log-normal or the log-logistic landscape, whichever has the higher
    likelihood. It is fitted to what the bidder itself learns: after a win that the price was at most its bid,
    after a loss that it was above; or the price itself, if the exchange tells the minimum bid to win (then F
    may also be gamma). A new fit is made whenever the auctions seen have grown by half, so that the work is
    proportional to the log of auctions.

    Before the first fit, bids are v/μ as in `dual`, and the share `exploration` of them is scaled down by
    factors of up to 4, so that similar bids both win and lose, which determines F. Later that share falls
    with the square root of the ticks, and an explored bid is between half and twice the best bid, and at most
    v/μ. The index of an auction decides whether its bid explores (multiples of the golden section), not luck.
    If the exchange tells the prices, no bid explores after the first tick.

    If most wins pay less than their bid, the auction is not a first-price one. Then there is nothing to
    shade, and bids are those of `dual`. (A bid rounded down to whole units counts as paid in full. If the
    largest bid caps most bids, the auction looks like a second-price one, and there is little to shade.)

    Source: Q. Wang et al., Learning to bid in repeated first-price auctions with budgets, ICML 2023 (arXiv
    2304.13477), for the two-fold learning, with a parametric F in place of the empirical one.

    Attributes:
        landscape: F, given or found by `tuned`; then bids are shaded from the start, and F is still updated.
    """

    name = "shaded"
    exploration: UnitInterval = Field(default=0.1, description="share of bids that explore")
    landscape: SmoothLandscape | None = Field(default=None, exclude=True)

    def start(self, budget: float, auctions: int) -> ShadedState:
        table = None if self.landscape is None else ShadingTable.of(self.landscape)
        return ShadedState(self.pacer.start(budget, auctions), table)

    def restart(self, state: ShadedState, budget: float, auctions: int) -> ShadedState:
        return replace(state, pace=self.pacer.restart(state.pace, budget, auctions))

    def bid(self, state: ShadedState, slots: Slots, rng: np.random.Generator) -> Bids:
        ad, value = best_ad(slots.value)
        worth = self.pacer.bid(state.pace, value, slots.timestamp)
        amount = self._shaded(state, worth) if state.first_price else worth
        return Bids(ad, amount, value, self.pacer.multiplier(state.pace, value, slots.timestamp))

    def _shaded(self, state: ShadedState, worth: Floats) -> Floats:
        best, highest, share = worth, 1.0, self.exploration
        if state.table is not None:
            best, highest = state.table.bid(worth), np.sqrt(SPREAD)
            share = self.exploration / np.sqrt(1 + state.pace.ticks)
        if state.told:
            share = 0.0
        place = np.mod((state.seen + 1 + np.arange(len(worth))) * GOLDEN, 1.0)
        explored = np.minimum(best * highest * SPREAD ** -(place / max(share, GOLDEN / 1e9)), worth)
        # A bid cannot exceed the money left, and a loss only shows that the price was above that.
        return np.minimum(np.where(place < share, explored, best), max(state.pace.remaining, 0.0))

    def update(self, state: ShadedState, result: TickResult) -> ShadedState:
        bids, won, paid = result.bids.amount, result.won, result.paid
        own = won & ((paid == bids) | (paid == np.floor(bids)))
        pace = self.pacer.update(state.pace, result.bids.value, float(paid.sum()), result.slots.timestamp)
        if not bids.any():  # without bids nothing is learnt
            return replace(state, pace=pace)
        after = replace(
            state,
            pace=pace,
            seen=state.seen + len(bids),
            wins=state.wins + int(won.sum()),
            own_price=state.own_price + int(own.sum()),
        )
        if not after.first_price:
            return replace(after, notices=(), table=None)
        # A win that paid less than its bid was capped by the largest bid or budget; losses may be as well.
        cut = float(paid[won & ~own].min(initial=np.inf))
        notices = (
            *state.notices,
            _learnt(np.where(won, paid, np.minimum(bids, cut)), won, result.minimum_bid),
        )
        rows = sum(map(len, notices))
        while rows - len(notices[0]) >= WINDOW:
            rows, notices = rows - len(notices[0]), notices[1:]
        after = replace(after, notices=notices)
        if after.seen < after.fit_at:
            return after
        next_fit = after.seen + min(int((GROWTH - 1) * after.seen), WINDOW // 2)
        return replace(after, table=_fitted(notices) or after.table, fit_at=next_fit)

    def tuned(self, history: AuctionHistory, terms: CampaignTerms, auctions: int) -> Self:
        """This strategy with the landscape of the least winning bids of the history, and the multiplier that
        spends exactly the budget on it; without first prices, with the multiplier of `dual`.

        A history of a bidder's own first-price auctions does not hold these prices. For such a history, fit a
        landscape to `PriceBounds.win_notice` and give it as `landscape`.
        """
        check_history(self.name, history)
        if terms.rule.price != "first":
            multiplier = budget_multiplier(self.name, history, terms, auctions)
            return self.beginning_with(multiplier, terms.budget / auctions)
        price = history.under(terms).market_price
        high = np.where(history.known, price, np.inf)
        landscape = _likelier(PriceBounds(price, high, np.ones(len(price))))
        multiplier = spending_multiplier(landscape, history.value, terms.budget / auctions, terms)
        return replace(self.beginning_with(multiplier, terms.budget / auctions), landscape=landscape)


def spending_multiplier(
    landscape: SmoothLandscape, value: Floats, budget_per_auction: float, terms: CampaignTerms | None = None
) -> float:
    """The μ at which shaded first-price bids are expected to spend exactly the budget.

    It is the best μ: with it the bids solve  max Σ v F(b)  subject to  Σ b F(b) ≤ B  in expectation. If the
    budget does not bind, it is the highest μ below which bids no longer rise.

    Args:
        landscape: F.
        value: [n], values of auctions like those to come; many values are represented by their quantiles.
        budget_per_auction: B / n, in units of money.
        terms: the terms, for a largest bid, bids in whole units, or a floor.
    """
    some = value if len(value) <= SAMPLE else np.quantile(value, (np.arange(SAMPLE) + 0.5) / SAMPLE)
    table = ShadingTable.of(landscape)

    def spend(scale: float) -> float:
        bid = table.bid(some * scale)
        if terms is not None:
            bid = np.minimum(bid, terms.largest_bid)
            bid = np.floor(bid) if terms.integer_bids else bid
            bid = np.where(bid >= terms.rule.hard_floor, bid, 0.0)
        return float((bid * landscape.win_probability(bid)).mean())

    most = spend(2.0**200)
    return 1.0 / highest_within(spend, min(budget_per_auction, float(np.nextafter(most, 0.0))))


def _likelier(bounds: PriceBounds) -> SmoothLandscape:
    """The fit with the highest likelihood of all families.

    Raises:
        DataError: no family can be fitted; the reason is that of the last one.
    """
    families: tuple[type[SmoothLandscape], ...] = FAMILIES
    if bounds.known.all():
        families = (*FAMILIES, Gamma)
    fits: list[SmoothLandscape] = []
    reason = None
    for family in families:
        try:
            fits.append(family.fit(bounds))
        except DataError as error:
            reason = error
    if reason is not None and not fits:
        raise reason
    return max(fits, key=lambda one: one.log_likelihood(bounds))


def _learnt(bid: Floats, won: Booleans, minimum: Floats | None) -> PriceBounds:
    """What bids [n] show about prices, rounded to levels; bids of 0 without a known price are left out."""
    told = np.full(len(bid), np.nan) if minimum is None else minimum
    known = np.isfinite(told)
    low = np.where(known, told, np.where(won, -np.inf, bid))
    high = np.where(known, told, np.where(won, bid, np.inf))
    says = known | (bid > 0)
    return PriceBounds(_level(low[says]), _level(high[says]), np.ones(int(says.sum())))


def _level(price: Floats) -> Floats:
    """The nearest level of each price; 0 and infinity stay the same."""
    level = price.copy()
    inside = (price > 0) & (price < np.inf)
    level[inside] = np.exp2(np.round(np.log2(price[inside]) * LEVELS) / LEVELS)
    return level


def _fitted(notices: tuple[PriceBounds, ...]) -> ShadingTable | None:
    """The table of the landscape of these notices; None if they do not yet determine it."""
    low, high, weight = (
        np.concatenate([getattr(one, k) for one in notices]) for k in ("low", "high", "weight")
    )
    try:
        landscape = _likelier(PriceBounds(low, high, weight).merged())
    except DataError:
        return None
    covariance = landscape.covariance
    if covariance is None or not (np.diag(covariance)[:2] < LARGEST_ERROR**2).all():
        return None
    return ShadingTable.of(landscape)
