"""Traffic shapes against a count second by second, in the calendar of Python's datetime."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from ctrkit.bidding.supply import TRAFFIC, TrafficShape
from ctrkit.errors import ConfigError

MONDAY = datetime(2024, 3, 4, tzinfo=UTC).timestamp()


def shape_with_gaps(hours: int, seed: int) -> TrafficShape:
    rng = np.random.default_rng(seed)
    weight = rng.gamma(2, 1, hours) * (rng.random(hours) < 0.6)
    return TrafficShape(weight)


def weight_by_calendar(shape: TrafficShape, moment: float) -> float:
    time = datetime.fromtimestamp(moment, UTC)
    return float(shape.weight[time.hour + (24 * time.weekday() if len(shape.weight) == 168 else 0)])


@pytest.mark.parametrize("hours", [24, 168])
@pytest.mark.parametrize(
    ("begin", "days"),
    [(0.0, 1.0), (13.37, 0.9), (100.5, 8.25), (-24 * 365 * 60.0, 2.0)],
    ids=["a day", "part of a day", "over a week", "before 1970"],
)
def test_moments_invert_the_integral(hours: int, begin: float, days: float) -> None:
    shape = shape_with_gaps(hours, seed=hours)
    start = MONDAY + begin * 3600
    share = np.linspace(0.0, 1.0, 1001)
    moments = shape.moments(share, start, days)
    # Half minutes are even within an hour that begins on one, so the sum of their middles is the integral.
    step = 30.0
    end = start + days * 86_400
    grid = np.clip(np.arange(np.floor(start / step) * step, end + step, step), start, end)
    middle = (grid[1:] + grid[:-1]) / 2
    traffic = np.diff(grid) * [weight_by_calendar(shape, moment) for moment in middle]
    passed = np.append(0.0, np.cumsum(traffic)) / traffic.sum()
    np.testing.assert_allclose(np.interp(moments, grid, passed), share, atol=1e-9)
    assert (np.diff(moments) >= 0).all()
    assert moments[0] >= start
    assert moments[-1] <= end


def test_no_auction_comes_in_an_hour_without_traffic() -> None:
    shape = shape_with_gaps(24, seed=1)
    moments = shape.moments(np.random.default_rng(0).random(20_000), MONDAY, 3.0)
    assert all(weight_by_calendar(shape, moment) > 0 for moment in moments)


@pytest.mark.parametrize("name", ["flat", "day", "week"])
def test_a_long_log_tells_its_shape(name: str) -> None:
    shape = TRAFFIC[name]
    moments = shape.moments((np.arange(200_000) + 0.5) / 200_000, MONDAY + 7000, 14.0)
    hours = len(shape.weight)
    found = np.bincount(((moments - MONDAY) // 3600).astype(int) % hours, minlength=hours)
    np.testing.assert_allclose(found / found.mean(), shape.weight / shape.weight.mean(), rtol=0.01)


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        (np.ones(25), "24 weights"),
        (np.ones((24, 1)), "24 weights"),
        (np.zeros(24), "not all 0"),
        (np.r_[-1.0, np.ones(23)], "at least 0"),
        (np.r_[np.nan, np.ones(23)], "finite"),
    ],
)
def test_refuses_what_is_no_shape(weight: np.ndarray, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TrafficShape(weight)


def test_refuses_spans_without_traffic() -> None:
    with pytest.raises(ConfigError, match="no traffic within"):
        TrafficShape(np.r_[np.zeros(12), np.ones(12)]).moments([0.5], MONDAY, 0.5)
