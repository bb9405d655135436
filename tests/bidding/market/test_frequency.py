from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.bidding.market.auctions import DAY
from ctrkit.bidding.market.clearing import clear
from ctrkit.bidding.market.frequency import FrequencyCap, TimesShown, best_of_each
from ctrkit.errors import ConfigError, DataError

# Quarters are exact in floating point.
quarters = st.integers(0, 40).map(lambda q: q / 4)


@given(
    auctions=st.lists(
        st.tuples(quarters, quarters, st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60
    ),
    limit=st.integers(1, 4),
    period=st.sampled_from([None, 1.0, 25.0, 1e6]),
    start=st.sampled_from([-30.0, 0.0, 1_370_000_000.0]),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    budget=quarters.map(lambda q: 10 * q),
)
def test_equals_counting_one_by_one(
    auctions: list[tuple[float, float, int, int]],
    limit: int,
    period: float | None,
    start: float,
    cuts: list[int],
    budget: float,
) -> None:
    """However the stream is cut into ticks; users come to be known as they are met."""
    amount, price, user, step = (np.array(column) for column in zip(*auctions, strict=True))
    timestamp = start + np.cumsum(step) * 1.0
    cap = FrequencyCap(limit, period)

    keys = [(int(u), 0 if period is None else int(t // period)) for u, t in zip(user, timestamp, strict=True)]
    expected, left, counts = [], budget, Counter[tuple[int, int]]()
    for a, z, key in zip(amount, price, keys, strict=True):
        bid = min(a, left) if counts[key] < limit else None
        wins = bid is not None and bid >= z and bid > 0
        counts[key] += wins
        left -= z if wins else 0.0
        expected.append((bid or 0.0, wins, z if wins else 0.0))

    shown, found, spent = TimesShown(cap), [], 0.0
    edges = sorted({0, len(amount), *(cut for cut in cuts if cut < len(amount))})
    for a, b in pairwise(edges):
        audience = shown.meet(user[a:b], timestamp[a:b])
        cleared = clear(amount[a:b], price[a:b], budget, spent, audience=audience)
        spent = cleared.spent
        found += list(zip(cleared.bid, cleared.won, cleared.paid, strict=True))
    assert found == expected
    assert spent == budget - left

    group, won = cap.groups(user, timestamp), np.array([wins for _, wins, _ in found])
    assert np.bincount(group[won], minlength=1).max() <= limit
    pairs = set(zip(group.tolist(), keys, strict=True))
    assert len(pairs) == len(set(keys)) == group.max() + 1  # one code for each user and period


def test_a_day_is_one_of_utc() -> None:
    midnight = 20_000 * DAY
    cap = FrequencyCap(1, DAY)
    assert cap.periods(3, midnight + np.array([-1.0, 0.0, DAY - 1])).tolist() == [19_999, 20_000, 20_000]
    cleared = clear(
        np.ones(3), np.ones(3), 9.0, 0.0,
        audience=TimesShown(cap).meet(np.zeros(3, np.int64), midnight + np.array([-1.0, 0.0, DAY - 1])),
    )  # fmt: skip
    assert cleared.won.tolist() == [True, True, False]


def test_who_has_seen_enough_is_not_shown_what_is_free() -> None:
    audience = TimesShown(FrequencyCap(1)).meet(np.array([2, 2, 0]))
    cleared = clear(np.ones(3), np.zeros(3), 9.0, 0.0, audience=audience)
    assert cleared.won.tolist() == [True, False, True]
    assert cleared.bid.tolist() == [1.0, 0.0, 1.0]


def test_an_impression_that_was_lost_does_not_count() -> None:
    shown = TimesShown(FrequencyCap(1))
    user = np.zeros(2, np.int64)
    for amount, won in (([1.0, 1.0], [False, False]), ([2.0, 2.0], [True, False])):
        cleared = clear(np.array(amount), np.full(2, 2.0), 9.0, 0.0, audience=shown.meet(user))
        assert cleared.won.tolist() == won


@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), max_size=40),
    most=st.integers(1, 4),
)
def test_the_best_of_each_group(rows: list[tuple[int, int, int]], most: int) -> None:
    group, value, cost = np.array(rows, np.int64).reshape(-1, 3).T
    places: list[int] = []
    for g in set(group.tolist()):
        ranked = sorted(np.flatnonzero(group == g).tolist(), key=lambda i: (-value[i], cost[i], i))
        places += ranked[:most]
    found = best_of_each(group, value.astype(np.float64), cost.astype(np.float64), most)
    assert found.tolist() == sorted(places)


@pytest.mark.parametrize(
    ("impressions", "period", "says"),
    [
        (0, None, "0 impressions"),
        (1.5, None, "1.5 impressions"),
        (float("nan"), None, "nan impressions"),
        (float("inf"), None, "inf impressions"),
        (1, 0.0, "must be above 0"),
        (1, float("nan"), "must be above 0"),
    ],
)
def test_caps_that_are_none(impressions: float, period: float | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FrequencyCap(impressions, period)  # type: ignore[arg-type]


def test_a_cap_needs_users_and_a_period_needs_times() -> None:
    for asked in (TimesShown(FrequencyCap(1)).meet, FrequencyCap(1).groups):
        with pytest.raises(DataError) as error:
            asked(None)
        assert error.value.column == "user"
    for asked in (TimesShown(FrequencyCap(1, DAY)).meet, FrequencyCap(1, DAY).groups):
        with pytest.raises(DataError) as error:
            asked(np.zeros(1, np.int64))
        assert error.value.column == "timestamp"
