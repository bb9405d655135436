"""Artifacts as policies and as reward models, on the small market's logs."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit, softmax
from scipy.stats import norm

import ctrkit
from ctrkit.api.models.model import CandidateScores, Model
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.api.policies import seen as seen_rows
from ctrkit.api.policies.artifact_policy import CandidateScorer, policy_of_model
from ctrkit.api.policies.artifact_rewards import ArtifactRewards
from ctrkit.api.policies.seen import SeenRows
from ctrkit.calibration import HistogramBinning, IsotonicRegression, VennAbers
from ctrkit.errors import ArtifactError, DataError
from ctrkit.ope import BanditLog, read_bandit_log
from ctrkit.policies import POLICIES, EpsilonGreedyConfig, GreedyConfig, SoftmaxConfig, ThompsonConfig

FEATURES = ("category", "advertiser", "price")


class Counting(Model):
    """A model that counts how often it is asked to score."""

    asked = 0

    def score_candidates(
        self, context: pl.DataFrame, candidates: pl.Series, *, hidden: bool = False, file: str | None = None
    ) -> CandidateScores:
        self.asked += 1
        return super().score_candidates(context, candidates, hidden=hidden, file=file)


@pytest.fixture
def model(trained: Path) -> Counting:
    return Counting(ctrkit.load(trained).artifact)


@pytest.fixture(scope="module")
def log(logs: Path) -> BanditLog:
    """200 rows with one to eight candidates, the logged one always there."""
    table = pl.read_parquet(logs / "bandit.parquet")[:200].drop("logging_probabilities", strict=False)
    place = pl.Series(
        [row.index(a) for row, a in zip(table["candidates"].to_list(), table["action"], strict=True)]
    )
    keep = pl.Series("keep", np.maximum(place.to_numpy() + 1, 1 + np.arange(200) % 8))
    lists = [n for n, kind in table.schema.items() if isinstance(kind, pl.List) and n.startswith("candidate")]
    return read_bandit_log(
        table.with_columns(keep).with_columns(pl.col(n).list.head(pl.col("keep")) for n in lists)
    )


def rows_of(log: BanditLog) -> tuple[pl.DataFrame, pl.Series]:
    return log.table, log.candidates(slice(0, len(log)))


def test_the_artifacts_policy_is_over_the_calibrated_log_odds(model: Counting, log: BanditLog) -> None:
    context, candidates = rows_of(log)
    found = policy_of_model(model, SoftmaxConfig(temperature=0.5)).probabilities(context, candidates)
    for row in (0, 6, 7, 101):
        ids = candidates[row].to_list()
        single = pl.concat([context[row]] * len(ids)).with_columns(
            pl.Series("ad_id", ids),
            *(pl.Series(f"ad_{f}", context[f"candidate_ad_{f}"][row]) for f in FEATURES),
        )
        clicks = logit(model.predict(single)["click"].to_numpy())
        np.testing.assert_allclose(found[row, : len(ids)], softmax(clicks / 0.5), rtol=1e-3)
        assert (found[row, len(ids) :] == 0).all()


def test_its_own_config_unless_another_is_given(model: Counting) -> None:
    assert policy_of_model(model).name == model.artifact.policy["name"] == "epsilon-greedy"
    model.artifact.policy = {"name": "uniform"}
    assert policy_of_model(model).name == "uniform"
    assert policy_of_model(model, SoftmaxConfig()).name == "softmax"


def test_without_a_calibrator_the_scores_are_the_logits(model: Counting, log: BanditLog) -> None:
    model.set_calibrators({})
    scorer = CandidateScorer(model)
    found = scorer(*rows_of(log))
    np.testing.assert_array_equal(found, model.score_candidates(*rows_of(log)).logits)
    np.testing.assert_allclose(found, logit(scorer.probabilities(*rows_of(log))), rtol=1e-9)


def test_blocks_give_what_the_whole_log_gives(model: Counting, log: BanditLog) -> None:
    policy = policy_of_model(model, SoftmaxConfig())
    whole = policy.probabilities(*rows_of(log))
    for start in range(0, 200, 64):
        rows = slice(start, min(start + 64, 200))
        found = policy.probabilities(log.table[rows], log.candidates(rows))
        np.testing.assert_allclose(found, whole[rows, : found.shape[1]], atol=1e-6)


def test_policies_and_rewards_share_a_blocks_scores(model: Counting, log: BanditLog) -> None:
    scorer = CandidateScorer(model)
    names = ("greedy", "softmax", "thompson", "epsilon-greedy")
    policies = [policy_of_model(scorer, POLICIES.read(name)) for name in names]
    rewards = ArtifactRewards(scorer)
    for start in range(0, 200, 50):
        rows = slice(start, start + 50)
        for policy in policies:
            policy.probabilities(log.table[rows], log.candidates(rows))
        rewards.predict(log, rows)
    # Four blocks, and the first once more as it was not known then that what the last layer reads is needed.
    assert model.asked == 5
    other = log.table[:50].with_columns(hour=pl.lit(3)) if "hour" in log.table.columns else log.table[50:100]
    policies[1].probabilities(other, log.candidates(slice(0, 50)))
    assert model.asked == 6


def test_thompson_is_how_often_a_candidate_is_the_best(model: Counting, log: BanditLog) -> None:
    draws = 20_000
    context, candidates = log.table[:60], log.candidates(slice(0, 60))
    policy = policy_of_model(model, ThompsonConfig(draws=draws, seed=1))
    found = policy.probabilities(context, candidates)
    hidden = model.score_candidates(context, candidates, hidden=True).hidden
    assert hidden is not None
    posterior = model.posterior
    covariance = np.linalg.inv(posterior.precision)
    weights = np.random.default_rng(7).multivariate_normal(posterior.mean, covariance, draws)
    lengths = candidates.list.len().to_list()
    for row, count in enumerate(lengths):
        features = np.column_stack([hidden[row, :count], np.ones(count)])
        best = np.bincount((features @ weights.T).argmax(axis=0), minlength=count) / draws
        # Two estimates from as many draws each, five standard errors.
        error = np.sqrt(2 * best * (1 - best) / draws)
        np.testing.assert_allclose(found[row, :count], best, rtol=0, atol=5 * error.max() + 1e-3)
    two = lengths.index(2)
    apart = np.append(hidden[two, 0].astype(float) - hidden[two, 1], 0.0)
    first = norm.cdf(apart @ posterior.mean / np.sqrt(apart @ covariance @ apart))
    np.testing.assert_allclose(found[two, :2], [first, 1 - first], rtol=1e-6)


def test_thompson_needs_a_posterior_and_one_calibration_for_all(model: Counting) -> None:
    thompson = ThompsonConfig()
    by_field = deepcopy(model)
    click = by_field.calibrators["click"]
    by_field.set_calibrators(
        {**by_field.calibrators, "click": TaskCalibrator(click.calibrator, "ad_category")}
    )
    with pytest.raises(ArtifactError, match="calibrated by 'ad_category', which differs by candidate"):
        policy_of_model(by_field, thompson)
    model.artifact.posterior = None
    with pytest.raises(ArtifactError, match="has no posterior"):
        policy_of_model(model, thompson)


def test_rewards_are_the_models_probabilities(model: Counting, log: BanditLog) -> None:
    q = ArtifactRewards(model).predict(log, slice(20, 40))
    logged = log.table[20:40].with_columns(
        ad_id=pl.col("action"),
        **{
            f"ad_{f}": pl.col(f"candidate_ad_{f}").list.get(pl.Series(log.action_index[20:40]))
            for f in FEATURES
        },
    )
    np.testing.assert_allclose(
        q[np.arange(20), log.action_index[20:40]], model.predict(logged)["click"], rtol=1e-4
    )
    lengths = log.table["candidates"][20:40].list.len().to_numpy()
    assert ((q > 0) == (np.arange(q.shape[1]) < lengths[:, None])).all()


def test_rewards_other_than_0_and_1_are_refused(model: Counting, log: BanditLog) -> None:
    valued = read_bandit_log(log.table.with_columns(reward=pl.col("reward") * 2.5))
    with pytest.raises(DataError, match=r"this one is 2\.5") as error:
        ArtifactRewards(model).predict(valued, slice(0, 10))
    assert error.value.row == int(np.flatnonzero(valued.reward)[0])


def as_log(impressions: pl.DataFrame) -> BanditLog:
    """Impressions as the decisions that they were, between the ad shown and one that no one has."""
    return read_bandit_log(
        impressions.rename({"ad_id": "action", "click": "reward"}).with_columns(
            propensity=pl.lit(0.5),
            candidates=pl.concat_list(pl.lit(-1, pl.Int64), pl.col("action").cast(pl.Int64)),
            action=pl.col("action").cast(pl.Int64),
            **{f"candidate_ad_{f}": pl.concat_list(f"ad_{f}", f"ad_{f}") for f in FEATURES},
        )
    )


def test_a_log_of_training_rows_is_known_again(model: Counting, logs: Path) -> None:
    impressions = pl.read_parquet(logs / "impressions.parquet").sort("timestamp")
    cut = int(0.8 * impressions.height)
    training, held_out = as_log(impressions[:cut]), as_log(impressions[cut:])
    seen = SeenRows(model)
    seen.update(training)
    assert seen.result() == pytest.approx(1.0, abs=0.01)
    assert seen.share is not None
    fresh = SeenRows(model)
    fresh.update(held_out)
    assert fresh.result() == pytest.approx(0.0, abs=0.01)
    assert fresh.share is None
    # Half and half, in parts.
    parts = [SeenRows(model), SeenRows(model)]
    parts[0].update(as_log(impressions[cut - held_out.table.height : cut]))
    parts[1].update(held_out)
    parts[0].merge(parts[1])
    assert parts[0].result() == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_rows_that_an_artifact_learnt_from_are_left_out_or_not_trusted(
    model: Counting, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impressions = pl.read_parquet(logs / "impressions.parquet").sort("timestamp").gather_every(3)
    impressions = impressions.select(pl.exclude("^true_.*$"))
    log = as_log(impressions)
    start = model.artifact.data["split"]["boundaries"][1]
    later = int((log.table["timestamp"] >= start).sum())
    asked = {"estimators": ["snips"], "segments": ["device"]}
    monkeypatch.setattr(seen_rows, "LEAST_UNSEEN", later)
    unseen = ctrkit.evaluate_policy(log, [model, "uniform"], **asked)
    assert [one.diagnostics.rows for one in unseen.evaluation.policies] == [later, later]
    assert any(f"the {later:,} others are judged" in note for note in unseen.notes)
    monkeypatch.setattr(seen_rows, "LEAST_UNSEEN", later + 1)
    for whole in (
        ctrkit.evaluate_policy(log, [model, "uniform"], **asked, unseen=False),
        ctrkit.evaluate_policy(log, [model, "uniform"], **asked),
    ):
        learnt, uniform = whole.evaluation.policies
        assert learnt.diagnostics.rows == len(log)
        assert learnt.verdict.verdict == "do not trust"
        assert "was trained on about 8" in learnt.verdict.reason
        assert {one.verdict.verdict for one in learnt.segments[0].segments} == {"do not trust"}
        assert "was trained on" not in uniform.verdict.reason
    before = as_log(impressions.filter(pl.col("timestamp") < start))
    with pytest.raises(DataError, match="no others remain"):
        ctrkit.evaluate_policy(before, model, unseen=True)
    asked = {"estimators": ["snips", "dr"], "reward_model": "artifact"}
    rewards = ctrkit.evaluate_policy(before, [model, "uniform"], **asked).evaluation.policies[1]
    assert "the reward model of the artifact was trained on about" in rewards.verdict.reason


def test_clicks_are_looked_up_whatever_came_after(model: Counting, logs: Path) -> None:
    impressions = pl.read_parquet(logs / "impressions.parquet").sort("timestamp")
    clicked = impressions[: int(0.8 * impressions.height)].filter(pl.col("click") == 1)
    assert clicked["conversion"].n_unique() == 2
    seen = SeenRows(model)
    seen.update(as_log(clicked))
    # A sample of hashes tells the share of 59 conversions in 349 clicks to some points.
    assert clicked["conversion"].mean() > 0.15
    assert seen.result() == pytest.approx(1.0, abs=0.05)


def test_another_log_and_other_rewards_tell_nothing(model: Counting, log: BanditLog) -> None:
    seen = SeenRows(model)
    seen.update(log)
    assert seen.share is None
    valued = SeenRows(model)
    valued.update(read_bandit_log(log.table.with_columns(reward=pl.col("reward") * 2.5)))
    assert valued.result() is None
    model.artifact.data = {**model.artifact.data, "seen": None}
    unknown = SeenRows(model)
    unknown.update(log)
    assert unknown.result() is None


@pytest.mark.slow
def test_step_calibrators_leave_the_decision_to_the_model(model: Counting, log: BanditLog) -> None:
    greedy = policy_of_model(model, GreedyConfig()).probabilities(*rows_of(log))
    first = model.tasks[0]
    z = model.score_candidates(*rows_of(log)).logits
    flat = z[~np.isnan(z)]
    labels = (np.random.default_rng(0).random(flat.size) < expit(flat)).astype(float)
    for kind in (IsotonicRegression, HistogramBinning, VennAbers):
        model.set_calibrators({**model.calibrators, first: TaskCalibrator(kind().fit(flat, labels))})
        scores = model.score_candidates(*rows_of(log))
        p = np.where(np.isnan(z), -1.0, scores.probabilities[first])
        # A row's best, by argmax or by any policy, is that of the logits, and nobody draws lots.
        assert np.array_equal(p.argmax(axis=1), np.where(np.isnan(z), -np.inf, z).argmax(axis=1))
        decided = policy_of_model(model, GreedyConfig()).probabilities(*rows_of(log))
        np.testing.assert_array_equal(decided, greedy)
        exploring = policy_of_model(model, EpsilonGreedyConfig(epsilon=0.2))
        assert (exploring.probabilities(*rows_of(log)).max(axis=1) > 0.8).all()
        # And the probabilities are those of the calibrator but for their last digits.
        np.testing.assert_allclose(p[~np.isnan(z)], kind().fit(flat, labels)(flat), rtol=1e-10)
