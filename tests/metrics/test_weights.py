"""A row of weight c equals c copies of it that are one independent row: every metric, every interval."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ctrkit import metrics
from ctrkit.errors import DataError
from ctrkit.metrics import bootstrap, compare, interval
from ctrkit.metrics.fields import field_ece, field_rce
from ctrkit.metrics.influence import GROUP_MEANS
from ctrkit.metrics.smooth import smooth_ece_at

PLAIN = [
    metrics.auc, metrics.average_precision, metrics.log_loss, metrics.brier, metrics.normalized_entropy,
    metrics.relative_information_gain, metrics.pcoc, metrics.ece, partial(metrics.ece, strategy="width"),
    metrics.mce, metrics.ace, metrics.debiased_ece, metrics.ks_calibration_error, metrics.smooth_ece,
]  # fmt: skip
OF_GROUPS = [metrics.gauc, partial(metrics.gauc, by="clicks")]
OF_LISTS = [partial(m, k=2) if "k" in m.__annotations__ else m for m in GROUP_MEANS if m is not metrics.gauc]


class Table:
    """Rows with weights 0 to 4, and the same rows as copies; `unit` keeps the copies of a row together."""

    def __init__(self, rows: int = 400, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.p = np.round(random.beta(2, 5, rows), 2)  # with ties
        self.q = np.clip(self.p * np.exp(random.normal(0, 0.4, rows)), 0.01, 0.99)
        self.y = (random.random(rows) < self.p**1.2).astype(float)
        self.w = random.integers(0, 5, rows).astype(float)
        self.user = random.integers(0, rows // 4, rows)
        self.copies = np.repeat(np.arange(rows), self.w.astype(int))


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


def same(first: object, second: object) -> None:
    for end in ("value", "low", "high"):
        assert getattr(first, end) == pytest.approx(getattr(second, end), rel=1e-9, abs=1e-12), end


@pytest.mark.parametrize("metric", PLAIN)
def test_values(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    groups = {"groups": c} if metric is metrics.debiased_ece else {}  # its noise knows copies from rows
    assert metric(t.y, t.p, weight=t.w) == pytest.approx(metric(t.y[c], t.p[c], **groups), rel=1e-9)


@pytest.mark.parametrize("metric", OF_GROUPS)
def test_values_within_groups(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    assert metric(t.y, t.p, t.user, weight=t.w) == pytest.approx(metric(t.y[c], t.p[c], t.user[c]), rel=1e-9)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("metric", [*PLAIN[:-1], partial(smooth_ece_at, width=0.02)])
def test_intervals(metric, clustered: bool, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    weighted = interval(metric, t.y, t.p, t.user if clustered else None, draws=30, weight=t.w)
    copied = interval(metric, t.y[c], t.p[c], t.user[c] if clustered else c, draws=30)
    same(weighted, copied)
    assert weighted.low < weighted.high


@pytest.mark.parametrize("metric", OF_GROUPS)
def test_intervals_within_groups(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    same(interval(metric, t.y, t.p, t.user, weight=t.w), interval(metric, t.y[c], t.p[c], t.user[c]))


@pytest.mark.parametrize("metric", [metrics.auc, metrics.brier, metrics.pcoc, metrics.gauc])
def test_bootstrapped_intervals(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    weighted = bootstrap(metric, t.y, t.p, t.user, draws=30, weight=t.w)
    same(weighted, bootstrap(metric, t.y[c], t.p[c], t.user[c], draws=30))


@pytest.mark.parametrize("metric", [metrics.auc, metrics.log_loss, metrics.ece, metrics.debiased_ece])
def test_comparisons(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t, c = table, table.copies
    weighted = compare(metric, t.y, t.p, t.q, t.user, draws=30, weight=t.w)
    copied = compare(metric, t.y[c], t.p[c], t.q[c], t.user[c], draws=30)
    same(weighted.difference, copied.difference)
    assert weighted.p_value == pytest.approx(copied.p_value, rel=1e-9)


@pytest.mark.parametrize("metric", OF_LISTS)
def test_a_list_of_weight_c_is_c_lists(metric, table: Table) -> None:  # type: ignore[no-untyped-def]
    t = table
    of_user = np.random.default_rng(1).integers(0, 4, 100).astype(float)
    w = of_user[t.user]
    rows = np.concatenate([np.tile(np.flatnonzero(t.user == u), int(of_user[u])) for u in range(100)])
    sizes = [(np.count_nonzero(t.user == u), int(of_user[u])) for u in range(100)]
    names = np.concatenate([np.repeat(np.arange(n), size) + 10 * u for u, (size, n) in enumerate(sizes)])
    assert metric(t.y, t.p, t.user, weight=w) == pytest.approx(metric(t.y[rows], t.p[rows], names), rel=1e-12)
    found = interval(metric, t.y, t.p, t.user, weight=w)
    plain = interval(metric, t.y, t.p, t.user)
    assert found.high - found.low > plain.high - plain.low  # weights that differ cost surety
    with pytest.raises(DataError, match="rows of one group have different weights"):
        metric(t.y, t.p, t.user, weight=t.w)


def test_diagrams_fields_and_business(table: Table) -> None:
    t, c = table, table.copies
    weighted, copied = (
        metrics.reliability(t.y, t.p, weight=t.w),
        metrics.reliability(t.y[c], t.p[c], groups=c),
    )
    for part in ("predicted", "observed", "low", "high"):
        np.testing.assert_allclose(getattr(weighted, part), getattr(copied, part), rtol=1e-9)
    site = np.random.default_rng(2).choice(["a", "b", "c"], len(t.y))
    for metric in (field_ece, field_rce):
        assert metric(t.y, t.p, site, weight=t.w) == pytest.approx(metric(t.y[c], t.p[c], site[c]), rel=1e-9)
    by_weight = {one.value: one for one in metrics.by_field(t.y, t.p, site, 10, weight=t.w)}
    by_copy = {one.value: one for one in metrics.by_field(t.y[c], t.p[c], site[c], 10, groups=c)}
    for name, one in by_weight.items():
        other = by_copy[name]
        assert (one.pcoc.value, one.share) == pytest.approx((other.pcoc.value, other.share), rel=1e-9)
        # The design effect of copies is estimated, that of weights is known.
        assert one.pcoc.high - one.pcoc.low == pytest.approx(other.pcoc.high - other.pcoc.low, rel=0.15)
    log = {"click": t.y, "cost": t.p}
    plain = {"click": t.y[c], "cost": t.p[c]}
    assert metrics.business(log, "impressions", weight=t.w).to_dict() == pytest.approx(
        metrics.business(plain, "impressions").to_dict()
    )


@pytest.mark.parametrize("metric", [metrics.auc, metrics.pcoc, metrics.normalized_entropy, metrics.log_loss])
def test_intervals_of_a_thinned_table_hold_the_truth(metric) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(33)

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        logit = random.normal(-2.5, 1, rows)
        return (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(float), 1 / (1 + np.exp(-1.2 * logit))

    truth = metric(*draw(3_000_000))
    held = []
    for _ in range(250):
        y, p = draw(4000)
        kept = (y == 1) | (random.random(4000) < 0.1)  # a tenth of the negatives
        found = interval(metric, y[kept], p[kept], weight=np.where(y == 1, 1.0, 10.0)[kept])
        held.append(found.low <= truth <= found.high)
    # 95 %, give or take 2.5 standard errors of 250 simulations.
    assert 0.915 <= np.mean(held) <= 0.985


def test_weights_that_leave_one_row_or_group_have_no_interval(table: Table) -> None:
    t = table
    lone = np.where(np.arange(len(t.y)) == 3, 1e6, 1.0)
    for metric in (metrics.brier, metrics.ece, metrics.debiased_ece):
        with pytest.raises(DataError, match="nearly all the weight"):
            interval(metric, t.y, t.p, weight=lone, draws=20)
        with pytest.raises(DataError, match="at least two rows or groups"):
            interval(metric, t.y, t.p, np.zeros(len(t.y)), draws=20)
    for bad, message in ((-1.0, "at least 0"), (np.nan, "missing"), (np.inf, "infinite")):
        with pytest.raises(DataError, match=f"argument `weight`, row index 0.*{message}"):
            interval(metrics.auc, t.y, t.p, weight=np.where(np.arange(len(t.y)) == 0, bad, 1.0))


def test_a_metric_at_its_bound_counts_groups_and_not_rows() -> None:
    y, s = np.tile([0.0, 1.0], 500), np.tile([0.2, 0.8], 500)
    users = np.arange(1000) // 100  # ten users, each with rows of both classes
    assert interval(metrics.auc, y, s, users).low == pytest.approx(0.025 ** (1 / 10))
    assert interval(metrics.gauc, y, s, users).low == pytest.approx(0.025 ** (1 / 10))
    assert interval(metrics.brier, y, y, users).high == pytest.approx(1 - 0.025 ** (1 / 10))
    for metric in (metrics.pcoc, metrics.log_loss, metrics.ece, metrics.debiased_ece):
        with pytest.raises(DataError, match="does not vary"):
            interval(metric, y, y, users, draws=20)
    with pytest.raises(DataError, match="does not vary"):
        compare(metrics.auc, y, s, 0.5 * s, users)
    one_mixed = np.where(np.arange(1000) < 100, 0, np.arange(1000))  # of all users, one has both classes
    with pytest.raises(DataError, match="at least two"):
        interval(metrics.gauc, y, s, one_mixed)


def test_few_groups_take_students_t() -> None:
    random = np.random.default_rng(5)
    taste = random.normal(0, 0.5, 1_000_000)
    truth = 0.09 + 0.4 * np.mean(1 / (1 + np.exp(1 - taste)))
    held = []
    for _ in range(400):
        taste = random.normal(0, 0.5, 6)[np.repeat(np.arange(6), 200)]
        y = (random.random(1200) < 1 / (1 + np.exp(1 - taste))).astype(float)
        found = interval(metrics.brier, y, np.full(1200, 0.3), np.repeat(np.arange(6), 200))
        held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.92  # 0.87 with the normal's quantile
