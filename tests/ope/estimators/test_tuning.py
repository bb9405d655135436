from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctrkit.errors import ConfigError
from ctrkit.ope import ESTIMATORS, LoggedRows
from ctrkit.ope.estimators.clipped import ClippedInversePropensityScoring, OptimisticDoublyRobust
from ctrkit.ope.estimators.registry import make_estimator
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights
from ctrkit.ope.estimators.tuning import RULES, Candidate, slope
from tests.ope.estimates import once
from tests.ope.estimators.test_clipped import PEERS, fed, open_bandit_rows, problem

SHRUNK = [kind for kind in ESTIMATORS.values() if issubclass(kind, ShrunkWeights)]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", PEERS)
def test_chooses_as_obp_does(name: str, seed: int) -> None:
    tuners = pytest.importorskip("obp.ope.estimators_tuning")
    # Few rows and many, so that bias and variance decide in turn.
    given = problem(seed, click_rate=(0.4, 0.9)[seed], n=(300, 6000)[seed], actions=10)
    kind = ESTIMATORS[name]
    assert issubclass(kind, ShrunkWeights)
    for rule in RULES:
        peer = getattr(tuners, f"{PEERS[name]}Tuning")(lambdas=list(kind.shrinkage.grid), tuning_method=rule)
        expected = peer.estimate_policy_value(**given.inputs)
        estimator = fed(kind((0.0, 1.0), rule), given.rows)
        assert estimator.result().value == pytest.approx(expected, rel=1e-9), rule
        if rule == "mse":
            scores = peer.estimated_mse_score_dict
            assert estimator.mean_squared_errors() == pytest.approx(scores, rel=1e-9)


def test_slope_by_hand() -> None:
    """With 10^9 rows the bound of confidence .9 is 1.2816 standard errors; √6 - 1 = 1.4495."""
    rows = 1e9
    wide, middle, narrow = Candidate(1.0, 1.0), Candidate(2.0, 0.5), Candidate(2.5, 0.1)
    assert slope([wide, middle, narrow], rows) == 2
    # The order given does not matter, but that of the bounds.
    assert slope([narrow, wide, middle], rows) == 0
    # |v - 1| <= 1.2816 (.1 + 1.4495): the border is at 2.9858; against the middle one at 3.0572.
    assert slope([wide, middle, Candidate(2.98, 0.1)], rows) == 2
    assert slope([wide, middle, Candidate(2.99, 0.1)], rows) == 1
    # A disagreement ends the search, whatever comes after.
    assert slope([wide, Candidate(9.0, 0.5), Candidate(1.0, 0.1)], rows) == 0
    assert slope([wide], rows) == 0


def test_rules_are_used_only_when_asked() -> None:
    for kind in SHRUNK:
        estimator = kind((0.0, 1.0))  # type: ignore[call-arg]  # each has its default
        assert estimator.rule is None
        assert len(estimator.trials) == 1
        assert estimator.trials[0].shrinkage.strength == kind.default


@pytest.mark.parametrize("campaign", ["all", "men"])
def test_slope_at_ad_click_rates_shrinks_most_and_says_so(campaign: str) -> None:
    pytest.importorskip("obp")
    estimator = fed(make_estimator("clipped-ips:lambda=slope", (0.0, 1.0)), open_bandit_rows(campaign))
    assert estimator.chosen.shrinkage.strength == min(estimator.shrinkage.grid)
    notes = " ".join(estimator.notes())
    assert "lambda=1 was chosen from the same rows" in notes
    assert "Do not decide by it at the click rates of ads" in notes
    # More than half of the weight is clipped away, and the bound of the bias says so.
    assert estimator.bias().low < -0.4


def test_the_bound_of_the_error_holds_the_error() -> None:
    """Truth known: the bound of each strength is above its mean squared error over 200 logs."""
    rng = np.random.default_rng(8)
    logging, target = np.array([0.7, 0.25, 0.04, 0.01]), np.array([0.1, 0.2, 0.3, 0.4])
    click = np.array([0.1, 0.3, 0.2, 0.5])
    grid = ClippedInversePropensityScoring.shrinkage.grid
    squares, bounds = np.zeros(len(grid)), np.zeros(len(grid))
    for _ in range(200):
        action = rng.choice(4, size=400, p=logging)
        rewards = (rng.random(400) < click[action]).astype(float)
        rows = once(LoggedRows, (target / logging)[action], rewards, 40.0)
        estimator = fed(ClippedInversePropensityScoring((0.0, 1.0), "mse"), rows)
        values = np.array([trial.candidate.value for trial in estimator.trials])
        squares += (values - target @ click) ** 2 / 200
        bounds += np.array(list(estimator.mean_squared_errors().values())) / 200
    assert (squares <= bounds).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", SHRUNK, ids=lambda kind: kind.name)
def test_parts_merged_are_the_whole(kind: type[ShrunkWeights], rule: str) -> None:
    rows = problem(12).rows
    whole = fed(kind((0.0, 1.0), rule), rows)
    merged = kind((0.0, 1.0), rule)
    for place in (slice(300, 500), slice(0, 120), slice(120, 300)):
        assert rows.q_logged is not None
        assert rows.q_policy is not None
        part = replace(
            rows,
            weights=rows.weights[place],
            rewards=rows.rewards[place],
            q_logged=rows.q_logged[place],
            q_policy=rows.q_policy[place],
            counts=rows.counts[place],
        )
        merged.merge(fed(kind((0.0, 1.0), rule), part))
    assert merged.chosen.shrinkage == whole.chosen.shrinkage
    mine, theirs = merged.result(), whole.result()
    assert mine.value == pytest.approx(theirs.value, rel=1e-12)
    assert mine.interval.low == pytest.approx(theirs.interval.low, rel=1e-10)
    assert mine.interval.high == pytest.approx(theirs.interval.high, rel=1e-10)
    assert mine.interval.method == theirs.interval.method


def test_the_choice_follows_the_rows() -> None:
    """More rows let less bias hide: by both rules the threshold grows."""
    for rule in RULES:
        few, many = (
            fed(ClippedInversePropensityScoring((0.0, 1.0), rule), problem(1, 0.9, n, 10).rows)
            for n in (40, 20_000)
        )
        assert few.chosen.shrinkage.strength <= many.chosen.shrinkage.strength
    assert few.chosen.shrinkage.strength < np.inf


def test_memory_is_that_of_the_grid() -> None:
    estimator = OptimisticDoublyRobust((0.0, 1.0), "slope")

    def size() -> int:
        return sum(
            trial.moments.rows.size + trial.moments.users.size + trial.kept.rows.size
            for trial in estimator.trials
        )

    before = size()
    for seed in range(3):
        estimator.update(problem(seed).rows)
    assert size() == before == 48 * len(estimator.shrinkage.grid)


def test_error_bound_needs_a_range_of_rewards() -> None:
    with pytest.raises(ConfigError, match="lambda=mse needs the range of rewards"):
        make_estimator("dr-os:lambda=mse")
    with pytest.raises(ConfigError, match="without a range"):
        fed(OptimisticDoublyRobust(None, "slope"), problem(0).rows).mean_squared_errors()
    assert fed(make_estimator("dr-os:lambda=slope"), problem(0).rows).result().value > 0


def test_scale_of_the_rewards_does_not_change_the_choice() -> None:
    """Rewards in cents choose what rewards in dollars choose."""
    rows = problem(2, 0.9, 3000, 10).rows
    for rule in RULES:
        dollars = fed(ClippedInversePropensityScoring((0.0, 1.0), rule), rows)
        cents = fed(
            ClippedInversePropensityScoring((0.0, 100.0), rule), replace(rows, rewards=100 * rows.rewards)
        )
        assert cents.chosen.shrinkage == dollars.chosen.shrinkage
        assert cents.result().value == pytest.approx(100 * dollars.result().value, rel=1e-12)
