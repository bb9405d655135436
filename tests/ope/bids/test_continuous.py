"""Kernel estimators of continuous actions: against obp, against integrals, and against known truths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.bids.bandwidth import rule_of_thumb
from ctrkit.ope.bids.continuous import (
    ContinuousRows,
    KernelDoublyRobust,
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    LocalDoublyRobust,
    kernel_weights,
    local_weights,
    smoothed,
)
from ctrkit.ope.bids.kernels import KERNELS
from tests.ope.estimates import once, told

KINDS = [KernelInversePropensityScoring, KernelSelfNormalized, KernelDoublyRobust]
RANGE = (0.0, 2.0)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def win_rate(context: Any, bid: Any) -> Any:
    """Chance of a reward of a bid."""
    return 0.2 + 0.6 * context * bid / (0.5 + bid) * np.exp(-0.5 * bid)


def draw(seed: int, rows: int = 2000, users: bool = False) -> ContinuousRows:
    """Bids drawn from a density that rises from 0.25 to 0.75 over the range 0 to 2."""
    rng = np.random.default_rng(seed)
    context = rng.random(rows)
    bids = -1 + np.sqrt(1 + 8 * rng.random(rows))
    policy = 0.3 + 1.2 * context
    return once(
        ContinuousRows,
        bids,
        0.25 * (1 + bids),
        policy,
        (rng.random(rows) < win_rate(context, bids)).astype(float),
        0.3 + 0.2 * bids,
        0.3 + 0.2 * policy,
        np.arange(rows) // 5 if users else None,
    )


def part(rows: ContinuousRows, where: slice) -> ContinuousRows:
    names = ContinuousRows.__dataclass_fields__
    return ContinuousRows(
        **{name: None if getattr(rows, name) is None else getattr(rows, name)[where] for name in names},
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_densities_and_their_distributions(kernel: str) -> None:
    shape = KERNELS[kernel]
    grid = np.linspace(-6, 6, 48_001)
    density = shape.density(grid)
    summed = integrate.cumulative_trapezoid(density, grid, initial=0.0)
    assert (density >= 0).all()
    np.testing.assert_allclose(shape.distribution(grid), summed, atol=1e-6)
    assert shape.distribution(np.array([-np.inf, np.inf])).tolist() == [0, 1]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bandwidth", [0.1, 0.4])
def test_agrees_with_obp(kernel: str, bandwidth: float) -> None:
    ope = pytest.importorskip("obp.ope")
    rows = draw(0)
    peers = {
        KernelInversePropensityScoring: ope.KernelizedInverseProbabilityWeighting,
        KernelSelfNormalized: ope.KernelizedSelfNormalizedInverseProbabilityWeighting,
        KernelDoublyRobust: ope.KernelizedDoublyRobust,
    }
    for kind, peer in peers.items():
        # obp predicts one reward a row, wherever the action lies.
        one = once(
            ContinuousRows,
            rows.actions,
            rows.density,
            rows.policy,
            rows.rewards,
            rows.q_policy,
            rows.q_policy,
        )
        estimator = kind(kernel, bandwidth)
        estimator.update(one)
        model = {"estimated_rewards_by_reg_model": one.q_policy} if kind is KernelDoublyRobust else {}
        expected = peer(kernel=kernel, bandwidth=bandwidth).estimate_policy_value(
            reward=one.rewards,
            action_by_behavior_policy=one.actions,
            pscore=one.density,
            action_by_evaluation_policy=one.policy,
            **model,
        )
        assert estimator.result().value == pytest.approx(expected, rel=1e-9), kind.name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("policy", [0.02, 0.9, 1.95, 3.0])
def test_corrected_weights_have_mean_one_up_to_the_ends(kernel: str, policy: float) -> None:
    """E[w] is an integral over the range; what lies beyond it is given up without the correction."""
    bandwidth = 0.2
    bids = np.linspace(*RANGE, 50_001)
    density = 0.25 * (1 + bids)
    rows = once(ContinuousRows, bids, density, np.full_like(bids, policy), np.zeros_like(bids))

    def mean(action_range: tuple[float, float] | None) -> float:
        weights, _ = kernel_weights(rows, kernel, bandwidth, action_range)
        return float(integrate.trapezoid(weights * density, bids))

    if policy > RANGE[1] + bandwidth and kernel != "gaussian":
        assert mean(RANGE) == 0  # no mass of the kernel lies in the range
    else:
        assert mean(RANGE) == pytest.approx(1, abs=2e-4)
    missing = 1 - mean(None)
    assert missing == pytest.approx(0, abs=1e-4) if policy == 0.9 else missing > 0.2
    assert mean((-np.inf, np.inf)) == mean(None)


@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
def test_parts_merged_are_the_whole(kind: Any, reward_range: tuple[float, float] | None) -> None:
    rows = draw(1, users=True)
    arguments = ("epanechnikov", 0.3, RANGE, reward_range)
    whole, first, second = (kind(*arguments) for _ in range(3))
    whole.update(rows)
    first.update(part(rows, slice(1200, 2000)))
    second.update(part(rows, slice(0, 100)))
    second.update(part(rows, slice(100, 1200)))
    first.merge(second)
    found = told(whole)
    np.testing.assert_allclose(told(first), found, rtol=1e-10, atol=1e-13)
    assert found[1] <= found[0] <= found[2]
    assert found[4] <= found[3] <= found[5]
    wider = told(whole, 0.99)
    assert wider[1] < found[1]
    assert wider[2] > found[2]
    method = "normal" if reward_range is None else "cressie-read"
    assert whole.result().interval.method == f"{method}, clustered, of the smoothed policy"
    # Where the weights' mean is not known to be 1, no interval rests on it.
    uncorrected = kind("epanechnikov", 0.3, None, reward_range)
    uncorrected.update(rows)
    assert uncorrected.result().interval.method.startswith("normal")


def smoothed_truth(kernel: str, bandwidth: float, rows: int = 200) -> float:
    """The value of the policy that draws from the kernel, cut to the range, around 0.3 + 1.2 x."""
    context = (np.arange(rows) + 0.5)[:, None] / rows
    bids = np.linspace(*RANGE, 2001)[None]
    density = KERNELS[kernel].density((bids - 0.3 - 1.2 * context) / bandwidth)
    values = integrate.trapezoid(density * win_rate(context, bids), bids, axis=1)
    return float((values / integrate.trapezoid(density, bids, axis=1)).mean())


def truth(rows: int = 20_000) -> float:
    context = (np.arange(rows) + 0.5) / rows
    return float(win_rate(context, 0.3 + 1.2 * context).mean())


# Each estimator and each kernel once here, all pairs in the slow suite.
@pytest.mark.parametrize(
    ("kind", "kernel"),
    [
        pytest.param(kind, kernel, marks=() if row == column % len(KINDS) else pytest.mark.slow)
        for row, kind in enumerate(KINDS)
        for column, kernel in enumerate(KERNELS)
    ],
)
def test_estimates_the_smoothed_policy_and_covers_its_value(kind: Any, kernel: str) -> None:
    expected = smoothed_truth(kernel, 0.4)
    values, hits, draws = [], 0, 60
    for seed in range(draws):
        estimator = kind(kernel, 0.4, RANGE, (0.0, 1.0))
        rows = draw(100 + seed, rows=1500)
        estimator.update(_smooth_model(rows, kernel) if kind is KernelDoublyRobust else rows)
        found = estimator.result()
        values.append(found.value)
        hits += found.interval.low <= expected <= found.interval.high
    error = np.std(values, ddof=1) / np.sqrt(draws)
    assert abs(np.mean(values) - expected) < 4 * error
    # The policy's own value is another: the bias of a wide kernel shows.
    assert hits >= 0.88 * draws  # 3 standard errors below 95 %, rounded down


def _smooth_model(rows: ContinuousRows, kernel: str) -> ContinuousRows:
    """With the mean of the (linear) model under the smoothed policy, for which DR is unbiased."""
    bids = np.linspace(*RANGE, 101)[None]
    density = KERNELS[kernel].density((bids - rows.policy[:, None]) / 0.4)
    mean = (density * bids).sum(axis=1) / density.sum(axis=1)
    return once(
        ContinuousRows,
        rows.actions,
        rows.density,
        rows.policy,
        rows.rewards,
        rows.q_logged,
        0.3 + 0.2 * mean,
        rows.users,
    )


def test_boundary_correction_mends_what_lies_beyond_the_range() -> None:
    """A policy that bids next to nothing: without the correction half of the kernel is lost."""
    rng = np.random.default_rng(5)
    bids = rng.uniform(*RANGE, size=40_000)
    rewards = (rng.random(len(bids)) < 0.3).astype(float)
    rows = once(ContinuousRows, bids, np.full(len(bids), 0.5), np.zeros(len(bids)), rewards)
    values = []
    for action_range in (None, RANGE):
        estimator = KernelInversePropensityScoring("epanechnikov", 0.2, action_range)
        estimator.update(rows)
        values.append(estimator.result().value)
    assert values[0] == pytest.approx(0.15, abs=0.015)
    assert values[1] == pytest.approx(0.3, abs=0.03)


def test_bias_falls_with_the_square_of_the_bandwidth() -> None:
    bias = [abs(smoothed_truth("epanechnikov", h) - truth()) for h in (0.1, 0.2)]
    assert bias[1] / bias[0] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("policy", [0.0, 0.1, 0.9, 1.95, 2.0])
def test_local_weights_give_back_a_quadratic_up_to_the_ends(kernel: str, policy: float) -> None:
    """E[w m(a)] is m(π) for m of degree 2, and of degree 3 in the middle of the range: by brute force."""
    bids = np.linspace(*RANGE, 10_001)
    density = 0.25 * (1 + bids)
    rows = once(ContinuousRows, bids, density, np.full_like(bids, policy), np.zeros_like(bids))
    weights, least, most = local_weights(rows, kernel, 0.2, RANGE)
    for degree in range(4 if policy == 0.9 else 3):
        found = integrate.trapezoid(weights * density * bids**degree, bids)
        assert found == pytest.approx(policy**degree, abs=1e-3), degree
    assert (weights >= 1.1 * least - 1e-9).all()
    assert weights.max() <= most.max() * 1.1
    assert least.min() < 0


def test_local_weights_are_those_of_a_local_quadratic_fit() -> None:
    """Of evenly spread actions: the fitted value at the policy's action is Σ w r, by least squares."""
    policy, width = 0.13, 0.3
    bids = (np.arange(20_000) + 0.5) / 10_000
    rewards = np.sin(3 * bids) + 0.3 * np.cos(40 * bids)
    rows = once(ContinuousRows, bids, np.full_like(bids, 0.5), np.full_like(bids, policy), rewards)
    weights, _, _ = local_weights(rows, "triangular", width, RANGE)
    away = (bids - policy) / width
    design = np.stack([np.ones_like(away), away, away**2], axis=1)
    root = np.sqrt(KERNELS["triangular"].density(away))
    fitted = np.linalg.lstsq(design * root[:, None], rewards * root, rcond=None)[0][0]
    assert (weights * rewards).mean() == pytest.approx(fitted, rel=1e-5)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_smoothed_prediction_is_the_mean_of_the_model_over_the_weights(kernel: str, local: bool) -> None:
    policy = np.array([0.05, 0.7, 1.9])
    found = smoothed(np.exp, policy, kernel, 0.3, RANGE)[local]
    for row, action in enumerate(policy):
        bids = np.linspace(*RANGE, 20_001)
        one = once(
            ContinuousRows, bids, np.full_like(bids, 0.5), np.full_like(bids, action), np.zeros_like(bids)
        )
        make = local_weights if local else kernel_weights
        weights = make(one, kernel, 0.3, RANGE)[0]
        total = integrate.trapezoid(weights * 0.5, bids)
        assert total == pytest.approx(1, abs=2e-4)
        assert found[row] == pytest.approx(integrate.trapezoid(weights * 0.5 * np.exp(bids), bids), rel=3e-3)


def test_local_dr_takes_the_smoothing_out() -> None:
    """The smoothed estimate is off by what the integrals say, and the local one by no more than chance."""
    errors = {KernelDoublyRobust: [], LocalDoublyRobust: []}  # type: ignore[var-annotated]
    for seed in range(12):
        rows = draw(700 + seed, rows=8000)
        for kind, found in errors.items():
            q = smoothed(lambda bids: 0.3 + 0.2 * bids, rows.policy, "epanechnikov", 1.0, RANGE)
            estimator = kind("epanechnikov", 1.0, RANGE, (0.0, 1.0))
            estimator.update(replace(rows, q_policy=q[kind is LocalDoublyRobust]))
            found.append(estimator.result().value - truth())
    smooth, local = (np.array(found) for found in errors.values())
    expected = smoothed_truth("epanechnikov", 1.0) - truth()
    assert smooth.mean() == pytest.approx(expected, abs=4 * smooth.std() / np.sqrt(12))
    assert abs(expected) > 3 * smooth.std() / np.sqrt(12)
    assert abs(local.mean()) < 2 * local.std() / np.sqrt(12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_rule_of_thumb_is_half_of_silvermans(kernel: str) -> None:
    rng = np.random.default_rng(0)
    bids = rng.gamma(2.0, 3.0, 4000)
    iqr = np.subtract(*np.quantile(bids, [0.75, 0.25])) / 1.349
    grid = np.linspace(-8, 8, 100_001)
    deviation = np.sqrt(integrate.trapezoid(grid**2 * KERNELS[kernel].density(grid), grid))
    expected = 0.45 * min(bids.std(), iqr) * 4000**-0.2 / deviation
    assert rule_of_thumb(bids, np.ones(4000), kernel) == pytest.approx(expected, rel=1e-3)
    twice = rule_of_thumb(np.repeat(bids, 2), np.ones(8000), kernel) * 2**0.2
    assert rule_of_thumb(bids, np.full(4000, 2.0), kernel) == pytest.approx(twice, rel=1e-3)
    assert rule_of_thumb(np.full(10, 3.0), np.ones(10), kernel) == 0


def test_clustered_interval_of_copies_is_that_of_the_originals(kind: Any) -> None:
    rows = draw(8, rows=500)
    copies = part(rows, np.repeat(np.arange(500), 3))  # type: ignore[arg-type]
    names = ("actions", "density", "policy", "rewards", "q_logged", "q_policy")
    columns = {name: getattr(copies, name) for name in names}
    alone, clustered, naive = (kind("gaussian", 0.3) for _ in range(3))
    alone.update(rows)
    clustered.update(ContinuousRows(**columns, counts=copies.counts, users=np.repeat(np.arange(500), 3)))
    naive.update(ContinuousRows(**columns, counts=copies.counts))
    expected = told(alone)
    np.testing.assert_allclose(told(clustered), expected, rtol=5e-3)
    width = expected[2] - expected[1]
    assert told(naive)[2] - told(naive)[1] == pytest.approx(width / np.sqrt(3), rel=5e-3)


def test_memory_does_not_grow(kind: Any) -> None:
    estimator = kind("gaussian", 0.3)
    sizes = []
    for seed in range(3):
        estimator.update(draw(seed))
        behind = estimator.estimator
        values = [*vars(behind).values(), *vars(behind.moments).values(), *vars(estimator).values()]
        sizes.append(sum(np.size(value) for value in values))
    assert sizes[0] == sizes[-1]


def test_largest_weight_to_reckon_with() -> None:
    rows = draw(9)
    # No reward was seen: how large one might be is all that keeps the interval from being a point.
    silent = once(ContinuousRows, rows.actions, rows.density, rows.policy, np.zeros(len(rows.rewards)))
    highs = []
    for largest in (None, 10.0, 20.0):
        estimator = KernelInversePropensityScoring("gaussian", 0.3, RANGE, (0.0, 1.0), largest)
        estimator.update(silent)
        highs.append(estimator.result().interval.high)
    assert 0 < highs[0] < highs[1] < highs[2]
    # By default: the policy's own action, drawn with the least density within a bandwidth of it.
    peak, near = KERNELS["gaussian"].density(np.zeros(1))[0], np.abs(rows.actions - rows.policy) <= 0.3
    ends = [stats.norm.cdf((end - rows.policy) / 0.3) for end in RANGE]
    estimator = KernelInversePropensityScoring("gaussian", 0.3, RANGE)
    found = estimator.convert(rows).largest_weight
    assert found == pytest.approx((peak / 0.3 / (ends[1] - ends[0]) / rows.density)[near].max(), rel=1e-9)


def test_bad_settings_and_rows_are_named() -> None:
    rows = draw(10, rows=5)
    with pytest.raises(ConfigError, match=r"'gausian'.*Did you mean 'gaussian'"):
        KernelInversePropensityScoring("gausian", 0.1).update(rows)
    for bandwidth in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ConfigError, match="must be above 0"):
            KernelInversePropensityScoring("gaussian", bandwidth).update(rows)
    with pytest.raises(ConfigError, match="from 1 to 1 is empty"):
        KernelInversePropensityScoring("gaussian", 0.1, (1.0, 1.0)).update(rows)
    density = rows.density.copy()
    density[2] = 0
    with pytest.raises(DataError, match="'density', row index 2"):
        once(ContinuousRows, rows.actions, density, rows.policy, rows.rewards)
    with pytest.raises(DataError, match="'policy'"):
        once(ContinuousRows, rows.actions, rows.density, rows.policy[:2], rows.rewards)
    with pytest.raises(ValueError, match="q_logged"):
        KernelDoublyRobust("gaussian", 0.1).update(
            once(ContinuousRows, rows.actions, rows.density, rows.policy, rows.rewards)
        )
