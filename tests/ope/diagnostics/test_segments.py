"""Segments against estimators of each segment's rows alone, and what is found where nothing is."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ctrkit.arrays import Integers
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.diagnostics.overlap import equal_means_test
from ctrkit.ope.diagnostics.segment_columns import SegmentColumn
from ctrkit.ope.diagnostics.segments import ColumnSegments, SegmentSums, subset
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring
from tests.ope.estimates import once

ROWS, USERS = 3000, 450


def kind() -> Estimator:
    return DoublyRobust((0.0, 1.0))


def draw(seed: int = 0, clustered: bool = False, counted: bool = False) -> tuple[LoggedRows, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    device = rng.choice([f"d{k}" for k in range(8)], ROWS, p=np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 36)
    rows = once(
        LoggedRows,
        rng.gamma(2.0, 0.5, ROWS),
        (rng.random(ROWS) < 0.1).astype(float),
        6.0,
        rng.uniform(0.02, 0.2, ROWS),
        rng.uniform(0.02, 0.2, ROWS),
        rng.integers(USERS, size=ROWS) if clustered else None,
        rng.integers(1, 4, ROWS).astype(float) if counted else None,
    )
    table = pl.DataFrame(
        {
            "device": device,
            "timestamp": 1_700_000_000 + np.sort(rng.random(ROWS)) * 1_000_000,
            "age": rng.integers(18, 80, ROWS),
        }
    )
    return rows, table


COLUMNS: list[str | SegmentColumn] = [
    "device",
    SegmentColumn("timestamp", part="weekday"),
    SegmentColumn("age", (30.0, 50.0)),
]


def numbers(found: tuple[ColumnSegments, ...]) -> list[object]:
    return [
        value
        for column in found
        for one in column.segments
        for value in (
            one.label, one.rows, one.positives, one.effective_sample_size, one.estimate.value,
            one.estimate.interval.low, one.estimate.difference, one.simultaneous.high, one.p_value,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(("clustered", "counted"), [(False, False), (True, False), (True, True)])
def test_a_segment_is_what_its_rows_alone_say(clustered: bool, counted: bool) -> None:
    rows, table = draw(clustered=clustered, counted=counted)
    segments = SegmentSums(COLUMNS, kind, most=4)
    segments.update(rows, table)
    found = segments.result(0.9)
    device = table["device"].to_numpy()
    order = sorted({*device}, key=lambda one: -rows_of(rows, device == one))
    assert [one.label for one in found[0].segments] == [*order[:4], "the rest, 4 values"]
    number = sum(len(column.segments) for column in found)
    for one, mine in zip(
        found[0].segments,
        [*(device == label for label in order[:4]), np.isin(device, order[4:])],
        strict=True,
    ):
        where = np.flatnonzero(mine)
        alone = kind()
        alone.update(subset(rows, where))
        expected = alone.result(0.9)
        assert one.estimate.value == pytest.approx(expected.value)
        assert one.estimate.difference_interval.method == expected.difference_interval.method
        if one.values == 1:
            assert one.estimate.difference_interval.low == pytest.approx(expected.difference_interval.low)
            assert one.estimate.interval.high == pytest.approx(expected.interval.high)
            wide = alone.result(1 - 0.1 / number).difference_interval
            assert one.simultaneous.low == pytest.approx(wide.low)
        counts = rows.counts[where]
        assert one.rows == counts.sum()
        assert one.positives == counts @ rows.rewards[where]
        carried = counts * rows.weights[where]
        assert one.effective_sample_size == pytest.approx(carried.sum() ** 2 / (carried**2).sum())
        assert one.logging == pytest.approx(np.average(rows.rewards[where], weights=counts))


def rows_of(rows: LoggedRows, where: np.ndarray) -> float:
    return float(rows.counts[where].sum())


def test_subset_keeps_users_and_counts() -> None:
    rows, _ = draw(clustered=True)
    where: Integers = np.arange(5, 400, 7)
    taken = subset(rows, where)
    assert taken.users is not None
    assert rows.users is not None
    np.testing.assert_array_equal(taken.users, rows.users[where])
    np.testing.assert_array_equal(taken.weights, rows.weights[where])
    assert taken.counts.tolist() == [1.0] * len(taken.weights)


@pytest.mark.parametrize("seed", range(2))
def test_parts_merged_in_any_order_are_the_whole(seed: int) -> None:
    rows, table = draw(counted=seed % 2 == 1)
    whole = SegmentSums(COLUMNS, kind, most=3)
    whole.update(rows, table)
    rng = np.random.default_rng(seed)
    parts = []
    for where in np.array_split(rng.permutation(ROWS), 3):
        part = SegmentSums(COLUMNS, kind, most=3)
        part.update(subset(rows, where), table[where])
        parts.append(part)
    for other in parts[1:]:
        parts[0].merge(other)
    for one, other in zip(numbers(parts[0].result()), numbers(whole.result()), strict=True):
        assert one == other if isinstance(one, str) else one == pytest.approx(other, rel=1e-8, abs=1e-12)


def test_times_and_bins() -> None:
    rows, table = draw()
    columns = [SegmentColumn("timestamp", part="hour"), *COLUMNS[1:]]
    segments = SegmentSums(columns, InversePropensityScoring)
    segments.update(rows, table)
    hours, days, ages = segments.result()
    moments = [datetime.fromtimestamp(float(second), UTC) for second in table["timestamp"]]
    assert {one.label: one.rows for one in hours.segments} == {
        f"{hour:02}:00": sum(moment.hour == hour for moment in moments) for hour in range(24)
    }
    assert {one.label: one.rows for one in days.segments} == {
        name: sum(f"{moment:%A}" == name for moment in moments)
        for name in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    }
    assert (hours.column, ages.column) == ("hour of timestamp", "age")
    assert [(one.label, one.rows) for one in ages.segments] == [
        ("below 30", (table["age"] < 30).sum()),
        ("30 to below 50", ((table["age"] >= 30) & (table["age"] < 50)).sum()),
        ("from 50", (table["age"] >= 50).sum()),
    ]
    dates = table.with_columns(pl.from_epoch(pl.col("timestamp").cast(pl.Int64)))
    again = SegmentSums(columns, InversePropensityScoring)
    again.update(rows, dates)
    assert numbers(again.result()) == numbers(segments.result())


def test_missing_values_and_few_of_them() -> None:
    rows = once(LoggedRows, np.ones(4), np.array([1.0, 0, 1, 0]), 1.0)
    table = pl.DataFrame({"a": [None, "x", "x", None], "b": [1.0, None, float("nan"), 5.0]})
    segments = SegmentSums(["a", SegmentColumn("b", (2.0,))], lambda: InversePropensityScoring((0.0, 1.0)), 1)
    segments.update(rows, table)
    first, second = segments.result()
    # One value beyond the most is shown by its name.
    assert [(one.label, one.rows) for one in first.segments] == [("missing", 2), ("x", 2)]
    assert [(one.label, one.rows) for one in second.segments] == [
        ("below 2", 1),
        ("from 2", 1),
        ("missing", 2),
    ]
    assert np.isnan(first.heterogeneity.p_value)


def test_too_many_values_are_told_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.ope.diagnostics.segments.MOST_VALUES", 5)
    rows, table = draw()
    for parts in (1, 7):
        merged = SegmentSums(["device", SegmentColumn("age", (40.0,))], kind)
        for where in np.array_split(np.arange(ROWS), parts):
            part = SegmentSums(["device", SegmentColumn("age", (40.0,))], kind)
            part.update(subset(rows, where[:3]), table[where[:3]])
            part.update(subset(rows, where[3:]), table[where[3:]])
            merged.merge(part)
        device, age = merged.result()
        assert device.segments == ()
        assert device.note == "device has more than 5 values."
        assert len(age.segments) == 2


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is_and_a_difference_where_one_is() -> None:
    """Of 30 logs of 8 segments without any difference, 1 or 2 may show one."""
    alarms, uneven, found = 0, 0, 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        place = rng.integers(8, size=4000)
        weights = rng.gamma(2.0, 0.5, 4000)
        chance = np.full(4000, 0.2)
        segments = SegmentSums(["place"], InversePropensityScoring)
        table = pl.DataFrame({"place": place})
        segments.update(once(LoggedRows, weights, (rng.random(4000) < chance).astype(float), 10.0), table)
        (one,) = segments.result()
        alarms += any(each.adjusted_p_value < 0.05 for each in one.segments)
        uneven += one.heterogeneity.p_value < 0.05
        # In one segment the policy finds the rows that earn.
        chance = np.where(place == 3, 0.1 + 0.7 * (weights > 1), 0.2)
        other = SegmentSums(["place"], InversePropensityScoring)
        other.update(once(LoggedRows, weights, (rng.random(4000) < chance).astype(float), 10.0), table)
        found += other.result()[0].heterogeneity.p_value < 0.05
    assert alarms <= 5
    assert uneven <= 6
    assert found >= 27


def test_equal_means_is_pearsons_test_of_equal_groups_and_keeps_its_level_where_cochrans_does_not() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(5, 4000))
    means, errors = table.mean(axis=1), table.var(axis=1) / 4000
    found = equal_means_test(means, np.full(5, 4000.0), np.diag(errors))
    assert found.p_value == pytest.approx(stats.f_oneway(*table).pvalue, abs=0.005)
    ours = cochran = 0
    for _ in range(2000):
        counts = np.full(20, 1000.0)
        groups = rng.poisson(15.0, size=20) / counts
        variance = groups * (1 - groups) / counts
        centre = (groups / variance).sum() / (1 / variance).sum()
        cochran += stats.chi2.sf(((groups - centre) ** 2 / variance).sum(), 19) < 0.05
        ours += equal_means_test(groups, counts, np.diag(variance)).p_value < 0.05
    assert 0.03 < ours / 2000 < 0.065
    assert cochran / 2000 > 0.09


def test_weights_of_an_actions_rows_do_not_have_mean_one() -> None:
    rng = np.random.default_rng(1)
    action = rng.integers(3, size=3000)
    weights = np.array([0.3, 0.9, 1.8])[action]
    segments = SegmentSums(["action", "device"], lambda: InversePropensityScoring((0.0, 1.0)))
    table = pl.DataFrame({"action": action, "device": rng.choice(["a", "b"], 3000)})
    segments.update(once(LoggedRows, weights, (rng.random(3000) < 0.1).astype(float), 1.8), table)
    by_action, by_device = segments.result()
    assert "The mean weight is not 1 in 3 of 3 segments of action" in by_action.note
    assert by_device.note == ""
    assert by_action.segments[0].mean_weight == pytest.approx(
        {"0": 0.3, "1": 0.9, "2": 1.8}[by_action.segments[0].label]
    )


def test_bad_input() -> None:
    rows, table = draw()
    with pytest.raises(DataError, match="Did you mean 'device'"):
        SegmentSums(["devise"], kind).update(rows, table)
    with pytest.raises(DataError, match="not numbers"):
        SegmentSums([SegmentColumn("device", (1.0,))], kind).update(rows, table)
    with pytest.raises(DataError, match="not times"):
        SegmentSums([SegmentColumn("device", part="hour")], kind).update(rows, table)
    with pytest.raises(DataError, match="lists"):
        SegmentSums(["l"], kind).update(rows, pl.DataFrame({"l": [[1]] * ROWS}))
    with pytest.raises(ConfigError, match="twice"):
        SegmentSums(["a", "a"], kind)
    with pytest.raises(ConfigError, match="most = 0 leaves no segment"):
        SegmentSums(["a"], kind, most=0)
    with pytest.raises(ConfigError, match="cannot be merged"):
        SegmentSums(["a"], kind).merge(SegmentSums(["b"], kind))
    with pytest.raises(ConfigError, match="confidence"):
        SegmentSums(["a"], kind).result(1.0)
