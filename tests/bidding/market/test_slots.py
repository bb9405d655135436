"""Pages with several slots, against auctions that sort all bids as they are."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.market.clearing import Floats, clear
from ctrkit.bidding.market.frequency import FrequencyCap, TimesShown
from ctrkit.bidding.market.rules import AuctionRule, Price
from ctrkit.bidding.market.slots import effect_of, examined, minimum_bid, page_prices
from ctrkit.errors import DataError

SLOTS = 3


class Sale(NamedTuple):
    bid: float
    slot: int
    paid: float


def generalized_second_price(own: float, others: list[float], rule: AuctionRule) -> tuple[int, float]:
    """One page: sort everybody, give out the slots from the top, let each pay the next bid below.

    The slot of our own bid, or −1, and what it pays. A slot that nobody wants is one with a bid of 0.
    """
    others = others + [0.0] * (rule.slots - len(others))
    ours_first = 1 if rule.wins_ties else -1
    bids = sorted([(own, ours_first, "ours"), *((bid, 0, "theirs") for bid in others)], reverse=True)
    slot = [who for _, _, who in bids].index("ours")
    if own == 0 or own < rule.hard_floor or slot >= rule.slots:
        return -1, 0.0
    price = max(bids[slot + 1][0], rule.hard_floor, rule.soft_floor)
    return slot, (own if own < rule.soft_floor else price) * rule.slot_effects[slot]


def played(
    amount: list[float],
    others: list[list[float]],
    user: list[int],
    budget: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
    limit: int | None,
) -> list[Sale]:
    sales, shown, left = [], Counter[int](), budget
    for a, theirs, who in zip(amount, others, user, strict=True):
        own = min(a, max_bid, left)
        own = float(np.floor(own)) if integer else own
        if limit is not None and shown[who] == limit:
            sales.append(Sale(0.0, -1, 0.0))
            continue
        slot, paid = generalized_second_price(own, theirs, rule)
        shown[who] += slot >= 0
        left -= paid
        sales.append(Sale(own, slot, paid))
    return sales


# Multiples of 1/4 by effects that are powers of 1/2: exact in floating point, to be compared to the last bit.
quarters = st.integers(0, 12).map(lambda q: q / 4)  # few of them, so that many bids tie
pages = st.tuples(quarters, st.lists(quarters, max_size=5), st.integers(0, 3))
rules = st.builds(
    lambda hard, more, ties, effects: AuctionRule("gsp", hard, hard + more if more else 0.0, ties, effects),
    st.sampled_from([0.0, 1.5, 3.0]),
    st.sampled_from([0.0, 0.75, 8.0]),
    st.booleans(),
    st.sampled_from([(1.0,), (1.0, 0.5), (1.0, 1.0, 0.25)]),
)


def slot_prices(others: list[list[float]], slots: int = SLOTS) -> Floats:
    return np.array([sorted(bids + [0.0] * slots, reverse=True)[:slots] for bids in others])


@given(
    page=st.lists(pages, min_size=1, max_size=40),
    budget=quarters.map(lambda q: 10 * q),
    max_bid=st.one_of(st.just(np.inf), quarters),
    integer=st.booleans(),
    rule=rules,
    limit=st.one_of(st.none(), st.integers(1, 3)),
)
def test_equals_an_auction_that_sorts_all_bids(
    page: list[tuple[float, list[float], int]],
    budget: float,
    max_bid: float,
    integer: bool,
    rule: AuctionRule,
    limit: int | None,
) -> None:
    amount, others, user = (list(column) for column in zip(*page, strict=True))
    price = slot_prices(others)
    found = clear(
        np.array(amount), price[:, 0], budget, 0.0, max_bid, integer, rule, slot_price=price,
        audience=None if limit is None else TimesShown(FrequencyCap(limit)).meet(np.array(user)),
    )  # fmt: skip
    sales = played(amount, others, user, budget, max_bid, integer, rule, limit)
    slot = np.array([sale.slot for sale in sales])
    np.testing.assert_array_equal(found.bid, [sale.bid for sale in sales])
    np.testing.assert_array_equal(found.won, slot >= 0)
    np.testing.assert_array_equal(found.paid, [sale.paid for sale in sales])
    assert found.spent == found.paid.sum()
    if rule.slots == 1:
        assert found.slot is None
    else:
        np.testing.assert_array_equal(found.slot, slot)


@pytest.mark.parametrize(("ties", "slots"), [(True, [0, 1, -1]), (False, [1, -1, -1])])
def test_a_tie_that_is_lost_gets_the_slot_below(ties: bool, slots: list[int]) -> None:
    rule, page = AuctionRule("gsp", wins_ties=ties, slot_effects=(1.0, 0.5)), np.array([[2.0, 1.0]] * 3)
    cleared = clear(np.array([2.0, 1.0, 0.75]), page[:, 0], 9.0, 0.0, rule=rule, slot_price=page)
    assert cleared.slot is not None
    assert cleared.slot.tolist() == slots


def test_a_textbook_page() -> None:
    """Bids of 10, 4 and 2 for slots of 200 and 100 clicks pay 4 and 2 a click: Edelman et al. (2007)."""
    rule, others = AuctionRule("gsp", slot_effects=(1.0, 0.5)), {10.0: (4, 2), 4.0: (10, 2), 2.0: (10, 4)}
    for bid, prices in others.items():
        page = np.array([prices], np.float64)
        cleared = clear(np.array([bid]), page[:, 0], 1e6, 0.0, rule=rule, slot_price=page)
        slot, clicks_and_money = {10.0: (0, (200, 800)), 4.0: (1, (100, 200)), 2.0: (-1, (0, 0))}[bid]
        assert cleared.slot is not None
        assert cleared.slot.tolist() == [slot]
        assert (200 * effect_of(cleared.slot, rule)[0], 200 * cleared.paid[0]) == clicks_and_money


@given(
    prices=st.lists(st.floats(0, 1e6), min_size=1, max_size=SLOTS),
    price=st.sampled_from(["second", "first", "gsp"]),
    floor=st.sampled_from([0.0, 3.0]),
    ties=st.booleans(),
)
def test_the_minimum_bid_wins_and_nothing_below_does(
    prices: list[float], price: Price, floor: float, ties: bool
) -> None:
    page = -np.sort(-np.array([prices]), axis=1)
    effects = (1.0, 0.5, 0.25)[: len(prices)] if price == "gsp" else (1.0,)
    rule = AuctionRule(price, floor, 0.0, ties, effects)
    sold = page_prices(page[:, 0], page, rule)
    least = minimum_bid(sold, rule)
    if rule.slots == 1:
        np.testing.assert_array_equal(least, minimum_bid(sold[:, 0], rule))
    # A bid of 0 is none: what is free takes any bid above it.
    least = np.maximum(least, np.nextafter(0.0, 1.0))
    for bid, wins in ((least, True), (np.nextafter(least, -np.inf), False)):
        assert clear(bid, page[:, 0], 1e9, 0.0, rule=rule, slot_price=page).won.tolist() == [wins]


def test_a_page_needs_the_price_of_each_of_its_slots() -> None:
    rule, price = AuctionRule("gsp", slot_effects=(1.0, 0.5, 0.25)), np.array([[5.0, 4.0, 3.0, 2.0]])
    np.testing.assert_array_equal(page_prices(price[:, 0], price, rule), [[5.0, 4.0, 3.0]])
    np.testing.assert_array_equal(page_prices(price[:, 0], price, AuctionRule("gsp")), [[5.0]])
    for known, says in ((None, "there is 1"), (price[:, :1], "there is 1"), (price[:, :2], "there are 2")):
        with pytest.raises(DataError, match=f"3 slots need 3 prices per auction, but {says}") as error:
            clear(np.ones(1), price[:, 0], 1.0, 0.0, rule=rule, slot_price=known)
        assert error.value.column == "slot_price"
        assert error.value.hint


def test_a_slot_is_looked_at_as_often_as_its_effect_says() -> None:
    rule, draws = AuctionRule("gsp", slot_effects=(1.0, 0.7, 0.25)), 1000
    luck = np.random.default_rng(3).permutation(draws) / draws
    slots = np.array([0, 1, 2, -1])
    np.testing.assert_array_equal(effect_of(slots, rule), [1.0, 0.7, 0.25, 0.0])
    seen = np.array([examined(np.full(draws, slot), luck, rule) for slot in slots])
    np.testing.assert_array_equal(seen.sum(axis=1), [1000, 700, 250, 0])
    assert (seen[1:] <= seen[:-1]).all()  # whoever looks at a slot has looked at the better ones
