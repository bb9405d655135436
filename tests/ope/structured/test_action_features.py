"""Weights of features and clusters: against obp, against enumeration, and against known truths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.estimators.base import LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.structured.action_features import (
    FeatureRows,
    MarginalizedInversePropensityScoring,
    OffCEM,
    SelfNormalizedMarginalized,
)
from tests.ope.estimates import once, told

KINDS = [MarginalizedInversePropensityScoring, SelfNormalizedMarginalized, OffCEM]
ACTIONS, FEATURES = 12, 3


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def draw(seed: int, rows: int = 900, users: bool = False, drawn_features: bool = False) -> FeatureRows:
    rng = np.random.default_rng(seed)
    policy, logging = rng.dirichlet(np.ones(ACTIONS), size=(2, rows))
    action = (rng.random((rows, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=ACTIONS - 1)
    rewards = (rng.random(rows) < 0.1 + 0.2 * (action % FEATURES)).astype(float)
    q = np.broadcast_to(rng.uniform(0, 0.5, size=ACTIONS), policy.shape)
    q_logged, q_policy = q[np.arange(rows), action], (policy * q).sum(axis=1)
    codes = np.arange(rows) // 3 if users else None
    if drawn_features:
        table = rng.dirichlet(np.ones(FEATURES), size=ACTIONS)
        shown = (rng.random((rows, 1)) > table[action].cumsum(axis=1)).sum(axis=1)
        return once(FeatureRows, rewards, policy, logging, table[:, shown].T, None, q_logged, q_policy, codes)
    features = np.broadcast_to(np.arange(ACTIONS) % FEATURES, policy.shape)
    return once(
        FeatureRows.of_features, rewards, policy, logging, features, action, q_logged, q_policy, codes
    )


def part(rows: FeatureRows, where: slice) -> FeatureRows:
    names = FeatureRows.__dataclass_fields__
    return FeatureRows(
        **{name: None if getattr(rows, name) is None else getattr(rows, name)[where] for name in names},
    )


@pytest.mark.parametrize("reward_range", [None, (0.0, 1.0)])
@pytest.mark.parametrize("drawn_features", [False, True])
def test_parts_merged_are_the_whole(
    kind: Any, reward_range: tuple[float, float] | None, drawn_features: bool
) -> None:
    rows = draw(0, users=True, drawn_features=drawn_features)
    whole, first, second = (kind(reward_range) for _ in range(3))
    whole.update(rows)
    first.update(part(rows, slice(600, 900)))
    second.update(part(rows, slice(0, 30)))
    second.update(part(rows, slice(30, 600)))
    first.merge(second)
    found = told(whole)
    np.testing.assert_allclose(told(first), found, rtol=1e-10, atol=1e-13)
    assert found[1] <= found[0] <= found[2]
    assert found[4] <= found[3] <= found[5]
    method = "normal" if reward_range is None else "cressie-read"
    assert whole.result().interval.method == f"{method}, clustered"


@pytest.mark.parametrize("parts", [1, 2])
def test_agrees_with_obp_where_the_features_distribution_is_known(parts: int) -> None:
    embed = pytest.importorskip("obp.ope.estimators_embed")
    rng = np.random.default_rng(parts)
    rows, categories = 300, 4
    policy, logging = rng.dirichlet(np.ones(ACTIONS), size=(2, rows))
    tables = rng.dirichlet(np.ones(categories), size=(ACTIONS, parts)).transpose(0, 2, 1)  # [A, C, D]
    action = rng.integers(ACTIONS, size=rows)
    features = rng.integers(categories, size=(rows, parts))
    rewards = (rng.random(rows) < 0.4).astype(float)
    likelihood = np.prod([tables[:, features[:, part], part].T for part in range(parts)], axis=0)
    seen = once(FeatureRows, rewards, policy, logging, likelihood)
    arguments = {
        "reward": rewards,
        "action": action,
        "action_embed": features,
        "pi_b": logging[:, :, None],
        "action_dist": policy[:, :, None],
        "p_e_a": tables,
    }
    plain = embed.MarginalizedInverseProbabilityWeighting(n_actions=ACTIONS)
    estimator = MarginalizedInversePropensityScoring()
    estimator.update(seen)
    assert estimator.result().value == pytest.approx(plain.estimate_policy_value(**arguments), rel=1e-9)
    if parts == 1:
        # With more parts obp's own normalised form takes them for independent also without the action.
        peer = embed.SelfNormalizedMarginalizedInverseProbabilityWeighting(n_actions=ACTIONS)
        normalized = SelfNormalizedMarginalized()
        normalized.update(seen)
        assert normalized.result().value == pytest.approx(peer.estimate_policy_value(**arguments), rel=1e-9)


def test_features_that_tell_actions_apart_are_the_actions() -> None:
    rows = draw(2, users=True)
    action = rows.likelihood.argmax(axis=1)
    features = np.broadcast_to(np.arange(ACTIONS), rows.policy.shape)
    logged = (np.arange(900), action)
    weights = rows.policy[logged] / rows.logging[logged]
    for kind, plain in (
        (MarginalizedInversePropensityScoring, InversePropensityScoring),
        (SelfNormalizedMarginalized, SelfNormalizedInversePropensityScoring),
        (OffCEM, DoublyRobust),
    ):
        fine, expected = kind(), plain()
        fine.update(
            once(
                FeatureRows.of_features,
                rows.rewards,
                rows.policy,
                rows.logging,
                features,
                action,
                rows.q_logged,
                rows.q_policy,
                rows.users,
            )
        )
        expected.update(
            once(
                LoggedRows,
                weights,
                rows.rewards,
                float(weights.max()),
                rows.q_logged,
                rows.q_policy,
                rows.users,
            )
        )
        np.testing.assert_allclose(told(fine), told(expected), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_expectations_enumerated(seed: int) -> None:
    """Every action of one context, weighted by the logging policy: no sampling, so no tolerance for it."""
    rng = np.random.default_rng(seed)
    policy, logging = rng.dirichlet(np.ones(ACTIONS), size=2)
    features = np.arange(ACTIONS) % FEATURES
    by_feature = rng.random(FEATURES)[features]
    within = rng.normal(0, 0.2, size=ACTIONS)
    constants = rng.normal(0, 1, size=FEATURES)[features]

    def expectation(kind: Any, rewards: Any, q: Any) -> float:
        total = 0.0
        for action in range(ACTIONS):
            estimator = kind()
            estimator.update(
                once(
                    FeatureRows.of_features,
                    rewards[[action]],
                    policy[None],
                    logging[None],
                    features[None],
                    np.array([action]),
                    q[[action]],
                    np.array([policy @ q]),
                )
            )
            total += logging[action] * estimator.result().value
        return total

    mips = MarginalizedInversePropensityScoring
    # The feature tells all: unbiased. It does not: biased.
    assert expectation(mips, by_feature, within) == pytest.approx(policy @ by_feature, rel=1e-10)
    rewards = by_feature + within
    assert abs(expectation(mips, rewards, within) - policy @ rewards) > 1e-3
    # OffCEM: a model right up to a constant a cluster is enough (local correctness); a wrong one is not.
    assert expectation(OffCEM, rewards, within + constants) == pytest.approx(policy @ rewards, rel=1e-10)
    assert abs(expectation(OffCEM, rewards, 0 * within) - policy @ rewards) > 1e-3


def test_less_variance_than_ips_where_actions_are_many() -> None:
    """400 actions in 8 clusters, rewards of the cluster and of the action within it."""
    rng = np.random.default_rng(11)
    actions, clusters, rows, draws = 400, 8, 1000, 60
    cluster = rng.integers(clusters, size=actions)
    within = rng.uniform(-0.1, 0.1, size=actions)
    rate = rng.uniform(0.2, 0.6, size=clusters)[cluster] + within
    logging = rng.dirichlet(np.full(actions, 0.5)) * 0.95 + 0.05 / actions
    # The policy goes against the logging policy within clusters, and for the better clusters.
    target = np.exp(3 * rate) / np.sqrt(logging)
    target /= target.sum()
    truth = float(target @ rate)
    # Only differences within clusters are right; what clusters differ in stands upside down.
    model = within - np.linspace(-0.3, 0.3, clusters)[cluster]
    values: dict[str, list[float]] = {}
    hits = 0
    for _ in range(draws):
        action = rng.choice(actions, p=logging, size=rows)
        rewards = (rng.random(rows) < rate[action]).astype(float)
        weights = (target / logging)[action]
        ips = InversePropensityScoring()
        ips.update(once(LoggedRows, weights, rewards, float(weights.max())))
        # Clusters as candidates: their probabilities are the sums over their actions.
        by_cluster = [np.bincount(cluster, p) for p in (target, logging)]
        policy, behaviour = (np.broadcast_to(p, (rows, clusters)) for p in by_cluster)
        offcem, mips = OffCEM(), MarginalizedInversePropensityScoring()
        for estimator in (offcem, mips):
            estimator.update(
                once(
                    FeatureRows.of_features,
                    rewards,
                    policy,
                    behaviour,
                    np.broadcast_to(np.arange(clusters), (rows, clusters)),
                    cluster[action],
                    model[action],
                    np.full(rows, target @ model),
                )
            )
        interval = offcem.result().interval
        hits += interval.low <= truth <= interval.high
        for one in (ips, offcem, mips):
            values.setdefault(one.name, []).append(one.result().value)
    spread = {name: np.var(found, ddof=1) for name, found in values.items()}
    bias = {name: np.mean(found) - truth for name, found in values.items()}
    error = {name: np.sqrt(spread[name] / draws) for name in spread}
    assert spread["mips"] < 0.5 * spread["ips"]
    assert spread["offcem"] < 0.5 * spread["ips"]
    assert abs(bias["offcem"]) < 3.5 * error["offcem"]
    assert abs(bias["ips"]) < 3.5 * error["ips"]
    assert hits >= 0.85 * draws


def test_largest_weight_to_reckon_with_is_the_features() -> None:
    """One action in a thousand logged: its weight is a thousand, that of its feature is not."""
    rng = np.random.default_rng(4)
    rows = 2000
    logging = np.full(1000, 0.001)
    target = np.where(np.arange(1000) == 0, 0.5, 0.5 / 999)
    features = np.arange(1000) % 2
    action = rng.integers(1000, size=rows)
    estimator = MarginalizedInversePropensityScoring((0.0, 1.0))
    estimator.update(
        once(
            FeatureRows.of_features,
            (rng.random(rows) < 0.02).astype(float),
            np.broadcast_to(target, (rows, 1000)),
            np.broadcast_to(logging, (rows, 1000)),
            np.broadcast_to(features, (rows, 1000)),
            action,
        )
    )
    found = estimator.result()
    even = target[features == 0].sum() / 0.5
    assert isinstance(estimator.estimator, InversePropensityScoring)
    # The tail holds the rarest half of what one row shows: features of weight 1.5 at least.
    assert estimator.estimator.largest_weight == pytest.approx(even * 0.5 + (2 - even) * 0.5, rel=0.6)
    assert estimator.estimator.largest_weight <= even + 1e-12
    assert found.interval.high - found.interval.low < 0.05


def test_clusters_of_copies_tell_nothing_new(kind: Any) -> None:
    rows = draw(5)
    names = [name for name in FeatureRows.__dataclass_fields__ if name != "users"]
    places = np.repeat(np.arange(900), 3)
    copies = {name: getattr(rows, name)[places] for name in names}
    alone, together = kind(), kind()
    alone.update(rows)
    together.update(FeatureRows(**copies, users=places))
    np.testing.assert_allclose(told(together), told(alone), rtol=2e-3, atol=2e-5)


def test_memory_does_not_grow(kind: Any) -> None:
    estimator = kind((0.0, 1.0))
    rows = draw(6, drawn_features=True)
    sizes = []
    for _ in range(3):
        estimator.update(rows)
        behind = estimator.estimator
        kept = [*vars(estimator).values(), *vars(behind).values(), *vars(behind.moments).values()]
        sizes.append(sum(np.size(value) for value in kept))
    assert sizes[0] == sizes[-1]


def test_bad_rows_are_named() -> None:
    rows = draw(7)
    logging = np.where(np.arange(900)[:, None] == 6, rows.logging * (rows.likelihood == 0), rows.logging)
    with pytest.raises(DataError, match="'logging', row index 6"):
        once(FeatureRows, rows.rewards, rows.policy, logging, rows.likelihood)
    with pytest.raises(DataError, match="'likelihood'"):
        once(FeatureRows, rows.rewards, rows.policy, rows.logging, rows.likelihood[:, :2])
    with pytest.raises(ValueError, match="q_logged"):
        OffCEM().update(once(FeatureRows, rows.rewards, rows.policy, rows.logging, rows.likelihood))
