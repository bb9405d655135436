"""Intervals by name, over every estimator: against the modules by hand, brute force, and a known truth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from ctrkit.errors import ConfigError
from ctrkit.ope import ESTIMATORS, Estimate, Estimator, LoggedRows
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.interval_methods import AUTO, INTERVALS, make_interval_method, why
from ctrkit.ope.intervals.bootstrap import COPIES, PoissonBootstrap
from ctrkit.ope.intervals.clopper_pearson import clopper_pearson
from ctrkit.ope.intervals.confidence_sequence import ConfidenceSequence
from ctrkit.ope.intervals.moments import Moments
from tests.ope.estimates import once

RANGE = (0.0, 1.0)
ROWS, USERS = 900, 300
KINDS = [*ESTIMATORS.values(), OnPolicy]
OF_WEIGHTED_REWARDS = {"ips", "snips", "on-policy"}
# For which estimators a method is one; others keep their own interval.
WHERE = {
    "clopper-pearson": OF_WEIGHTED_REWARDS,
    "empirical-bernstein": OF_WEIGHTED_REWARDS | {"dr"},
    "betting": OF_WEIGHTED_REWARDS,
    "bootstrap": OF_WEIGHTED_REWARDS | {"dm", "dr"},
}


def draw(seed: int = 0, users: bool = False, replay: bool = False, rows: int = ROWS) -> LoggedRows:
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.8, 1.25, size=rows)
    weights = np.where(weights > 1, weights, 0) if replay else weights
    codes = np.arange(rows) * (rows // 3) // rows
    return once(
        LoggedRows,
        weights,
        (rng.random(rows) < 0.1).astype(float),
        float(weights.max()),
        rng.uniform(0.02, 0.2, size=rows),
        rng.uniform(0.02, 0.2, size=rows),
        codes if users else None,
        units=(codes if users else np.arange(rows)).astype(np.uint64),
    )


def part(rows: LoggedRows, where: slice) -> LoggedRows:
    names = ("weights", "rewards", "q_logged", "q_policy", "users", "units", "counts")
    held = {name: getattr(rows, name) for name in names}
    cut = {name: None if array is None else array[where] for name, array in held.items()}
    return replace(rows, **cut)


def made(kind: type[Estimator], name: str, *rows: LoggedRows, seed: int = 0) -> Estimator:
    """One that has seen the first rows, merged with one for each of the others."""
    found = kind(RANGE)
    found.method = make_interval_method(name, RANGE, seed)
    found.update(rows[0])
    for more in rows[1:]:
        other = kind(RANGE)
        other.method = make_interval_method(name, RANGE, seed)
        other.update(more)
        found.merge(other)
    return found


def ends(found: Estimate) -> list[float]:
    return [
        found.interval.low,
        found.interval.high,
        found.difference_interval.low,
        found.difference_interval.high,
    ]


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("name", [AUTO, *INTERVALS])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_name_over_every_estimator(kind: type[Estimator], name: str, users: bool) -> None:
    rows = draw(users=users, replay=kind.deterministic_only)
    whole = made(kind, name, rows)
    own = made(kind, AUTO, rows).result()
    found = whole.result()
    # Points are what they were, and lie within; more confidence, more room.
    assert (found.value, found.difference) == (own.value, own.difference)
    wide = whole.result(0.99)
    low, high, least, most = ends(found)
    assert low <= found.value <= high
    assert least <= found.difference <= most
    assert ends(wide)[0] <= low
    assert ends(wide)[1] >= high
    assert ends(wide)[2] <= least
    assert ends(wide)[3] >= most
    # Parts that end where users do, in another order.
    parts = [part(rows, where) for where in (slice(690, ROWS), slice(0, 90), slice(90, 690))]
    np.testing.assert_allclose(ends(made(kind, name, *parts).result()), ends(found), rtol=1e-9, atol=1e-12)
    if kind.name not in WHERE.get(name, {kind.name}) or (name == "betting" and users):
        assert found == own
    elif name in WHERE and kind.name not in ("dm", "on-policy"):
        assert ends(found) != ends(own)
        method = {"bootstrap": "Poisson bootstrap", "empirical-bernstein": "empirical Bernstein"}
        assert method.get(name, name).split(",")[0] in found.interval.method
    assert ("clustered" in found.interval.method) is users
    assert ("clustered" in found.difference_interval.method) is users


def test_cressie_read_is_their_own_and_normal_is_value_and_standard_error() -> None:
    rows = draw()
    for kind in KINDS:
        if not kind.deterministic_only:
            assert made(kind, "cressie-read", rows).result() == made(kind, AUTO, rows).result()
    found = made(ESTIMATORS["ips"], "normal", rows).result()
    terms = rows.weights * rows.rewards
    for interval, values in (
        (found.interval, terms),
        (found.difference_interval, terms - rows.rewards),
    ):
        reach = 1.959964 * values.std(ddof=1) / np.sqrt(ROWS)
        assert interval.low == pytest.approx(values.mean() - reach, rel=1e-6)
        assert interval.high == pytest.approx(values.mean() + reach, rel=1e-6)
    ratio = made(ESTIMATORS["snips"], "normal", rows).result()
    residual = (terms - ratio.value * rows.weights) / rows.weights.mean()
    reach = 1.959964 * residual.std(ddof=1) / np.sqrt(ROWS)
    assert ratio.interval.high - ratio.value == pytest.approx(reach, rel=1e-6)


@pytest.mark.parametrize("users", [False, True])
def test_clopper_pearson_is_the_modules_and_a_difference_is_of_both(users: bool) -> None:
    rows = draw(1, users)
    found = made(ESTIMATORS["ips"], "clopper-pearson", rows).result(0.9)
    policy, logging = Moments(), Moments()
    policy.update(rows.weights, rows.weights * rows.rewards, rows.rewards, rows.users, rows.counts)
    logging.update(np.ones(ROWS), rows.rewards, rows.rewards, rows.users, rows.counts)
    should = clopper_pearson(policy, rows.largest_weight, RANGE, 0.9)
    assert ends(found)[:2] == pytest.approx([should.low, should.high], rel=1e-12)
    # Each of the two may fail with half the risk.
    one = clopper_pearson(policy, rows.largest_weight, RANGE, 0.95)
    two = clopper_pearson(logging, 1.0, RANGE, 0.95)
    assert ends(found)[2:] == pytest.approx([one.low - two.high, one.high - two.low], rel=1e-12)
    own = made(OnPolicy, "clopper-pearson", rows).result(0.9)
    exact = clopper_pearson(logging, 1.0, RANGE, 0.9)
    assert ends(own)[:2] == pytest.approx([exact.low, exact.high], rel=1e-12)


def test_clopper_pearson_of_ips_is_that_of_vw_estimators() -> None:
    peers = pytest.importorskip("estimators.bandits.clopper_pearson")
    rows = draw(2)
    peer = peers.Interval()
    largest = float(rows.weights.max())
    for weight, reward in zip(rows.weights, rows.rewards, strict=True):
        peer.add_example(1.0 / largest, float(reward), float(weight) / largest)
    assert ends(made(ESTIMATORS["ips"], "clopper-pearson", rows).result())[:2] == pytest.approx(
        peer.get(alpha=0.05), rel=1e-4
    )


def test_empirical_bernstein_by_hand() -> None:
    rows = draw(3)
    found = made(ESTIMATORS["ips"], "empirical-bernstein", rows).result()
    terms, largest = rows.weights * rows.rewards, rows.largest_weight
    for interval, values, width in (
        (found.interval, terms, largest),
        # w r - r lies from -1 to the largest weight less one.
        (found.difference_interval, terms - rows.rewards, largest),
    ):
        tail = np.log(2 / 0.025)
        reach = np.sqrt(2 * values.var(ddof=1) * tail / ROWS) + 7 * width * tail / (3 * (ROWS - 1))
        assert interval.high == pytest.approx(values.mean() + reach, rel=1e-9)


def test_empirical_bernstein_holds_cressie_read() -> None:
    held = Counter[str]()
    for seed in range(40):
        rows = draw(seed + 10)
        for name in ("ips", "dr"):
            low, high, least, most = ends(made(ESTIMATORS[name], "empirical-bernstein", rows).result())
            own = ends(made(ESTIMATORS[name], AUTO, rows).result())
            held[name] += low <= own[0] and own[1] <= high
            held[f"{name} difference"] += least <= own[2] and own[3] <= most
    assert min(held.values()) >= 38, held


def test_betting_is_two_confidence_sequences() -> None:
    rows = draw(4)
    policy, logging = ConfidenceSequence(RANGE), ConfidenceSequence(RANGE, 1.0)
    policy.update(rows.weights, rows.rewards, rows.counts)
    logging.update(np.ones(ROWS), rows.rewards, rows.counts)
    for name in ("ips", "snips"):
        found = ends(made(ESTIMATORS[name], "betting", rows).result())
        should = policy.interval(0.95)
        one, two = policy.interval(0.975), logging.interval(0.975)
        np.testing.assert_allclose(
            found, [should.low, should.high, one.low - two.high, one.high - two.low], rtol=1e-9
        )


def replicates(rows: LoggedRows, kind: type[Estimator], seed: int, difference: bool) -> np.ndarray:
    """Each replicate's statistic from a log in which users really stand as often as they were drawn."""
    assert rows.units is not None
    assert rows.q_logged is not None
    assert rows.q_policy is not None
    drawn = PoissonBootstrap(seed=seed)
    # One user at a time: how often he stands in each replicate.
    keys = np.unique(rows.units)
    copies = np.empty((len(keys), len(drawn.sums)))
    for place, key in enumerate(keys):
        alone = PoissonBootstrap(seed=seed)
        alone.update(np.ones(1), np.ones(1), np.ones(1), np.array([key], dtype=np.uint64), np.ones(1))
        copies[place] = alone.sums[:, 0]
    assert set(np.unique(copies)) <= set(COPIES)
    of_row = copies[np.searchsorted(keys, rows.units)].astype(np.int64)
    found = []
    for replicate in of_row.T:
        at = np.repeat(np.arange(len(rows.weights)), replicate)
        estimator = kind(RANGE)
        arrays = (rows.q_logged[at], rows.q_policy[at])
        estimator.update(once(LoggedRows, rows.weights[at], rows.rewards[at], 1.0, *arrays))
        found.append(estimator.value() - (rows.rewards[at].mean() if difference else 0.0))
    return np.array(found)


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("name", ["ips", "snips", "dm", "dr"])
def test_bootstrap_is_that_of_whole_logs(name: str, users: bool) -> None:
    rows = draw(5, users, rows=90)
    found = ends(made(ESTIMATORS[name], "bootstrap", rows, seed=7).result(0.9))
    value = np.quantile(replicates(rows, ESTIMATORS[name], 7, False), [0.05, 0.95])
    difference = np.quantile(replicates(rows, ESTIMATORS[name], 7, True), [0.05, 0.95])
    np.testing.assert_allclose(found, [*value, *difference], rtol=1e-9, atol=1e-12)


def test_bootstrap_does_not_depend_on_batches_but_on_its_seed() -> None:
    rows = draw(6)
    whole = ends(made(ESTIMATORS["snips"], "bootstrap", rows).result())
    cuts = [part(rows, slice(start, start + 50)) for start in range(0, ROWS, 50)]
    np.testing.assert_allclose(
        ends(made(ESTIMATORS["snips"], "bootstrap", *cuts[::-1]).result()), whole, rtol=1e-12
    )
    assert ends(made(ESTIMATORS["snips"], "bootstrap", rows, seed=1).result()) != whole
    with pytest.raises(ValueError, match="keys of users or rows"):
        made(ESTIMATORS["snips"], "bootstrap", replace(rows, units=None))


def test_copies_of_a_users_rows_tell_nothing_new() -> None:
    rows = draw(7, users=True)
    names = ("weights", "rewards", "q_logged", "q_policy", "users", "units", "counts")
    copied = replace(rows, **{name: np.tile(getattr(rows, name), 4) for name in names})
    for name in ("cressie-read", "normal", "clopper-pearson", "bootstrap"):
        once, often = (ends(made(ESTIMATORS["ips"], name, each).result()) for each in (rows, copied))
        alone = made(
            ESTIMATORS["ips"], name, replace(copied, users=None, units=np.arange(4 * ROWS).astype(np.uint64))
        )
        widths = [one[1] - one[0] for one in (once, often, ends(alone.result()))]
        assert widths[1] == pytest.approx(widths[0], rel=0.1), name
        assert widths[2] < 0.6 * widths[1], name


def world(seed: int, rows: int) -> LoggedRows:
    """Three actions; the truth is 0.2 · 0.2 + 0.3 · 0.1 + 0.5 · 0.3, the logging policy's 0.19."""
    rng = np.random.default_rng(seed)
    logging, policy, rate = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.1, 0.3])
    action = rng.choice(3, rows, p=logging)
    reward = (rng.random(rows) < rate[action]).astype(float)
    weights = (policy / logging)[action]
    model = 0.7 * rate
    return once(
        LoggedRows,
        weights,
        reward,
        2.5,
        model[action],
        np.full(rows, policy @ model),
        units=np.arange(rows).astype(np.uint64),
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "bootstrap" else ()) for name in INTERVALS]
)
def test_values_and_differences_are_covered(name: str) -> None:
    covered, logs = Counter[str](), 60
    for seed in range(logs):
        rows = world(seed, 500)
        for estimator in ("ips", "snips", "dr"):
            low, high, least, most = ends(made(ESTIMATORS[estimator], name, rows).result())
            covered[f"{estimator} value"] += low <= 0.22 <= high
            covered[f"{estimator} difference"] += least <= 0.03 <= most
    # 57 in expectation: below 51 with a probability of 0.6 %, and with one of 90 % at intervals of 80 %.
    assert min(covered.values()) >= 51, covered
    if name in ("empirical-bernstein", "betting"):  # which hold for every length of the log
        assert min(times for what, times in covered.items() if not what.startswith("dr")) >= 59


def test_unknown_names_and_missing_ranges() -> None:
    assert make_interval_method(AUTO, None) is None
    with pytest.raises(ConfigError, match="Did you mean 'betting'"):
        make_interval_method("beting", RANGE)
    for name in ("normal", "bootstrap"):
        assert make_interval_method(name, None) is not None
    for name in set(INTERVALS) - {"normal", "bootstrap"}:
        with pytest.raises(ConfigError, match="largest possible reward"):
            make_interval_method(name, None)
    sentences = {why(name, RANGE) for name in (AUTO, *INTERVALS)} | {why(AUTO, None)}
    assert len(sentences) == len(INTERVALS) + 2


@pytest.mark.parametrize("interval", ["normal", "bootstrap"])
def test_an_interval_given_a_model_says_so_by_whatever_method(interval: str) -> None:
    found = made(ESTIMATORS["dm"], interval, draw(5, rows=90)).result()
    for one in (found.interval, found.difference_interval):
        assert interval in one.method.lower()
        assert one.method.endswith("given the reward model")
