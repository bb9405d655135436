"""What every estimator promises, over the registry and the logging policy's own."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrkit.ope import ESTIMATORS, Estimator, LoggedRows
from ctrkit.ope.diagnostics.segments import subset
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.interval_methods import INTERVALS, make_interval_method
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights
from tests.ope.estimates import held, numbers, once, told

ROWS, USERS = 900, 300
RANGES = [(0.0, 1.0), None]
KINDS = [*ESTIMATORS.values(), OnPolicy]


def draw(kind: type[Estimator], seed: int = 0, clustered: bool = False) -> LoggedRows:
    """Rows in the order of their users; of a deterministic policy, where the estimator is for no other."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.8, 1.25, size=ROWS)
    if kind.deterministic_only:
        weights = np.where(weights > 1, weights, 0)
    return once(
        LoggedRows,
        weights,
        (rng.random(ROWS) < 0.1).astype(float),
        float(weights.max()),
        rng.uniform(0.02, 0.2, size=ROWS),
        rng.uniform(0.02, 0.2, size=ROWS),
        np.arange(ROWS) * USERS // ROWS if clustered else None,
    )


def part(rows: LoggedRows, where: slice) -> LoggedRows:
    assert rows.q_logged is not None
    assert rows.q_policy is not None
    return once(
        LoggedRows,
        rows.weights[where],
        rows.rewards[where],
        float(rows.weights[where].max()),
        rows.q_logged[where],
        rows.q_policy[where],
        None if rows.users is None else rows.users[where],
    )


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[Estimator]:
    return request.param


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("reward_range", RANGES)
def test_parts_merged_are_the_whole(
    kind: type[Estimator], reward_range: tuple[float, float] | None, clustered: bool
) -> None:
    rows = draw(kind, clustered=clustered)
    whole = kind(reward_range)
    whole.update(rows)
    # Users have three rows each: parts end where users do.
    parts = [part(rows, where) for where in (slice(0, 90), slice(90, 690), slice(690, ROWS))]
    first, second = kind(reward_range), kind(reward_range)
    first.update(parts[2])
    second.update(parts[0])
    second.update(parts[1])
    first.merge(second)
    np.testing.assert_allclose(told(first), told(whole), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, USERS), max_size=6),
    clustered=st.booleans(),
    reward_range=st.sampled_from(RANGES),
    order=st.randoms(use_true_random=False),
)
def test_any_parts_in_any_order_are_the_whole(
    kind: type[Estimator],
    seed: int,
    cuts: list[int],
    clustered: bool,
    reward_range: tuple[float, float] | None,
    order: Random,
) -> None:
    rows = draw(kind, seed, clustered)
    whole = kind(reward_range)
    whole.update(rows)
    # Users have three rows each: parts end where users do.
    ends = [3 * cut for cut in sorted({0, USERS, *cuts})]
    merged = []
    for start, end in pairwise(ends):
        estimator = kind(reward_range)
        estimator.update(part(rows, slice(start, end)))
        merged.append(estimator)
    order.shuffle(merged)
    for other in merged[1:]:
        merged[0].merge(other)
    np.testing.assert_allclose(told(merged[0]), told(whole), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reward_range", RANGES)
def test_order_of_rows_does_not_matter(
    kind: type[Estimator], reward_range: tuple[float, float] | None
) -> None:
    rows = draw(kind)
    forward, backward = kind(reward_range), kind(reward_range)
    forward.update(rows)
    backward.update(part(rows, slice(None, None, -1)))
    np.testing.assert_allclose(told(forward), told(backward), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("reward_range", RANGES)
def test_intervals_contain_the_value_and_grow_with_confidence(
    kind: type[Estimator], reward_range: tuple[float, float] | None
) -> None:
    estimator = kind(reward_range)
    estimator.update(draw(kind))
    value, low, high, difference, less, more = told(estimator)
    assert low <= value <= high
    assert less <= difference <= more
    _, lower, higher, _, lesser, most = told(estimator, 0.99)
    assert lower <= low
    assert higher >= high
    assert (lesser, most) == pytest.approx((less, more)) or (lesser < less and most > more)


def test_logging_policy_judged_by_its_own_log(kind: type[Estimator]) -> None:
    """With weights of 1 every estimator gives the mean reward, if the model's mean is right."""
    rng = np.random.default_rng(1)
    rewards = (rng.random(ROWS) < 0.1).astype(float)
    q = np.full(ROWS, rewards.mean())
    estimator = kind((0.0, 1.0))
    estimator.update(once(LoggedRows, np.ones(ROWS), rewards, 1.0, q, q))
    found = estimator.result()
    assert found.value == pytest.approx(rewards.mean(), rel=1e-12)
    assert found.difference == pytest.approx(0, abs=1e-15)
    assert found.difference_interval.low <= 0 <= found.difference_interval.high


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("clustered", [False, True])
def test_memory_does_not_grow(kind: type[Estimator], clustered: bool, interval: str) -> None:
    """Of rows nothing is kept, and of users some sums each, however many rows they have."""
    estimator = kind((0.0, 1.0))
    estimator.method = make_interval_method(interval, (0.0, 1.0))
    sizes = []
    for seed in range(8):
        estimator.update(keyed(draw(kind, seed, clustered)))
        sizes.append(held(estimator))
    assert len(set(sizes)) == 1
    other = kind((0.0, 1.0))
    other.method = make_interval_method(interval, (0.0, 1.0))
    of_users = 12 * (1 if not isinstance(estimator, ShrunkWeights) else 3) * 8
    room = 1.25 * USERS * of_users if clustered else 0
    assert sizes[0] - held(other) <= room


def keyed(rows: LoggedRows) -> LoggedRows:
    units = np.arange(ROWS) if rows.users is None else rows.users
    return replace(rows, units=units.astype(np.uint64))


@pytest.mark.parametrize("spec", [*ESTIMATORS, "switch-dr:tau=mse", "clipped-ips:lambda=slope"])
@pytest.mark.parametrize("seed", range(3))
def test_users_whose_rows_stand_anywhere_are_the_users_of_one_table(spec: str, seed: int) -> None:
    """Rows in any order, in any batch and part, against sums over users of all rows at once."""
    rng = np.random.default_rng(seed)
    kind = type(make_estimator(spec, (0.0, 1.0)))
    rows = replace(draw(kind, seed, clustered=True), counts=rng.integers(1, 4, ROWS).astype(float))
    # Keys of any size; some users have one row, and one has many.
    keys = rng.integers(0, 2**64, USERS, dtype=np.uint64)
    rows = replace(rows, users=keys[np.minimum(rng.geometric(0.01, ROWS), USERS) - 1])
    parts = []
    for where in np.array_split(rng.permutation(ROWS), 5):
        estimator = make_estimator(spec, (0.0, 1.0))
        for batch in np.split(where, np.sort(rng.integers(0, len(where), 3))):
            estimator.update(subset(rows, batch))
        parts.append(pickle.loads(pickle.dumps(estimator)))
    for other in parts[1:]:
        parts[0].merge(other)
    whole = make_estimator(spec, (0.0, 1.0))
    whole.update(rows)
    np.testing.assert_allclose(flat(parts[0]), flat(whole), rtol=1e-10, atol=1e-13)
    codes = np.unique(rows.users, return_inverse=True)[1]  # type: ignore[arg-type]
    for sums, columns in zip(parts[0].sums, parts[0].observe(rows), strict=True):
        z = np.stack([np.ones(ROWS), *columns]) * rows.counts
        of_users = np.stack([np.bincount(codes, one) for one in z])
        np.testing.assert_allclose(sums.users, of_users @ of_users.T, rtol=1e-10, atol=1e-10)
        assert sums.largest == of_users[0].max()
        assert sums.carriers.tolist() == np.count_nonzero(of_users, axis=1).tolist()
        assert sums.clustered


def flat(estimator: Estimator) -> list[float]:
    return [number for one in numbers([estimator.result()]) for number in one]


def test_intervals_say_what_they_are(kind: type[Estimator]) -> None:
    bounded, free, clustered = kind((0.0, 1.0)), kind(), kind((0.0, 1.0))
    for estimator, rows in (
        (bounded, draw(kind)),
        (free, draw(kind)),
        (clustered, draw(kind, clustered=True)),
    ):
        estimator.update(rows)
    methods = [estimator.result().interval.method for estimator in (bounded, free, clustered)]
    bias = (
        f", without the bias of {kind.parameter}={kind.default:g}" if issubclass(kind, ShrunkWeights) else ""
    )
    assert methods[0] == f"{kind.own_interval}{bias}" + (f", given {kind.given}" if kind.given else "")
    assert methods[1].startswith("normal")
    assert methods[2] == f"{methods[0]}, clustered"
