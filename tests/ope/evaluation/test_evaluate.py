"""From a log to verdicts, on a simulated log with known truth."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import ConfigError, DataError, RunError
from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.learners import SLOW_TREES
from ctrkit.ope.models.tree_scores import TreeScores
from ctrkit.policies import GreedyPolicy, Policy, SoftmaxPolicy, UniformPolicy, padded

ROWS, ACTIONS = 6000, 5


def table(seed: int = 0) -> pl.DataFrame:
    """Clicks at 2 to 20 %; the logging policy leans to the ads with a low id."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ROWS)
    rate = 0.02 + 0.18 / (1 + np.exp(-(np.arange(ACTIONS) - 2.5) * (1 + 0.3 * x[:, None])))
    logging = np.exp(-0.5 * np.arange(ACTIONS)) * np.ones((ROWS, 1))
    logging /= logging.sum(axis=1, keepdims=True)
    action = (rng.random((ROWS, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=ACTIONS - 1)
    at = (np.arange(ROWS), action)
    return pl.DataFrame(
        {
            "x_one": x,
            "action": action,
            "propensity": logging[at],
            "reward": (rng.random(ROWS) < rate[at]).astype(int),
            "candidates": [list(range(ACTIONS))] * ROWS,
            "logging_probabilities": logging.tolist(),
            "candidate_rate": rate.tolist(),
        }
    )


def rates(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    return padded(context["candidate_rate"])


def last(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    return padded(candidates)


def reverse_rates(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
    return -rates(context, candidates)


@pytest.fixture(scope="module")
def log() -> BanditLog:
    return read_bandit_log(table())


def test_intervals_cover_the_truth_and_verdicts_are_right(log: BanditLog) -> None:
    policies = [SoftmaxPolicy(rates, 0.02), GreedyPolicy(reverse_rates), UniformPolicy()]
    found = evaluate(log, policies)
    truth = rates(log.table, log.table["candidates"])
    logging = padded(log.table["logging_probabilities"])
    assert found.logging.interval.low <= (logging * truth).sum(axis=1).mean() <= found.logging.interval.high
    for policy, result in zip(policies, found.policies, strict=True):
        probabilities = policy.probabilities(log.table, log.table["candidates"])
        value = (probabilities * truth).sum(axis=1).mean()
        assert [e.estimator for e in result.estimates] == ["ips", "snips", "dm", "dr"]
        for estimate in result.estimates:
            if estimate.estimator != "dm":
                assert estimate.interval.low <= value <= estimate.interval.high
                assert estimate.interval.method == "cressie-read"
    assert [p.verdict.verdict for p in found.policies] == ["better", "worse", "better"]


def test_shape_of_the_json(log: BanditLog) -> None:
    content = json.loads(json.dumps(evaluate(log, [UniformPolicy()]).to_dict(), allow_nan=False))
    assert content["logging"].keys() >= {"value", "low", "high"}
    (policy,) = content["policies"]
    assert policy["name"] == "uniform"
    assert policy["verdict"] in ("better", "worse", "cannot tell", "do not trust")
    for estimate in policy["estimates"]:
        assert estimate.keys() >= {"estimator", "value", "low", "high", "interval", "difference"}
    diagnostics = {"rows", "positives", "effective_sample_size", "mean_weight", "max_weight"}
    assert policy["diagnostics"].keys() >= diagnostics


def test_a_policy_and_its_column_agree(log: BanditLog) -> None:
    policy = SoftmaxPolicy(rates, 0.05)
    probabilities = policy.probabilities(log.table, log.table["candidates"])
    logged = probabilities[np.arange(ROWS), log.action_index]
    with_column = read_bandit_log(log.table.with_columns(target_probability=logged))
    found = evaluate(with_column, ["target_probability", policy])
    by_column, by_policy = found.policies
    assert [e.estimator for e in by_column.estimates] == ["ips", "snips"]
    assert any("need a policy's probabilities of all candidates" in note for note in found.notes)
    for one, other in zip(by_column.estimates, by_policy.estimates, strict=False):
        assert one.value == pytest.approx(other.value, rel=1e-12)


def test_blocks_do_not_change_the_result(log: BanditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(log, [UniformPolicy(), GreedyPolicy(rates)]).to_dict()
    monkeypatch.setattr("ctrkit.ope.estimators.rows.BLOCK", 7001)
    blocks = evaluate(log, [UniformPolicy(), GreedyPolicy(rates)]).to_dict()
    for one, other in zip(whole["policies"], blocks["policies"], strict=True):
        for a, b in zip(one["estimates"], other["estimates"], strict=True):
            assert [a[k] for k in ("value", "low", "high")] == pytest.approx(
                [b[k] for k in ("value", "low", "high")], rel=1e-9
            )


def test_a_policy_outside_the_logs_support_is_not_to_be_trusted() -> None:
    """The last candidate is never logged, and the policy takes nothing else: nothing can be known."""
    t = table().with_columns(
        candidates=pl.Series([[*range(ACTIONS), 99]] * ROWS),
        logging_probabilities=pl.col("logging_probabilities").list.concat(pl.lit(0.0)),
        candidate_rate=pl.col("candidate_rate").list.concat(pl.lit(0.5)),
    )
    found = evaluate(read_bandit_log(t), [GreedyPolicy(last)])
    (policy,) = found.policies
    assert policy.verdict.verdict == "do not trust"
    assert policy.diagnostics.unsupported_share == 1
    ips, snips = policy.estimates[:2]
    assert ips.value == 0
    assert np.isnan(snips.value)
    content = found.to_dict()["policies"][0]
    assert content["estimates"][1]["value"] is None
    json.dumps(content, allow_nan=False)


def test_wrong_propensities_are_not_to_be_trusted(log: BanditLog) -> None:
    wrong = log.table.drop("logging_probabilities").with_columns(propensity=pl.lit(1 / ACTIONS))
    # The log leans to the first ads and says it does not: a policy of the last gets a mean weight below 1.
    (policy,) = evaluate(read_bandit_log(wrong), [GreedyPolicy(last)], ["ips", "snips"]).policies
    assert policy.verdict.verdict == "do not trust"
    assert "mean weight" in policy.verdict.reason


def test_rewards_of_unknown_range_get_normal_intervals(log: BanditLog) -> None:
    values = log.table.with_columns(reward=pl.col("reward") * 25.0)
    free = evaluate(read_bandit_log(values), [UniformPolicy()], ["ips"])
    assert free.policies[0].estimates[0].interval.method == "normal"
    assert any("the reward range is unknown" in note for note in free.notes)
    bounded = evaluate(read_bandit_log(values), [UniformPolicy()], ["ips"], reward_range=(0, 25))
    binary = evaluate(log, [UniformPolicy()], ["ips"])
    wide, narrow = (e.policies[0].estimates[0].interval for e in (bounded, binary))
    # Cressie-Read's interval scales with the reward.
    assert [wide.low, wide.high] == pytest.approx([25 * narrow.low, 25 * narrow.high], rel=1e-9)


class Broken(Policy):
    name: ClassVar[str] = "broken"

    def __init__(self, value: float) -> None:
        self.value = value

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        chosen = np.full((context.height, ACTIONS), 1 / ACTIONS)
        chosen[min(3, context.height - 1)] = self.value
        return chosen


@pytest.mark.parametrize("value", [np.nan, 0.3, -0.2])
def test_probabilities_that_are_no_distribution(log: BanditLog, value: float) -> None:
    with pytest.raises(RunError, match="policy broken: the probabilities of row 3 are no distribution"):
        evaluate(log, [Broken(value)], ["ips"])


def test_bad_arguments(log: BanditLog) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'snips'"):
        evaluate(log, [UniformPolicy()], ["snip"])
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        evaluate(log, [UniformPolicy()], confidence=95)
    with pytest.raises(ConfigError, match="is empty"):
        evaluate(log, [UniformPolicy()], reward_range=(1, 0))
    with pytest.raises(DataError, match="outside the reward range") as caught:
        evaluate(log, [UniformPolicy()], reward_range=(0, 0.5))
    assert caught.value.row == int(np.argmax(log.reward))


def test_a_scikit_learn_with_other_trees_gives_the_same_numbers_and_a_note(
    log: BanditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(log, [UniformPolicy()], ["dm", "dr", "mrdr"]).to_dict()
    assert SLOW_TREES not in expected["notes"]
    monkeypatch.setattr(TreeScores, "of", lambda model, features: None)
    found = evaluate(log, [UniformPolicy()], ["dm", "dr", "mrdr"]).to_dict()
    assert found["notes"].count(SLOW_TREES) == 1
    for ours, theirs in zip(
        found["policies"][0]["estimates"], expected["policies"][0]["estimates"], strict=True
    ):
        assert ours["value"] == pytest.approx(theirs["value"], rel=1e-9)


def test_estimators_take_settings_and_say_what_their_intervals_leave_out() -> None:
    rng = np.random.default_rng(0)
    log = read_bandit_log(
        pl.DataFrame(
            {
                "action": rng.integers(0, 3, 4000),
                "reward": (rng.random(4000) < 0.2).astype(int),
                "propensity": np.full(4000, 1 / 3),
                "target_probability": rng.choice([0.1, 0.9], 4000),
            }
        )
    )
    found = evaluate(log, ["target_probability"], ["ips", "clipped-ips:lambda=2", "clipped-ips:lambda=slope"])
    names = [one.estimator for one in found.policies[0].estimates]
    assert names == ["ips", "clipped-ips:lambda=2", "clipped-ips:lambda=slope"]
    notes = found.to_dict()["notes"]
    assert any("leaves out the bias of lambda=2" in note for note in notes)
    assert any("SLOPE" in note for note in notes)
    with pytest.raises(ConfigError, match="clipped-ips"):
        evaluate(log, ["target_probability"], ["clipped-ip"])


class _Lucky(Policy):
    """Chooses the logged action more often where it was rewarded: what a policy does that saw these rows."""

    def __init__(self, gain: float, loss: float) -> None:
        self.name, self.gain, self.loss = "lucky", gain, loss

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        found = np.full((context.height, ACTIONS), 1 / ACTIONS)
        at = (np.arange(context.height), context["action"].to_numpy())
        found[at] *= np.where(context["reward"] == 1, self.gain, self.loss)
        others = np.ones_like(found, dtype=bool)
        others[at] = False
        found[others] = np.repeat((1 - found[at]) / (ACTIONS - 1), ACTIONS - 1)
        return found


def test_a_policy_that_was_fitted_to_the_rows_is_not_trusted_whatever_its_mean_weight(log: BanditLog) -> None:
    weights = 1 / ACTIONS / log.propensity
    lucky, rest = (weights[log.reward == one].sum() for one in (1, 0))
    gain = 2.5
    policy = _Lucky(gain, (len(log) - gain * lucky) / rest)
    asked = {"reward_model": "logistic", "context_columns": ["x_one"]}
    uniform, fitted = evaluate(log, [UniformPolicy(), policy], ["dr"], **asked).policies
    assert fitted.diagnostics.mean_weight == pytest.approx(1.0)
    assert fitted.verdict.verdict == "do not trust"
    assert "weights and reward model contradict each other" in fitted.verdict.reason
    # The same rows and weights without the chance of the rows are trusted.
    assert uniform.verdict.verdict != "do not trust"
    assert all(one.doubt is None for one in uniform.checks)


def test_a_check_that_was_made_before_counts_for_its_policy_and_for_its_segments(log: BanditLog) -> None:
    before = Check("rows seen", 0.5, "0", "it was trained on these rows")
    found = evaluate(
        log, [UniformPolicy(), "propensity"], ["snips"], segments=["action"], known={"uniform": [before]}
    )
    doubted, other = found.policies
    assert doubted.verdict.reason == before.doubt
    assert {one.verdict.reason for one in doubted.segments[0].segments} == {before.doubt}
    assert other.verdict.verdict != "do not trust"
