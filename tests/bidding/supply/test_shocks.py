"""Shocks against hand computation, the calendar of Python's datetime, and the rates they ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from ctrkit.bidding import Auctions, simulate
from ctrkit.bidding.supply import SHOCKS, Shock, shocked
from ctrkit.bidding.supply.shocks import ClickRateShock, PriceShock, TrafficShock
from ctrkit.errors import ConfigError, DataError

Log = Callable[..., Auctions]
Content = Callable[[Auctions], dict[str, object]]
Run = Callable[..., Auctions]


@pytest.fixture
def run(gathered: Callable[[Iterable[Auctions]], Auctions]) -> Run:
    def under(log: Auctions, *shocks: str | Shock, seed: int = 0) -> Auctions:
        return gathered(shocked([log], shocks, len(log), seed))

    return under


def in_deviations(clicks: np.ndarray, chance: np.ndarray) -> float:
    return abs(clicks.sum() - chance.sum()) / np.sqrt((chance * (1 - chance)).sum())


def test_prices_are_exactly_times_the_factor(full_log: Log, run: Run, content: Content) -> None:
    log = full_log(1000)
    factor = np.where((np.arange(1000) >= 500) & (np.arange(1000) < 750), 2.0, 1.0)
    found = run(log, "price:factor=2,start=0.5,end=0.75")
    np.testing.assert_array_equal(found.market_price, log.market_price * factor)
    np.testing.assert_array_equal(found.slot_price, log.slot_price * factor[:, None])
    back = replace(found, market_price=log.market_price, slot_price=log.slot_price)
    assert content(back) == content(log)


def test_values_are_times_the_factor_and_bidders_know_it(full_log: Log, run: Run) -> None:
    log = full_log(400)
    found = run(log, "value:factor=3,start=0.25")
    factor = np.where(np.arange(400) >= 100, 3.0, 1.0)[:, None]
    for name in ("value_of_click", "true_value", "earned"):
        np.testing.assert_array_equal(getattr(found, name), getattr(log, name) * factor)
    np.testing.assert_array_equal(found.click, log.click)


@pytest.mark.parametrize(("start", "end"), [("12h", None), ("22h", "3h"), ("0", "6h"), ("18h", "0h")])
def test_hours_are_of_the_day(full_log: Log, run: Run, start: str, end: str | None) -> None:
    log = full_log(500, days=2.5)
    first, last = int(start.strip("h")), 24 if end is None else int(end.strip("h"))
    hours = set(range(first, last)) if first < last else {*range(first, 24), *range(last)}
    inside = [datetime.fromtimestamp(moment, UTC).hour in hours for moment in log.timestamp]
    assert 0 < sum(inside) < 500
    found = run(log, f"price:factor=5,start={start}" + (f",end={end}" if end else ""))
    np.testing.assert_array_equal(found.market_price, log.market_price * np.where(inside, 5.0, 1.0))


def test_a_drift_goes_in_a_straight_line(full_log: Log, run: Run) -> None:
    log = full_log(1000)
    share = run(log, "price:factor=3,start=0.2,end=0.7,drift=1").market_price / log.market_price
    np.testing.assert_allclose(share[:200], 1.0)
    np.testing.assert_allclose(share[200:700], 1 + 2 * np.arange(500) / 500)
    np.testing.assert_allclose(share[700:], 1.0)
    night = run(log, "price:factor=3,start=22h,end=2h,drift=1").market_price / log.market_price
    hour = (log.timestamp % 86_400) / 3600
    since = np.where(hour >= 22, hour - 22, hour + 2)
    np.testing.assert_allclose(night, np.where(since < 4, 1 + 2 * since / 4, 1.0))


def test_shocks_multiply_where_they_meet(full_log: Log, run: Run) -> None:
    log = full_log(100)
    found = run(log, "price:factor=2,end=0.6", "price:factor=3,start=0.4")
    np.testing.assert_array_equal(
        found.market_price, log.market_price * np.repeat([2.0, 6.0, 3.0], [40, 20, 40])
    )


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.7, 4.0])
def test_click_rate_meets_the_new_rate(full_log: Log, run: Run, factor: float) -> None:
    log = full_log(40_000)
    found = run(log, f"click-rate:factor={factor},start=0.5")
    new = np.minimum(log.true_click_probability[20_000:] * factor, 1.0)
    np.testing.assert_allclose(found.true_click_probability[20_000:], new)
    np.testing.assert_array_equal(found.click_probability, log.click_probability)
    np.testing.assert_allclose(found.true_value[20_000:], new * 6.0)
    np.testing.assert_array_equal(found.click[:20_000], log.click[:20_000])
    click, before = found.click[20_000:], log.click[20_000:]
    # No click comes when the rate falls, and none goes when it rises.
    assert ((click <= before) if factor < 1 else (click >= before)).all()
    for part in (new < np.median(new), new >= np.median(new)):
        assert factor == 0 or in_deviations(click[part], new[part]) < 4
    assert (found.conversion <= found.click).all()


def test_new_clicks_convert_and_earn_as_the_old(full_log: Log, run: Run) -> None:
    log = full_log(40_000)
    found = run(log, "click-rate:factor=2.5")
    new = (found.click > log.click)[100:]
    assert new.sum() > 10_000
    assert found.conversion[100:][new].mean() == pytest.approx(0.4, abs=0.02)
    assert found.earned[100:][new].mean() == pytest.approx(6.0, rel=0.05)


def test_a_new_click_earns_what_its_own_moment_gives(full_log: Log, run: Run) -> None:
    log = full_log(400)
    log = replace(log, conversion=None, earned=log.click * 6.0)
    found = run(log, "click-rate:factor=3", "traffic:factor=2", "value:factor=5,start=0.5")
    np.testing.assert_array_equal(found.earned, found.click * found.value_of_click)
    assert set(found.value_of_click.ravel()) == {6.0, 30.0}


def test_where_the_truth_is_unknown_pctr_is_taken_for_it(full_log: Log, run: Run) -> None:
    log = replace(full_log(100), true_click_probability=None, true_value=None)
    found = run(log, "click-rate:factor=0.5,start=0.5")
    np.testing.assert_array_equal(found.true_click_probability[:50], log.click_probability[:50])
    np.testing.assert_array_equal(found.true_click_probability[50:], log.click_probability[50:] / 2)


def test_traffic_halves(full_log: Log, run: Run) -> None:
    log = full_log(40_000)
    found = run(log, "traffic:factor=0.5,start=0.25,end=0.75")
    place = np.searchsorted(log.timestamp, found.timestamp)
    np.testing.assert_array_equal(log.timestamp[place], found.timestamp)
    outside = (place < 10_000) | (place >= 30_000)
    np.testing.assert_array_equal(place[outside], [*range(10_000), *range(30_000, 40_000)])
    assert (np.diff(place) > 0).all()
    assert abs((~outside).sum() - 10_000) < 4 * np.sqrt(20_000 / 4)
    np.testing.assert_array_equal(found.click, log.click[place])


def test_repeats_are_drawn_anew(full_log: Log, run: Run) -> None:
    log = full_log(20_000)
    found = run(log, "traffic:factor=2.25")
    place = np.searchsorted(log.timestamp, found.timestamp)
    times = np.bincount(place, minlength=20_000)
    assert set(times) == {2, 3}
    assert abs((times == 3).sum() - 5000) < 4 * np.sqrt(20_000 * 0.25 * 0.75)
    first = np.append(True, np.diff(place) > 0)
    np.testing.assert_array_equal(found.click[first], log.click)
    chance = found.true_click_probability
    assert in_deviations(found.click[~first], chance[~first]) < 4
    # Given the chance, whether the first clicks says nothing of whether the second does.
    second = np.flatnonzero(first) + 1
    both = (log.click - log.true_click_probability) * (found.click[second] - chance[second])
    assert abs(both.mean()) < 4 * both.std() / np.sqrt(both.size)


def test_repeats_of_unknown_truth_have_the_log_s_clicks(full_log: Log, run: Run) -> None:
    log = replace(full_log(200), true_click_probability=None, true_value=None)
    found = run(log, "traffic:factor=3")
    np.testing.assert_array_equal(found.click, np.repeat(log.click, 3, axis=0))


def test_a_factor_of_1_changes_nothing(full_log: Log, run: Run, content: Content) -> None:
    log = full_log(300)
    assert content(
        run(log, "price:factor=1", "value:factor=1", "click-rate:factor=1", "traffic:factor=1")
    ) == (content(log))


@pytest.mark.parametrize(
    "shock", ["price:factor=20", "traffic:factor=4", "click-rate:factor=0.1", "value:factor=9"]
)
def test_spend_stays_within_the_budget(full_log: Log, run: Run, shock: str) -> None:
    log = full_log(3000, ads=1)
    log = replace(log, market_price=log.market_price / 50, slot_price=None)
    result = simulate(run(log, f"{shock},start=0.5"), ["truthful", "dual", "pid"], 200.0, tick=20)
    for strategy in result.strategies:
        assert 100 < strategy.spend <= 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prise:factor=2", "Did you mean 'price'"),
        ("price", "factor is missing"),
        ("price:factr=2", "Did you mean 'factor'"),
        ("price:factor=-1", "factor is -1 and must be at least 0"),
        ("price:factor=two", "factor is 'two' and must be a number"),
        ("price:factor=2,start=1.5", r"in \[0, 1\]"),
        ("price:factor=2,start=25h", r"in \[0, 24\]"),
        ("price:factor=2,start=0.5,end=0.4", "Give a start before the end"),
        ("price:factor=2,start=1", "Give a start before the end"),
        ("price:factor=2,start=24h,end=0h", "Give a start before the end"),
        ("price:factor=2,start=12h,end=0.9", "Write an h after both"),
        ("price:factor=2,start=noon", "start"),
        ("price:factor=2,drift=so", "drift is 'so' and must be true or false"),
    ],
)
def test_says_what_is_wrong_with_a_text(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SHOCKS.read(text)


def test_reads_texts() -> None:
    read = SHOCKS.read
    assert read("price:factor=2,start=12h") == PriceShock(2.0, "12h") == PriceShock(2.0, start="12.0h")
    assert read("traffic:factor=0.5,start=0.5,end=0.75") == TrafficShock(0.5, 0.5, 0.75)
    assert read("click-rate:factor=0,drift=1") == ClickRateShock(0.0, drift=True)
    assert read("price:factor=2,start=0,end=12h") == PriceShock(2.0, 0.0, "12h")
    assert read("price:factor=2,start=0,end=12h").hours
    assert read({"name": "price", "factor": 2, "start": "12h"}) == PriceShock(2.0, "12h")


def test_hours_need_timestamps(full_log: Log, run: Run) -> None:
    with pytest.raises(DataError, match="Give start and end as shares"):
        run(replace(full_log(10), timestamp=None), "price:factor=2,start=12h")
