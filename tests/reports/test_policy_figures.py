"""What the figures of a judged policy say: their titles, their captions, and that odd logs are drawn too."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import polars as pl
import pytest

from ctrkit.ope.diagnostics.overlap import ActionOverlap
from ctrkit.ope.diagnostics.segments import ColumnSegments, SegmentSums
from ctrkit.ope.diagnostics.timeline import Timeline
from ctrkit.ope.diagnostics.timeline_results import TimelineResult
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring
from ctrkit.ope.intervals.moments import Floats
from ctrkit.reports import Figure
from ctrkit.reports.policy_figures import overlap_figure, segment_figure, timeline_figure, weight_figure
from tests.ope.diagnostics.tails import top_share
from tests.ope.estimates import once


def text(figure: Figure) -> str:
    """All that is written in the picture, which has to be well formed."""
    return " | ".join(part.strip() for part in ET.fromstring(figure.svg).itertext() if part.strip())


def sketch(weights: Floats) -> WeightSketch:
    found = WeightSketch()
    found.update(weights, np.ones(len(weights)))
    return found


def timeline(rows: int, bins: int = 20, lift: float = 0.0, rate: float = 0.2) -> TimelineResult:
    """A policy of weights 0.25 and 1.75 that takes the second of two actions, which earns `lift` more."""
    rng = np.random.default_rng(0)
    second = rng.random(rows) < 0.5
    found = Timeline(np.linspace(1.7e9, 1.7e9 + 86_400, bins + 1), (0.0, 1.0))
    rewards = (rng.random(rows) < rate + lift * second).astype(float)
    times = 1.7e9 + np.sort(rng.random(rows)) * 86_400
    found.update(times, once(LoggedRows, np.where(second, 1.75, 0.25), rewards, 1.75))
    return found.result(0.95, 1.75)


def segments(lift: float = 0.0, rows: int = 4000, column: str = "device") -> ColumnSegments:
    rng = np.random.default_rng(1)
    device = rng.choice(["phone", "desk", "$tv$"], rows)
    second = rng.random(rows) < 0.5
    rewards = rng.random(rows) < 0.2 + lift * (device == "phone") * np.where(second, 1, -0.5)
    weights = np.where(second, 1.75, 0.25)
    found = SegmentSums([column], InversePropensityScoring)
    table = pl.DataFrame({"device": device, "action": second.astype(int)})
    found.update(once(LoggedRows, weights, rewards.astype(float), 1.75), table)
    return found.result()[0]


def overlap(shares: dict[str, tuple[int, float]]) -> pl.DataFrame:
    """Actions by their number of rows and the weight of each."""
    found = ActionOverlap()
    for action, (rows, weight) in shares.items():
        found.update(np.full(rows, weight), pl.Series([action] * rows), np.ones(rows))
    return found.result()


def test_weights() -> None:
    weights = np.random.default_rng(2).lognormal(-2, 2, 20_000)
    figure = weight_figure("weights", "new", sketch(weights))
    assert f"The heaviest 1 % of the rows carry {top_share(weights):.1%} of all weight" in text(figure)
    assert f"{weights.max():.3g}, the largest" in text(figure)
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert figure.caption == f"Weights of new: 20,000 rows are worth {effective:,.0f} rows of equal weight."


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.zeros(0), "There are no rows"),
        (np.zeros(9), "All weights are 0"),
        (np.full(9, 0.9), "All rows have weight 0.9"),
        (np.array([4.0]), "All rows have weight 4"),
        (np.r_[np.zeros(99), 100.0], "carry 100.0% of all weight"),
    ],
)
def test_odd_weights(weights: Floats, said: str) -> None:
    assert said in text(weight_figure("weights", "new", sketch(weights)))


def test_rows_without_weight_are_told() -> None:
    figure = weight_figure("weights", "new", sketch(np.r_[np.zeros(50), np.ones(50)]))
    assert "50.0% of the rows have weight 0" in figure.caption


@pytest.mark.parametrize(
    ("lift", "said"),
    [(0.5, "Clear above the logging policy from"), (-0.15, "Clear below"), (0.0, "At no time clear")],
)
def test_timeline(lift: float, said: str) -> None:
    result = timeline(6000, lift=lift)
    figure = timeline_figure("time", "new", result)
    assert said in text(figure)
    assert "hours since 2023-11-14 22:13 UTC" in text(figure)
    assert "6,000 rows. Each band holds at all times together with 95% confidence" in figure.caption
    if lift > 0:
        first = int(np.argmax(result.policy.low > result.logging.high))
        assert f"from {result.policy.rows[first] / 6000:.0%} of the rows on" in text(figure)


@pytest.mark.parametrize(("rows", "bins"), [(1, 1), (1, 20), (2, 1), (30, 20)])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_short_timelines(rows: int, bins: int, rate: float) -> None:
    assert "clear of the logging policy" in text(timeline_figure("t", "new", timeline(rows, bins, rate=rate)))


def test_a_timeline_whose_bounds_contradict_each_other() -> None:
    found = Timeline(np.linspace(0, 1000, 21), (0.0, 1.0))
    rows = np.arange(5000)
    found.update(rows / 5.0, once(LoggedRows, np.full(5000, 0.5), (rows % 2).astype(float), 2.0))
    assert "contradict each other" in text(timeline_figure("t", "new", found.result(0.95, 2.0)))


def test_a_timeline_without_a_range_of_rewards() -> None:
    found = Timeline(np.linspace(0, 1000, 21))
    found.update(np.arange(1000.0), once(LoggedRows, np.ones(1000), np.arange(1000.0) % 7, 1.0))
    assert "asymptotic" in timeline_figure("t", "new", found.result()).caption


def test_segments() -> None:
    alike, uneven = (segment_figure("s", "new", segments(lift)) for lift in (0.0, 0.3))
    assert "By device: no significant difference" in text(alike)
    assert "By device: the difference varies between segments" in text(uneven)
    # Labels of the data are no formulas.
    assert "$tv$" in text(alike)
    assert "from the logging policy by device, rows in brackets, with 95% intervals" in alike.caption


def test_segments_of_the_actions_are_not_to_be_trusted() -> None:
    figure = segment_figure("s", "new", segments(column="action"))
    assert "By action: do not trust" in text(figure)
    assert "The mean weight is not 1 in 2 of 2 segments" in figure.caption


def test_no_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = SegmentSums(["device"], InversePropensityScoring).result()[0]
    assert "There are no rows" in text(segment_figure("s", "new", empty))
    monkeypatch.setattr("ctrkit.ope.diagnostics.segments.MOST_VALUES", 2)
    assert "device has more than 2 values" in text(segment_figure("s", "new", segments()))


def test_overlap_names_the_worst_supported() -> None:
    figure = overlap_figure("o", "new", overlap({"a": (900, 0.5), "b": (95, 1.0), "c": (5, 91.0)}))
    assert "c: 45.5% of the policy, 0.5% of the log" in text(figure)
    assert figure.caption.startswith("3 actions")


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "There are no rows"),
        ({"a": (3, 0.0)}, "The policy chooses no logged action"),
        ({"a": (3, 1.0)}, "No action has 3 times its share"),
        ({"a": (3, 1.0), "b": (3, 1.0)}, "No action has 3 times its share"),
        ({"a": (99, 0.0), "b": (1, 100.0)}, "b: 100.0% of the policy, 1% of the log"),
    ],
)
def test_odd_overlap(shares: dict[str, tuple[int, float]], said: str) -> None:
    assert said in text(overlap_figure("o", "new", overlap(shares)))


def test_actions_that_are_never_taken_are_counted() -> None:
    assert (
        "1 that it never chooses" in overlap_figure("o", "n", overlap({"a": (9, 0.0), "b": (9, 2.0)})).caption
    )


def test_the_same_numbers_give_the_same_bytes() -> None:
    for draw in (
        lambda: timeline_figure("t", "new", timeline(500)),
        lambda: segment_figure("s", "new", segments()),
    ):
        assert draw().svg == draw().svg
