"""Slates: against obp and vw-estimators, the jackknife, and the estimators of single actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ctrkit.errors import DataError
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.structured.slates import (
    SelfNormalizedSlateIndependentIPS,
    SelfNormalizedSlateRewardInteractionIPS,
    SelfNormalizedSlateStandardIPS,
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateRows,
    SlateStandardIPS,
)
from ctrkit.ope.structured.slates_additive import (
    SelfNormalizedSlatePseudoInverse,
    SlatePseudoInverse,
)
from ctrkit.ope.structured.slates_cascade import SlateCascadeDoublyRobust
from tests.ope.estimates import once

SLOTS, ACTIONS = 3, 4
KINDS = [
    SlateStandardIPS,
    SelfNormalizedSlateStandardIPS,
    SlateIndependentIPS,
    SelfNormalizedSlateIndependentIPS,
    SlateRewardInteractionIPS,
    SelfNormalizedSlateRewardInteractionIPS,
    SlateCascadeDoublyRobust,
    SlatePseudoInverse,
    SelfNormalizedSlatePseudoInverse,
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def draw(seed: int, slates: int = 400, users: bool = False, ragged: bool = False) -> SlateRows:
    rng = np.random.default_rng(seed)
    shape = (slates, SLOTS)
    policy, logging, policy_marginal, logging_marginal = rng.uniform(0.2, 0.8, size=(4, *shape))
    shown = (np.arange(SLOTS) < rng.integers(1, SLOTS + 1, size=slates)[:, None]).astype(float)
    q_logged, q_policy = rng.uniform(0, 0.5, size=(2, *shape))
    return once(
        SlateRows,
        (rng.random(shape) < 0.3).astype(float),
        policy,
        logging,
        policy_marginal,
        logging_marginal,
        shown if ragged else None,
        q_logged,
        q_policy,
        np.arange(slates) // 4 if users else None,
    )


def part(rows: SlateRows, where: slice) -> SlateRows:
    names = SlateRows.__dataclass_fields__
    return SlateRows(
        **{name: None if getattr(rows, name) is None else getattr(rows, name)[where] for name in names},
    )


def numbers(estimator: Any, confidence: float = 0.95) -> list[float]:
    found = estimator.result(confidence)
    assert found.estimator == estimator.name
    ends = [found.interval.low, found.interval.high]
    return [
        found.value,
        *ends,
        found.difference,
        found.difference_interval.low,
        found.difference_interval.high,
    ]


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
def test_parts_merged_are_the_whole(
    kind: Any, reward_range: tuple[float, float] | None, ragged: bool
) -> None:
    rows = draw(0, users=True, ragged=ragged)
    whole, first, second = (kind(SLOTS, reward_range) for _ in range(3))
    whole.update(rows)
    first.update(part(rows, slice(200, 400)))
    second.update(part(rows, slice(0, 40)))
    second.update(part(rows, slice(40, 200)))
    first.merge(second)
    found = numbers(whole)
    np.testing.assert_allclose(numbers(first), found, rtol=1e-10, atol=1e-13)
    assert found[1] <= found[0] <= found[2]
    assert found[4] <= found[3] <= found[5]
    wider = numbers(whole, 0.99)
    assert wider[1] <= found[1]
    assert wider[2] >= found[2]
    method = whole.result().interval.method
    assert method == ("normal" if reward_range is None else "cressie-read") + ", clustered"


def test_memory_does_not_grow(kind: Any) -> None:
    estimator = kind(SLOTS)
    sizes = []
    for seed in range(3):
        estimator.update(draw(seed))
        behind = getattr(estimator, "estimator", estimator)
        sums = behind.moments if hasattr(behind, "moments") else behind.sums
        sizes.append(sum(np.size(value) for value in [*vars(behind).values(), *vars(sums).values()]))
    assert sizes[0] == sizes[-1]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("ragged", [False, True])
def test_agrees_with_obp(seed: int, ragged: bool) -> None:
    ope = pytest.importorskip("obp.ope")
    rows = draw(seed, ragged=ragged)
    slates = len(rows.rewards)
    kept = rows.mask.ravel() > 0
    slate_id = np.repeat(np.arange(slates), SLOTS)[kept]
    position = np.tile(np.arange(SLOTS), slates)[kept]
    reward = rows.rewards.ravel()[kept]

    def probabilities(of: Callable[[Any], Any]) -> list[Any]:
        return [of(np.where(rows.mask > 0, p, 1.0)).ravel()[kept] for p in (rows.logging, rows.policy)]

    joint = probabilities(lambda p: np.repeat(p.prod(axis=1), SLOTS))
    cascade = probabilities(lambda p: p.cumprod(axis=1))
    assert rows.logging_marginal is not None
    assert rows.policy_marginal is not None
    marginal = [rows.logging_marginal.ravel()[kept], rows.policy_marginal.ravel()[kept]]
    peers = {
        SlateStandardIPS: (ope.SlateStandardIPS, "pscore", joint),
        SlateIndependentIPS: (ope.SlateIndependentIPS, "pscore_item_position", marginal),
        SlateRewardInteractionIPS: (ope.SlateRewardInteractionIPS, "pscore_cascade", cascade),
        SelfNormalizedSlateIndependentIPS: (
            ope.SelfNormalizedSlateIndependentIPS,
            "pscore_item_position",
            marginal,
        ),
        SelfNormalizedSlateRewardInteractionIPS: (
            ope.SelfNormalizedSlateRewardInteractionIPS,
            "pscore_cascade",
            cascade,
        ),
    }
    if not ragged:  # obp divides by the mean weight of slots, where long slates count more often
        peers[SelfNormalizedSlateStandardIPS] = (ope.SelfNormalizedSlateStandardIPS, "pscore", joint)
    for kind, (peer, name, (logging, policy)) in peers.items():
        estimator = kind(SLOTS)
        estimator.update(rows)
        propensities = {name: logging, f"evaluation_policy_{name}": policy}
        expected = peer(len_list=SLOTS).estimate_policy_value(
            slate_id=slate_id, reward=reward, position=position, **propensities
        )
        assert estimator.result().value == pytest.approx(expected, rel=1e-9), kind.name


def test_cascade_agrees_with_obp() -> None:
    ope = pytest.importorskip("obp.ope")
    rng = np.random.default_rng(3)
    slates = 200
    policy, logging = rng.dirichlet(np.ones(ACTIONS), size=(2, slates, SLOTS))
    q = rng.uniform(0, 2, size=policy.shape)
    action = rng.integers(ACTIONS, size=(slates, SLOTS))

    def of_action(array: Any) -> Any:
        return np.take_along_axis(array, action[..., None], axis=2)[..., 0]

    rewards = (rng.random(action.shape) < 0.3).astype(float)
    rows = once(
        SlateRows,
        rewards,
        of_action(policy),
        of_action(logging),
        q_logged=of_action(q),
        q_policy=(policy * q).sum(2),
    )
    estimator = SlateCascadeDoublyRobust(SLOTS)
    estimator.update(rows)
    expected = ope.SlateCascadeDoublyRobust(len_list=SLOTS, n_unique_action=ACTIONS).estimate_policy_value(
        slate_id=np.repeat(np.arange(slates), SLOTS),
        action=action.ravel(),
        reward=rewards.ravel(),
        position=np.tile(np.arange(SLOTS), slates),
        pscore_cascade=rows.logging.cumprod(axis=1).ravel(),
        evaluation_policy_pscore_cascade=rows.policy.cumprod(axis=1).ravel(),
        q_hat=q.ravel(),
        evaluation_policy_action_dist=policy.ravel(),
    )
    assert estimator.result().value == pytest.approx(expected, rel=1e-9)


def test_pseudo_inverse_agrees_with_vw_estimators() -> None:
    module = pytest.importorskip("estimators.slates.pseudo_inverse")
    gaussian = pytest.importorskip("estimators.slates.gaussian")
    rows = draw(4)
    rows = once(SlateRows, rows.rewards, rows.policy, rows.logging)
    peer, interval = module.Estimator(), gaussian.Interval()
    for logging, policy, rewards in zip(rows.logging, rows.policy, rows.rewards, strict=True):
        for one in (peer, interval):
            one.add_example(logging.tolist(), float(rewards.sum()), policy.tolist())
    estimator = SlatePseudoInverse(SLOTS)
    estimator.update(rows)
    found = estimator.result(0.9)
    assert found.value == pytest.approx(peer.get(), rel=1e-6)
    np.testing.assert_allclose([found.interval.low, found.interval.high], interval.get(0.1), rtol=1e-6)


@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0), (-1.0, 2.0)])
def test_one_slot_is_no_slate(reward_range: tuple[float, float] | None) -> None:
    rows = draw(5, users=True)
    one = once(SlateRows, rows.rewards[:, :1], rows.policy[:, :1], rows.logging[:, :1], users=rows.users)
    weights = (one.policy / one.logging)[:, 0]
    for single, kinds in (
        (
            InversePropensityScoring,
            (SlateStandardIPS, SlateIndependentIPS, SlateRewardInteractionIPS, SlatePseudoInverse),
        ),
        (
            SelfNormalizedInversePropensityScoring,
            (
                SelfNormalizedSlateStandardIPS,
                SelfNormalizedSlateIndependentIPS,
                SelfNormalizedSlateRewardInteractionIPS,
                SelfNormalizedSlatePseudoInverse,
            ),
        ),
    ):
        plain = single(reward_range)
        plain.update(once(LoggedRows, weights, one.rewards[:, 0], weights.max(), users=one.users))
        for kind in kinds:
            estimator = kind(1, reward_range)
            estimator.update(one)
            np.testing.assert_allclose(numbers(estimator), numbers(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ragged", [False, True])
def test_standard_errors_are_the_jackknifes(kind: Any, ragged: bool) -> None:
    """Leaving out one user after another spreads a smooth estimate as much as the delta method says."""
    rows = draw(6, slates=800, users=True, ragged=ragged)
    assert rows.users is not None
    users = int(rows.users.max()) + 1
    whole = kind(SLOTS)
    whole.update(rows)
    found = numbers(whole)
    values, differences = [], []
    for user in range(users):
        kept = rows.users != user
        estimator = kind(SLOTS)
        estimator.update(
            SlateRows(
                **{
                    name: None if getattr(rows, name) is None else getattr(rows, name)[kept]
                    for name in SlateRows.__dataclass_fields__
                },
            )
        )
        result = numbers(estimator)
        values.append(result[0])
        differences.append(result[3])
    for leave_out, low, high in ((values, found[1], found[2]), (differences, found[4], found[5])):
        jackknife = np.sqrt((users - 1) ** 2 / users * np.var(leave_out, ddof=1))
        # Slates of a user are independent here, so that a design effect below 1 may stand at 1.
        assert (high - low) / 2 / stats.norm.isf(0.025) == pytest.approx(jackknife, rel=0.12)


def test_bounds_of_what_may_be_unseen_hold() -> None:
    rng = np.random.default_rng(8)
    slots, mean_weight = 3, 2.5
    weights = rng.dirichlet(np.full(slots, 0.3), size=20_000) * slots * mean_weight
    rewards = rng.choice([-1.0, 2.0], size=weights.shape)
    estimator = SlateRewardInteractionIPS(slots, (-1.0, 2.0))
    for of_difference in (False, True):
        terms = ((weights - of_difference) * rewards).sum(axis=1)
        low, high = estimator._unseen_terms(mean_weight, of_difference)
        assert low - 1e-9 <= terms.min() <= low + 0.3
        assert high - 0.3 <= terms.max() <= high + 1e-9


def test_cressie_read_covers_where_the_normal_interval_does_not() -> None:
    rng = np.random.default_rng(9)
    slots, actions, slates, draws = 2, 8, 1500, 200
    rate = 0.004 * rng.lognormal(0, 0.6, size=actions)
    target = rate**2 / (rate**2).sum()
    truth = slots * float(target @ rate)
    hits = np.zeros(2)
    for _ in range(draws):
        action = rng.integers(actions, size=(slates, slots))
        rows = once(
            SlateRows,
            (rng.random(action.shape) < rate[action]).astype(float),
            target[action],
            np.full(action.shape, 1 / actions),
        )
        for place, reward_range in enumerate([(0.0, 1.0), None]):
            estimator = SlateIndependentIPS(slots, reward_range)
            estimator.update(rows)
            interval = estimator.result().interval
            hits[place] += interval.low <= truth <= interval.high
    # The standard error of a coverage from 200 draws is 1.5 points.
    assert hits[0] / draws >= 0.93
    assert hits[1] < hits[0]


def test_slots_without_weight_leave_the_normalised_forms_undetermined() -> None:
    rows = draw(10)
    policy = rows.policy.copy()
    policy[:, 0] = 0
    silent = once(SlateRows, rows.rewards, policy, rows.logging)
    for kind in (
        SelfNormalizedSlateStandardIPS,
        SelfNormalizedSlateIndependentIPS,
        SelfNormalizedSlateRewardInteractionIPS,
    ):
        estimator = kind(SLOTS)
        estimator.update(silent)
        assert np.isnan(estimator.result().value)


def test_bad_slates_are_named() -> None:
    rows = draw(11, slates=5)
    logging = rows.logging.copy()
    logging[3, 1] = 0
    with pytest.raises(DataError, match=r"'logging', row index 3.*no probability"):
        once(SlateRows, rows.rewards, rows.policy, logging)
    shown = np.ones_like(logging)
    shown[3, 1] = 0
    once(SlateRows, rows.rewards, rows.policy, logging, shown=shown)  # a slot that is not there needs none
    with pytest.raises(DataError, match=r"'policy': .*\(5, 2\)"):
        once(SlateRows, rows.rewards, rows.policy[:, :2], rows.logging)
    with pytest.raises(DataError, match=r"'rewards': .*\(5, 3\).*\(5, 2\)"):
        SlateIndependentIPS(2).update(rows)
    with pytest.raises(ValueError, match="q_logged"):
        SlateCascadeDoublyRobust(SLOTS).update(once(SlateRows, rows.rewards, rows.policy, rows.logging))
