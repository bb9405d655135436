"""The regret's parts add up to V* − V, each is what its name says, and ratios stay open where they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from ctrkit.bidding import AuctionRule, Slots, TickResult, hindsight_optimum, parse_strategy
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.simulation.regret import NOTHING, PARTS, Kpis, RegretSplit, split_regret

RULES = (
    AuctionRule(),
    AuctionRule(price="first"),
    AuctionRule(hard_floor=0.5, soft_floor=1.5),
    AuctionRule(price="first", hard_floor=0.5, wins_ties=False),
)


@dataclass(frozen=True)
class Played:
    """An episode that was bid on: true values and estimates by ad, and what became of the bids."""

    true: np.ndarray
    price: np.ndarray
    ad: np.ndarray
    estimate: np.ndarray
    amount: np.ndarray
    won: np.ndarray
    paid: np.ndarray
    budget: float
    rule: AuctionRule
    largest: float

    @property
    def least(self) -> np.ndarray:
        return np.maximum(self.price, self.rule.hard_floor)

    @property
    def best(self) -> np.ndarray:
        return np.where(self.least <= self.largest, self.true.max(axis=1), 0.0)

    @property
    def chosen(self) -> np.ndarray:
        return self.true[np.arange(len(self.ad)), self.ad]

    @property
    def multiplier(self) -> float:
        return hindsight_optimum(self.best, self.least, self.budget).multiplier

    def split(self, own_budget: float | None = None) -> RegretSplit:
        return split_regret(
            best_value=self.best, least_price=self.least, chosen_value=self.chosen, estimate=self.estimate,
            amount=self.amount, won=self.won, paid=self.paid, multiplier=self.multiplier,
            budget=self.budget, own_budget=own_budget,
        )  # fmt: skip

    def regret(self) -> float:
        """V* by a linear programme, less V."""
        solved = linprog(-self.best, A_ub=self.least[None], b_ub=[self.budget], bounds=(0, 1))
        return float(-solved.fun - self.chosen[self.won].sum())


def drawn(
    seed: int, n: int, ads: int, tightness: float, rule: AuctionRule, largest: float = np.inf
) -> tuple[np.random.Generator, np.ndarray, np.ndarray, float]:
    """True values, some below 0, and prices, some 0 and many alike, with a budget."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(-0.2, 2.0, (n, ads))
    price = np.where(rng.random(n) < 0.5, rng.integers(0, 5, n) / 2, rng.lognormal(0, 1, n))
    return rng, true, price, tightness * float(np.maximum(price, rule.hard_floor).sum()) + 0.01


def random_bids(
    seed: int, n: int, ads: int, tightness: float, rule: AuctionRule, largest: float, limit: float = 1.0
) -> Played:
    """Ads, estimates and bids by chance, 0 among them; `limit` times the budget may be spent."""
    rng, true, price, budget = drawn(seed, n, ads, tightness, rule, largest)
    ad = rng.integers(0, ads, n)
    estimate = np.where(rng.random(n) < 0.1, 0.0, rng.lognormal(0, 1, n))
    amount = np.where(rng.random(n) < 0.1, 0.0, rng.lognormal(0.3, 1, n))
    cleared = clear(amount, price, limit * budget, 0.0, largest, rule=rule)
    return Played(true, price, ad, estimate, amount, cleared.won, cleared.paid, budget, rule, largest)


market = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(1, 25),
        "ads": st.integers(1, 3),
        "tightness": st.sampled_from([0.0, 0.05, 0.3, 0.7, 2.0]),
        "rule": st.sampled_from(RULES),
        "largest": st.sampled_from([np.inf, 2.0]),
    }
)


@given(market=market, limit=st.sampled_from([1.0, 0.5, 3.0]))
def test_the_parts_add_up_whatever_is_bid(market: dict, limit: float) -> None:
    played = random_bids(**market, limit=limit)
    split = played.split(limit * played.budget)
    assert split.total == pytest.approx(played.regret(), abs=1e-8)
    # With no more money than the optimum has, nothing is below 0.
    assert limit > 1 or min(asdict(split).values()) >= -1e-12


@pytest.mark.parametrize(
    "strategy",
    [
        "truthful",
        "linear:base_bid=2,average_ctr=0.5",
        "constant:bid_amount=1.5",
        "random:highest_bid=3",
        "dual",
    ],
)
@pytest.mark.parametrize("rule", RULES[:2], ids=["second", "first"])
@given(seed=st.integers(0, 2**32 - 1), tightness=st.sampled_from([0.03, 0.3, 2.0]))
def test_the_parts_add_up_for_strategies(
    strategy: str, rule: AuctionRule, seed: int, tightness: float
) -> None:
    rng, true, price, budget = drawn(seed, 40, 2, tightness, rule)
    believed = np.clip(true * rng.lognormal(0, 0.3, true.shape) / 4, 0, 1)
    bidder, spent, pieces = parse_strategy(strategy), 0.0, []
    state = bidder.start(budget, 40)
    for rows in (slice(0, 15), slice(15, 40)):
        slots = Slots(believed[rows], np.full((rows.stop - rows.start, 2), 4.0))
        bids = bidder.bid(state, slots, rng)
        cleared = clear(bids.amount, price[rows], budget, spent, rule=rule)
        state, spent = (
            bidder.update(state, TickResult(slots, bids, cleared.won, cleared.paid)),
            cleared.spent,
        )
        pieces.append((bids.ad, bids.value, bids.amount, cleared.won, cleared.paid))
    columns = (np.concatenate(column) for column in zip(*pieces, strict=True))
    played = Played(true, price, *columns, budget, rule, np.inf)
    split = played.split()
    assert split.total == pytest.approx(played.regret(), abs=1e-8)
    assert min(asdict(split).values()) >= -1e-12


@given(market=market, limit=st.sampled_from([1.0, 0.5, 3.0]))
def test_each_part_by_asking_auction_by_auction(market: dict, limit: float) -> None:
    """What would have become of each bid alone, and of the bid that right values make of it."""
    played, rule = random_bids(**market, limit=limit), market["rule"]
    mu, left = played.multiplier, limit * played.budget
    found = dict.fromkeys(PARTS, 0.0)

    def wins(bid: float, i: int) -> bool:
        # Ties are won: whether they are is the rule's doing and nobody's estimate.
        exchange = AuctionRule(hard_floor=rule.hard_floor)
        return bool(clear(np.array([bid]), played.price[i : i + 1], np.inf, 0.0, rule=exchange).won[0])

    for i in range(market["n"]):
        bid, estimate, v, z = played.amount[i], played.estimate[i], played.best[i], played.least[i]
        right = v / (estimate / bid) if bid > 0 and estimate > 0 else bid
        if played.won[i]:
            found["allocation"] += v - played.chosen[i]
            found["overpaying"] += mu * (played.paid[i] - z)
            if v < mu * z:
                found["overbidding" if wins(right, i) else "estimation"] += mu * z - v
        elif v > mu * z:
            part = "underbidding"
            if z > left or left <= NOTHING * limit * played.budget:
                part = "exhausted"
            elif wins(right, i) and not wins(bid, i):
                part = "estimation"
            found[part] += v - mu * z
        left -= played.paid[i]
    found["unspent"] = mu * (left + (1 - limit) * played.budget)
    assert asdict(played.split(limit * played.budget)) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 2**32 - 1))
def test_who_knows_all_values_errs_in_none(rule: AuctionRule, seed: int) -> None:
    rng, true, price, budget = drawn(seed, 25, 2, 0.3, rule)
    best = np.maximum(true.max(axis=1), 0.0)
    # Half of the bids equal the price, so that a rounding of the corrected bid would lose the auction.
    amount = np.where(rng.random(25) < 0.5, np.maximum(price, rule.hard_floor), rng.lognormal(0.3, 1, 25))
    cleared = clear(amount, price, budget, 0.0, rule=rule)
    played = Played(
        np.maximum(true, 0.0), price, true.argmax(axis=1), best, amount, cleared.won, cleared.paid, budget,
        rule, np.inf,
    )  # fmt: skip
    split = played.split()
    assert (split.estimation, split.allocation) == (0.0, 0.0)


def test_bidding_value_over_the_optimum_s_multiplier_has_next_to_no_regret() -> None:
    rng = np.random.default_rng(3)
    value, price = rng.lognormal(0, 1, 2000), rng.lognormal(0, 1, 2000)
    amount = value / hindsight_optimum(value, price, 300.0).multiplier
    cleared = clear(amount, price, 300.0, 0.0)
    split = Played(
        value[:, None], price, np.zeros(2000, np.intp), value, amount, cleared.won, cleared.paid, 300.0,
        AuctionRule(), np.inf,
    ).split()  # fmt: skip
    # All but the one auction that the optimum buys in part.
    assert 0 <= split.total <= value.max()
    assert split.overbidding + split.estimation + split.underbidding <= 1e-12


# Auctions of price 1 and 2, worth 4 each; with money for one and a half, μ = 2, and V* = 4 + 2.
BASE = {
    "best_value": [4.0, 4.0], "least_price": [1.0, 2.0], "chosen_value": [4.0, 4.0], "estimate": [4.0, 4.0],
    "amount": [2.0, 2.0], "won": [True, True], "paid": [1.0, 2.0],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "size", "changes", "money"),
    [
        # The other ad is worth 1 less.
        ("allocation", 1.0, {"chosen_value": [3.0, 4.0]}, (3.0, 2.0)),
        # Thought to be worth 8 and so bid twice; worth 2, it would have got a bid of 1: 2 · 2 − 2 too much.
        ("estimation", 2.0, {"best_value": [4.0, 2.0], "chosen_value": [4.0, 2.0], "estimate": [4.0, 8.0],
                             "amount": [2.0, 4.0]}, (3.0, 2.0)),
        # Thought to be worth 1, it got a bid of 0.5; of right value, of 2: 4 − 2 · 1 is lost.
        ("estimation", 2.0, {"estimate": [1.0, 4.0], "amount": [0.5, 2.0], "won": [False, True],
                             "paid": [0.0, 2.0]}, (2.0, 2.0)),
        # Rightly valued at 2, and bought at 2 all the same, where 1 is the most to pay.
        ("overbidding", 2.0, {"best_value": [4.0, 2.0], "chosen_value": [4.0, 2.0], "estimate": [4.0, 2.0]},
         (3.0, 2.0)),
        ("underbidding", 2.0, {"amount": [0.5, 2.0], "won": [False, True], "paid": [0.0, 2.0]}, (2.0, 2.0)),
        # The first was dear and took the money for the second, a bargain.
        ("exhausted", 3.0, {"least_price": [2.0, 0.5], "paid": [2.0, 0.0], "won": [True, False]}, (2.0, 2.0)),
        # A first price of 1.5 where 1 had been enough, at 2 a unit of money.
        ("overpaying", 1.0, {"paid": [1.5, 2.0]}, (3.5, 2.0)),
        # All is bought that is worth it, and half a unit of money, worth 1, is left.
        ("unspent", 1.0, {}, (3.5, 2.0)),
        # More than the optimum of all episodes spends in this one.
        ("unspent", -2.0, {}, (2.0, 2.0)),
    ],
)  # fmt: skip
def test_each_part_alone(part: str, size: float, changes: dict, money: tuple[float, float]) -> None:
    columns = {name: np.array(column) for name, column in {**BASE, **changes}.items()}
    budget, multiplier = money
    own = None if size > 0 else 3.0
    split = split_regret(**columns, budget=budget, multiplier=multiplier, own_budget=own)
    assert asdict(split) == {**dict.fromkeys(PARTS, 0.0), part: size}
    assert split.total == size


def test_the_unit_of_money_is_all_the_same() -> None:
    played = random_bids(5, 25, 2, 0.3, RULES[1], np.inf)
    scaled = Played(
        played.true, 4 * played.price, played.ad, played.estimate, 4 * played.amount, played.won,
        4 * played.paid, 4 * played.budget, played.rule, played.largest,
    )  # fmt: skip
    assert scaled.split() == played.split()


def test_splits_of_episodes_add_up() -> None:
    first, second = (random_bids(seed, 25, 2, 0.3, RULES[1], np.inf).split() for seed in (1, 2))
    both = first + second
    assert asdict(both) == {part: getattr(first, part) + getattr(second, part) for part in PARTS}
    assert both.total == pytest.approx(first.total + second.total)


def test_kpis_are_the_trade_s_ratios() -> None:
    kpis = Kpis.of(
        auctions=1000, bids=500, wins=200, value=6.0, spend=50.0, budget=80.0, optimum=8.0, clicks=5.0,
        conversions=2.0, earned=75.0,
    )  # fmt: skip
    assert (kpis.win_rate, kpis.bid_win_rate, kpis.budget_used) == (0.2, 0.4, 0.625)
    assert (kpis.cost_per_click, kpis.cost_per_mille, kpis.cost_per_action) == (10.0, 250.0, 25.0)
    assert (kpis.return_on_spend, kpis.share_of_optimum, kpis.regret) == (1.5, 0.75, 2.0)


def test_kpis_that_nothing_defines_are_none() -> None:
    kpis = Kpis.of(auctions=10, bids=0, wins=0, value=0.0, spend=0.0, budget=80.0, optimum=0.0, clicks=0.0)
    undefined = {name for name, value in asdict(kpis).items() if value is None}
    assert undefined == {
        "conversions", "earned", "bid_win_rate", "cost_per_click", "cost_per_mille", "cost_per_action",
        "return_on_spend", "share_of_optimum",
    }  # fmt: skip
    assert (kpis.win_rate, kpis.budget_used, kpis.regret) == (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Named(Kpis):
    name: str


def test_kpis_may_carry_more() -> None:
    named = Named.of(auctions=1, bids=1, wins=1, value=1.0, spend=1.0, budget=1.0, optimum=1.0, name="dual")
    assert (named.name, named.share_of_optimum) == ("dual", 1.0)
