from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.market.clearing import Cleared, Floats, clear
from ctrkit.bidding.market.frequency import FrequencyCap, TimesShown
from ctrkit.bidding.market.rules import PRICES, AuctionRule
from ctrkit.errors import ConfigError

ONE, PAGE = np.ones(1), AuctionRule("gsp", slot_effects=(1.0, 0.5))


def one_by_one(
    amount: Floats,
    price: Floats,
    budget: float,
    spent: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
) -> Cleared:
    """The rule as it reads: a plain loop over auctions."""
    bids, won, paid = [], [], []
    for a, z in zip(amount.tolist(), price.tolist(), strict=True):
        bid = min(a, max_bid, budget - spent)
        bid = float(np.floor(bid)) if integer else bid
        beats = bid >= z if rule.wins_ties else bid > z
        wins = beats and bid >= rule.hard_floor and bid > 0
        second = max(z, rule.hard_floor, rule.soft_floor)
        cost = bid if rule.price == "first" or bid < rule.soft_floor else second
        bids.append(bid)
        won.append(wins)
        paid.append(cost if wins else 0.0)
        spent += paid[-1]
    return Cleared(np.array(bids), np.array(won, np.bool_), np.array(paid), spent)


# Multiples of 1/4 are exact in floating point, so that the two ways can be compared to the last bit.
quarters = st.integers(0, 200).map(lambda q: q / 4)
rules = st.builds(
    lambda price, hard, more, ties: AuctionRule(price, hard, hard + more if more else 0.0, ties),
    st.sampled_from(PRICES),
    st.sampled_from([0.0, 2.5, 10.0]),
    st.sampled_from([0.0, 1.25, 20.0]),
    st.booleans(),
)


@given(
    auctions=st.lists(st.tuples(quarters, quarters), min_size=1, max_size=60),
    budget=quarters,
    spent_share=st.sampled_from([0.0, 0.5, 1.0]),
    max_bid=st.one_of(st.just(np.inf), quarters),
    integer=st.booleans(),
    rule=rules,
)
def test_equals_a_loop_over_auctions(
    auctions: list[tuple[float, float]],
    budget: float,
    spent_share: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
) -> None:
    amount, price = np.array(auctions).T
    spent = np.floor(budget * spent_share * 4) / 4
    expected = one_by_one(amount, price, budget, spent, max_bid, integer, rule)
    found = clear(amount, price, budget, spent, max_bid, integer, rule)
    np.testing.assert_array_equal(found.won, expected.won)
    np.testing.assert_array_equal(found.bid, expected.bid)
    np.testing.assert_array_equal(found.paid, expected.paid)
    assert found.spent == expected.spent


effects = st.lists(st.floats(0.01, 1), max_size=3).map(lambda worse: (1.0, *sorted(worse, reverse=True)))


@pytest.mark.slow
@given(
    price=st.lists(st.floats(0, 1e6), min_size=1, max_size=80),
    amount=st.one_of(st.just(np.inf), st.floats(0, 1e6)),
    budget=st.floats(1e-3, 1e6),
    integer=st.booleans(),
    rule=rules,
    effects=effects,
    limit=st.one_of(st.none(), st.integers(1, 5)),
    seed=st.integers(0, 100),
)
def test_never_spends_more_than_the_budget(
    price: list[float],
    amount: float,
    budget: float,
    integer: bool,
    rule: AuctionRule,
    effects: tuple[float, ...],
    limit: int | None,
    seed: int,
) -> None:
    """Whatever the rule, its slots, and the frequency cap."""
    rng, n = np.random.default_rng(seed), len(price)
    rule = replace(rule, slot_effects=effects if rule.price == "gsp" else (1.0,))
    page = np.array(price)[:, None] * np.cumprod(rng.random((n, len(effects))), axis=1)
    user = rng.integers(0, 4, n)
    cleared = clear(
        np.full(n, amount), page[:, 0], budget, 0.0, integer_bids=integer, rule=rule, slot_price=page,
        audience=None if limit is None else TimesShown(FrequencyCap(limit)).meet(user),
    )  # fmt: skip
    won, slot = cleared.won, np.zeros(n, np.int64) if cleared.slot is None else cleared.slot
    assert cleared.spent <= budget
    assert cleared.spent == np.cumsum(cleared.paid)[-1]
    assert (cleared.paid[~won] == 0).all()
    assert (cleared.bid <= amount).all()
    assert (cleared.bid[won] >= np.maximum(page[np.arange(n), slot], rule.hard_floor)[won]).all()
    assert (cleared.paid[won] <= cleared.bid[won] * np.array(rule.slot_effects)[slot[won]]).all()
    if limit is not None:
        assert np.bincount(user[won], minlength=1).max() <= limit


def test_a_cheaper_auction_is_won_after_one_too_dear() -> None:
    cleared = clear(np.full(4, 9.0), np.array([5.0, 6.0, 4.0, 3.0]), budget=10.0, spent=0.0)
    assert cleared.won.tolist() == [True, False, True, False]
    assert cleared.bid.tolist() == [9.0, 5.0, 5.0, 1.0]


def test_what_rounding_would_put_above_the_budget_is_lost() -> None:
    budget, first = 0.9, 0.3
    assert first + (budget - first) > budget
    cleared = clear(np.array([first, 9.0]), np.full(2, 0.1), budget, 0.0, rule=AuctionRule("first"))
    assert cleared.won.tolist() == [True, False]
    assert cleared.spent == first


@pytest.mark.parametrize(("bid", "won"), [(3.0, True), (2.9999, False)])
def test_wins_at_the_market_price(bid: float, won: bool) -> None:
    assert clear(np.array([bid]), np.array([3.0]), 10.0, 0.0).won.tolist() == [won]


def test_what_each_rule_charges() -> None:
    bid, price = np.array([9.0]), np.array([4.0])

    def paid(**rule: object) -> float:
        return float(clear(bid, price, 100.0, 0.0, rule=AuctionRule(**rule)).paid[0])  # type: ignore[arg-type]

    assert paid() == 4.0
    assert paid(price="first") == 9.0
    assert paid(hard_floor=6.0) == 6.0
    assert paid(hard_floor=10.0) == 0.0  # not sold
    assert paid(soft_floor=6.0) == 6.0
    assert paid(soft_floor=20.0) == 9.0  # below the soft floor a bid pays itself


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"price": "secnd"}, "Did you mean 'second'"),
        ({"hard_floor": -1.0}, "at least 0"),
        ({"hard_floor": 5.0, "soft_floor": 3.0}, "below the hard one"),
        ({"soft_floor": np.inf}, "not both finite"),
        ({"price": "gsp", "slot_effects": ()}, "do not start at 1"),
        ({"price": "gsp", "slot_effects": (0.9, 0.5)}, "do not start at 1"),
        ({"price": "gsp", "slot_effects": (1, 0.5, 0.6)}, "1, 0.5, 0.6 do not start at 1 and fall"),
        ({"price": "gsp", "slot_effects": (1, 0.5, 0.0)}, "fall, above 0"),
        ({"price": "gsp", "slot_effects": (1, np.nan)}, "do not start at 1 and fall"),
        ({"slot_effects": (1, 0.5)}, "second-price auction sells one slot, not 2. Choose gsp"),
    ],
)
def test_rules_that_are_none(rule: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        AuctionRule(**rule)  # type: ignore[arg-type]


def test_effects_may_come_from_a_file_as_a_list() -> None:
    rule = AuctionRule("gsp", slot_effects=[1, 1, 0.5])  # type: ignore[arg-type]
    assert (rule.slot_effects, rule.slots) == ((1.0, 1.0, 0.5), 3)
    assert rule == AuctionRule("gsp", slot_effects=(1.0, 1.0, 0.5))
    assert AuctionRule().slots == 1
