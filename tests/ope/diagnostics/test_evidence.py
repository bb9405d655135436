"""Estimates beside known truths, in short: what `benchmarks/ope_truth.py` does at length."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from ctrkit.data.sources import hillstrom, open_bandit
from ctrkit.data.synthetic import Market, true_value
from ctrkit.ope import Evaluation, evaluate, read_bandit_log
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.policies import (
    EpsilonGreedyPolicy,
    FixedPolicy,
    GreedyPolicy,
    LoggingPolicy,
    Policy,
    SoftmaxPolicy,
    UniformPolicy,
    padded,
)

ROOT = Path(__file__).parents[3]
EXPERIMENT = ROOT.parent / "shared" / "data" / "hillstrom.parquet"
FIXTURES = ROOT / "tests" / "fixtures"

needs_obp = pytest.mark.skipif(
    importlib.util.find_spec("obp") is None, reason="obp is not installed (see CONTRIBUTING.md)"
)


@pytest.mark.skipif(not EXPERIMENT.exists(), reason="Hillstrom's experiment is not here")
@pytest.mark.slow
def test_arm_means_of_a_randomised_experiment_are_covered() -> None:
    """Rows drawn from the experiment, with replacement, and kept by a policy: the arms' means are the truth.

    Of 36 intervals 95 % hold: fewer than 31 do in 1 of 120 such tests, and the draws are always the same.
    """
    table = hillstrom.read(EXPERIMENT.parent)
    truths = [table.filter(pl.col("segment") == arm)["visit"].mean() for arm in hillstrom.ARMS]
    rng = np.random.default_rng(0)
    held = 0
    for draw in range(12):
        drawn = table[rng.integers(0, table.height, 6000)]
        log = hillstrom.biased_log(drawn, draw).drop("conversion", "spend")
        found = evaluate(
            read_bandit_log(log), [FixedPolicy(arm) for arm in hillstrom.ARMS], ["ips"], names=hillstrom.ARMS
        )
        for policy, truth in zip(found.policies, truths, strict=True):
            interval = policy.estimates[0].interval
            assert interval.method == "cressie-read"
            assert interval.high - interval.low < truth
            held += interval.low <= truth <= interval.high
    assert held >= 31


class Errors:
    """Scores an ad by its click rate, and by an error that is its own."""

    def __init__(self, size: float, ads: int) -> None:
        self.errors = np.random.default_rng(1).normal(0, size, ads)

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        ads = padded(candidates, fill=0).astype(np.int64)
        return np.log(padded(context["true_click_probability"], fill=1.0)) + self.errors[ads]


def market_policies(ads: int) -> dict[str, Policy]:
    right = Errors(0.0, ads)
    return {
        "greedy": GreedyPolicy(right),
        "epsilon": EpsilonGreedyPolicy(right, 0.25),
        "errors": GreedyPolicy(Errors(0.9, ads)),
        "softmax": SoftmaxPolicy(right, 1.0),
        "logging": LoggingPolicy(),
        "uniform": UniformPolicy(),
        "worst": SoftmaxPolicy(lambda context, candidates: -right(context, candidates), 0.7),
    }


@pytest.mark.slow
def test_policies_of_a_market_rank_as_the_truth_ranks_them() -> None:
    ads = 60
    table = Market(seed=2, users=500, ads=ads).bandit_log(20_000)
    log = read_bandit_log(table)
    policies = market_policies(ads)
    found = evaluate(log, list(policies.values()), names=list(policies), reward_model="logistic")
    # The market's own reckoning of the truth.
    truths = [
        true_value(table, policy.probabilities(log.table, log.table["candidates"]))
        for policy in policies.values()
    ]
    assert [policy.truth for policy in found.policies] == pytest.approx(truths, rel=1e-9)
    for place, least in enumerate((0.8, 0.8, 0.5, 0.8)):
        values = [policy.estimates[place].value for policy in found.policies]
        name = found.policies[0].estimates[place].estimator
        assert kendalltau(values, truths).statistic >= least, name
    for policy, truth in zip(found.policies, truths, strict=True):
        dr = policy.estimates[3]
        assert dr.interval.low <= truth <= dr.interval.high, policy.name
    assert found.ranking is not None
    verdicts = {policy.name: policy.verdict.verdict for policy in found.policies}
    assert verdicts["greedy"] == "better"
    assert verdicts["logging"] == "cannot tell"
    assert verdicts["worst"] == "worse"


def reference(campaign: str, way: str) -> dict[str, Any]:
    """What obp 0.5.7 says."""
    content = json.loads((FIXTURES / "obd_reference.json").read_text())
    found: dict[str, Any] = content["obd"][campaign][way]
    return found


@needs_obp
@pytest.mark.parametrize(("campaign", "actions"), [("all", 80), ("men", 34)])
def test_thompson_sampling_log_to_the_uniform_policy(campaign: str, actions: int) -> None:
    """The other way round than `test_obp.py`: propensities from 0.00005 up, weights up to 278."""
    expected = reference(campaign, "bts->random")
    log = read_bandit_log(open_bandit.read(campaign, "bts"))  # type: ignore[arg-type]
    assert log.width == actions
    specs = ["ips", "snips", "clipped-ips:lambda=10"]
    found = evaluate(log, [UniformPolicy()], specs, interval="normal")
    (policy,) = found.policies
    ips, snips, clipped = policy.estimates
    assert ips.value == pytest.approx(expected["values"]["ipw"], rel=1e-9)
    assert snips.value == pytest.approx(expected["values"]["snipw"], rel=1e-9)
    assert clipped.value == pytest.approx(expected["values"]["ipw_clip10"], rel=1e-9)
    ends = expected["ipw_normal_ci95"]
    np.testing.assert_allclose([ips.interval.low, ips.interval.high], ends, rtol=0, atol=1e-7)
    weights, diagnostics = expected["weights"], policy.diagnostics
    assert diagnostics.mean_weight == pytest.approx(weights["mean_w"], rel=1e-9)
    assert diagnostics.max_weight == pytest.approx(weights["max_w"], rel=1e-9)
    assert diagnostics.effective_sample_size == pytest.approx(weights["ess"], rel=1e-9)
    z = (weights["mean_w"] - 1) / weights["se_mean_w"]
    assert diagnostics.mean_weight_z == pytest.approx(z, rel=1e-3)


class ByPosition(Policy):
    """Chooses by the place on the page: probabilities [actions, positions]."""

    name = "by position"

    def __init__(self, distribution: np.ndarray) -> None:
        self.distribution = distribution

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        items = padded(candidates).astype(np.int64)
        return self.distribution[items, context["position"].to_numpy()[:, None]]


@needs_obp
@pytest.mark.parametrize("campaign", ["all", "men"])
def test_estimators_with_a_reward_model_are_near_the_reference(campaign: str) -> None:
    """Theirs is another model, fitted to other folds: only the weighted part is the same."""
    expected = reference(campaign, "random->bts")["values"]
    distribution = np.load(FIXTURES / f"obd_bts_dist_{campaign}.npy")
    log = read_bandit_log(open_bandit.read(campaign, "random"))  # type: ignore[arg-type]
    found = evaluate(log, [ByPosition(distribution)], ["ips", "dm", "dr", "sndr"], reward_model="logistic")
    estimates = {one.estimator: one for one in found.policies[0].estimates}
    assert estimates["ips"].value == pytest.approx(expected["ipw"], rel=1e-9)
    for name in ("dm", "dr", "sndr"):
        assert estimates[name].value == pytest.approx(expected[name], abs=1e-3), name
    assert estimates["dr"].interval.low <= expected["dr"] <= estimates["dr"].interval.high


@pytest.fixture(scope="module")
def women() -> BanditLog:
    """10,000 decisions of Bernoulli Thompson sampling among 46 items of women's fashion."""
    return read_bandit_log(open_bandit.read("women", "bts"))


@needs_obp
def test_the_women_log_is_not_to_be_trusted_whatever_is_asked_for(women: BanditLog) -> None:
    """Two effective rows of 10,000: no estimator and no interval may turn that into a claim."""

    def doubt(found: Evaluation) -> None:
        (policy,) = found.policies
        assert policy.verdict.verdict == "do not trust"
        assert policy.verdict.reason.startswith("the effective sample size is 2.08 of 10000 rows")
        assert policy.diagnostics.effective_sample_size == pytest.approx(2.08, abs=0.005)

    default = evaluate(women, [UniformPolicy()])
    doubt(default)
    # With a reward model too: its interval leaves everything open.
    (dr,) = (one for one in default.policies[0].estimates if one.estimator == "dr")
    assert (dr.interval.low, dr.interval.high) == (0, 1)
    weights = 1 / women.width / women.propensity
    assert default.policies[0].diagnostics.effective_sample_size == pytest.approx(
        weights.sum() ** 2 / (weights @ weights), rel=1e-9
    )
    for interval in ("normal", "bootstrap"):
        doubt(evaluate(women, [UniformPolicy()], ["snips"], interval=interval))
