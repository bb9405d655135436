from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.learn_policy import LearntPolicy, learn_policy
from ctrkit.api.policies.logged_decisions import (
    derived_features,
    divide,
    fit_encoder,
    log_to_learn_from,
    logged_decisions,
    rows_of,
)
from ctrkit.data.split import SplitConfig
from ctrkit.errors import ArtifactError, ConfigError, DataError
from ctrkit.ope import BanditLog, read_bandit_log
from ctrkit.policies import SoftmaxPolicy, policy_config
from ctrkit.training.counterfactual_loop import probabilities

PLACES = ("top", "side", "feed", "foot", "video")
# The best action of each place is clicked with 0.8, any other with 0.2.
TRUTH = np.full((5, 5), 0.2) + 0.6 * np.eye(5)
LOGGING = np.full((5, 5), 0.15) + 0.25 * np.roll(np.eye(5), 1, axis=1)
# Learns those in seconds.
QUICK = (
    "learning.epochs=8",
    "learning.batch_size=256",
    "learning.optimizer.learning_rate=0.03",
    "objective.baselines=[0.2]",
    "objective.kl=0.01",
)


def places(rows: int = 5000, seed: int = 0) -> pl.DataFrame:
    """A log of five places and five actions, each with a colour; mostly the next place's best is shown."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 5, rows)
    # Candidates stand in another order in every row.
    order = rng.permuted(np.tile(np.arange(5), (rows, 1)), axis=1)
    policy = np.take_along_axis(LOGGING[place], order, axis=1)
    at = (rng.random(rows)[:, None] > policy.cumsum(axis=1)).sum(axis=1).clip(max=4)
    truth = np.take_along_axis(TRUTH[place], order, axis=1)
    row = np.arange(rows)
    return pl.DataFrame(
        {
            "timestamp": row.astype(float),
            "user_id": rng.integers(0, rows // 4, rows),
            "place": [PLACES[i] for i in place],
            "candidates": (order + 100).tolist(),
            "candidate_colour": [[("red", "blue")[a % 2] for a in one] for one in order],
            "candidate_price": (order * 1.5).tolist(),
            "logging_probabilities": policy.tolist(),
            "action": order[row, at] + 100,
            "propensity": policy[row, at],
            "reward": (rng.random(rows) < truth[row, at]).astype(int),
            "true_click_probability": truth.tolist(),
        }
    )


def learnt(table: pl.DataFrame, folder: Path, *overrides: str, **given: object) -> LearntPolicy:
    options = {"model": folder / "policy.pt", "out": folder / "run", **given}
    return learn_policy(table, overrides=[*QUICK, *overrides], **options)  # type: ignore[arg-type]


def truths(result: LearntPolicy) -> list[float]:
    """Of the learnt, the uniform and the logging policy."""
    return [policy["truth"] for policy in result.to_dict()["evaluation"]["policies"]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[LearntPolicy, Path]:
    folder = tmp_path_factory.mktemp("learnt")
    return learnt(places(), folder), folder


@pytest.mark.slow
def test_rows_that_it_learnt_from_or_was_chosen_by_are_known_again(found: tuple[LearntPolicy, Path]) -> None:
    result, folder = found
    asked = {"policy": str(folder / "policy.pt"), "estimators": ["snips"]}
    (unseen,) = evaluate_policy(places(), **asked).evaluation.policies
    assert unseen.diagnostics.rows == result.rows["test"] == 1000
    (whole,) = evaluate_policy(places(), **asked, unseen=False).evaluation.policies
    assert whole.verdict.verdict == "do not trust"
    assert "the policy softmax was trained on about 80% of these rows" in whole.verdict.reason
    later = places(seed=1).with_columns(pl.col("timestamp") + 10_000)
    (other,) = evaluate_policy(later, **asked).evaluation.policies
    assert (other.diagnostics.rows, other.verdict.verdict) == (5000, "better")


def test_the_learnt_policy_is_near_the_best_one(found: tuple[LearntPolicy, Path]) -> None:
    result, _ = found
    policy, uniform, logging = truths(result)
    assert logging == pytest.approx((LOGGING * TRUTH).sum(axis=1).mean(), abs=0.01)
    assert policy > 0.85 * 0.8
    assert policy > 2 * max(uniform, logging)
    content = result.to_dict()["evaluation"]["policies"][0]
    assert content["verdict"] == "better"
    for estimate in content["estimates"]:
        if estimate["estimator"] == "dm":
            continue  # its interval leaves out what its model has wrong
        assert estimate["low"] < policy < estimate["high"]


def test_the_run_folder_is_complete_and_holds_what_the_result_holds(found: tuple[LearntPolicy, Path]) -> None:
    result, folder = found
    content = json.loads((folder / "run" / "metrics.json").read_text())
    assert content == {"command": "learn-policy", **json.loads(result.to_json())}
    assert content["rows"] == {
        "by": "time",
        "train": 3000,
        "valid": 1000,
        "test": 1000,
        "boundaries": [3000, 4000],
    }
    assert (folder / "run" / "ope" / "report.html").is_file()
    page = (folder / "run" / "report.html").read_text()
    assert "Validations" in page
    assert "highest lower end" in page
    assert content["chosen"] == max(content["validations"], key=lambda event: event["low"])


def test_the_artifact_decides_as_it_was_learnt(found: tuple[LearntPolicy, Path]) -> None:
    """The scores take another way through `ctrkit.load`: row by row lists, probabilities, and back."""
    _, folder = found
    model = ctrkit.load(folder / "policy.pt")
    log = log_to_learn_from(read_bandit_log(places(300, seed=5)))
    decisions = logged_decisions(log, model.encoder, 1.0, None)
    config = policy_config(model.artifact.policy)
    wanted = probabilities(model.network, decisions, config.temperature)

    def scores(context: pl.DataFrame, candidates: pl.Series) -> np.ndarray:
        p = model.score_candidates(context, candidates).probabilities[model.tasks[0]]
        return np.log(p) - np.log1p(-p)

    policy = config.policy(scores)
    assert isinstance(policy, SoftmaxPolicy)
    given = policy.probabilities(log.table, log.table["candidates"])
    np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_the_artifact_is_a_policy_to_evaluate(found: tuple[LearntPolicy, Path], tmp_path: Path) -> None:
    _, folder = found
    other = evaluate_policy(places(2000, seed=7), folder / "policy.pt", out=tmp_path / "ope")
    assert other.to_dict()["policies"][0]["truth"] > 0.85 * 0.8


@pytest.mark.slow
def test_the_same_seed_gives_the_same_policy_and_few_outcomes_are_said(tmp_path: Path) -> None:
    rare = pl.when(pl.int_range(pl.len()) % 20 == 0).then(1).otherwise(0)
    table, weights = places(1000).with_columns(reward=rare), []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        result = learnt(table, tmp_path / run, "learning.epochs=1", "seed=1")
        weights.append(ctrkit.load(tmp_path / run / "policy.pt").artifact.weights)
        assert any(note.startswith("Only 30 of 600 training rows") for note in result.notes)
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_the_doubly_robust_objective_learns_too(tmp_path: Path) -> None:
    options = [option for option in QUICK if not option.startswith("objective")]
    result = learn_policy(
        places(),
        model=tmp_path / "p.pt",
        out=tmp_path / "run",
        overrides=[*options, "objective.name=dr", "objective.variance_penalty=0.5"],
    )
    policy, _, logging = truths(result)
    assert result.objective == "dr"
    assert policy > 2 * logging


@pytest.mark.slow
def test_learning_goes_on_from_an_artifact(trained: Path, logs: Path, tmp_path: Path) -> None:
    log = read_bandit_log(logs / "bandit.parquet")
    result = learn_policy(
        logs / "bandit.parquet",
        policy=trained,
        model=tmp_path / "p.pt",
        out=tmp_path / "run",
        overrides=["learning.epochs=1", "objective.baselines=[0.0]"],
    )
    before, after = ctrkit.load(trained), ctrkit.load(tmp_path / "p.pt")
    assert after.encoder.state() == before.encoder.state()
    assert after.artifact.config["model"] == before.artifact.config["model"]
    assert not after.calibrators
    assert after.artifact.policy["name"] == "softmax"
    # What is judged first is the artifact's own softmax over its logits.
    valid = rows_of(log, divide(log, SplitConfig(train=0.6, valid=0.2), 0).valid)
    scores = before.score_candidates(valid.table, valid.table["candidates"]).logits
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    policy = odds / odds.sum(axis=1, keepdims=True)
    weights = policy[np.arange(len(valid)), valid.action_index] / valid.propensity
    assert result.learning.events[0]["value"] == pytest.approx(
        weights @ valid.reward / weights.sum(), rel=1e-4
    )


def test_a_log_without_candidates_chooses_among_all_its_actions(tmp_path: Path) -> None:
    table = places(1000).drop(
        "candidates", "candidate_colour", "candidate_price", "logging_probabilities", "true_click_probability"
    )
    result = learnt(table, tmp_path, "learning.epochs=2")
    names = [policy["name"] for policy in result.to_dict()["evaluation"]["policies"]]
    assert len(names) == 2  # the logging policy's probabilities of other actions are not known
    assert names[1] == "uniform"
    model = ctrkit.load(tmp_path / "policy.pt")
    assert sorted(model.encoder.vocabularies["action"]) == ["100", "101", "102", "103", "104"]


def test_features_are_what_was_known_before_the_decision() -> None:
    log = log_to_learn_from(read_bandit_log(places(500).with_columns(age=pl.Series(np.arange(500.0)))))
    spec = derived_features(log)
    assert [one.name for one in spec.categorical] == ["place", "colour", "action"]
    assert [one.name for one in spec.numeric] == ["age", "price"]
    assert spec.candidate is not None
    assert spec.candidate.features == ("colour", "price")


def test_actions_that_were_never_chosen_are_encoded() -> None:
    table = places(500).filter(pl.col("action") != 103)
    log = log_to_learn_from(read_bandit_log(table))
    encoder = fit_encoder(derived_features(log), log)
    assert "103" in encoder.vocabularies["action"]
    decisions = logged_decisions(log, encoder, 2.0, None)
    assert (decisions.candidates.categorical >= 2).all()  # none unknown
    np.testing.assert_array_equal(decisions.lengths, np.full(len(log), 5))
    np.testing.assert_array_equal(decisions.reward, log.reward / 2.0)
    chosen = np.arange(len(log)) * 5 + decisions.logged
    assert decisions.logging is not None
    np.testing.assert_allclose(decisions.logging[chosen], log.propensity)


def test_a_row_counts_for_those_that_were_dropped() -> None:
    table = places(400).with_columns(p_drop=pl.when(pl.col("reward") == 0).then(0.75).otherwise(0.0))
    log = log_to_learn_from(read_bandit_log(table))
    decisions = logged_decisions(log, fit_encoder(derived_features(log), log), 1.0, None)
    assert decisions.count.mean() == pytest.approx(1.0)
    clicked = log.reward == 1
    assert decisions.count[~clicked][0] == pytest.approx(4 * decisions.count[clicked][0])


def test_rows_are_divided_by_time_or_by_user() -> None:
    log = read_bandit_log(places(2000))
    config = SplitConfig(train=0.6, valid=0.2)
    timed = divide(log, config, 0)
    assert (timed.train.max(), timed.valid.max()) == (1199, 1599)
    for by_user in (
        divide(log, config.model_copy(update={"by": "random"}), 0),
        divide(_without_time(log), config, 0),
    ):
        users = [
            set(log.table["user_id"].to_numpy()[rows])
            for rows in (by_user.train, by_user.valid, by_user.test)
        ]
        assert not users[0] & users[1]
        assert not users[1] & users[2]
        assert not users[0] & users[2]
        assert len(by_user.train) == pytest.approx(1200, abs=150)
        assert by_user.by == "user"
    other = divide(_without_time(log), config, 1)
    assert not np.array_equal(other.train, by_user.train)


def _without_time(log: BanditLog) -> BanditLog:
    return read_bandit_log(log.table.drop("timestamp"))


def refused(table: pl.DataFrame, tmp_path: Path, *overrides: str, **given: object) -> str:
    with pytest.raises((DataError, ConfigError, ArtifactError)) as error:
        learnt(table, tmp_path, *overrides, **given)
    assert not list(tmp_path.iterdir())
    return str(error.value)


def test_logs_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    table = places(300).drop("logging_probabilities")
    assert "deterministic policy" in refused(table.with_columns(propensity=1.0), tmp_path)
    assert "every reward is 0" in refused(table.with_columns(reward=0), tmp_path)
    alone = table.drop("candidate_colour", "candidate_price").with_columns(
        candidates=pl.concat_list("action")
    )
    assert "one candidate" in refused(alone, tmp_path)


def test_missing_lists_of_candidates_are_named(tmp_path: Path) -> None:
    spec = ["features.categorical=[{name: place}, {name: action}, {name: size}]",
            "features.candidate={id: action, features: [size]}"]  # fmt: skip
    assert "column 'candidate_size'" in refused(places(300), tmp_path, *spec)
    spec = ["features.categorical=[{name: place}, {name: action}]"]
    assert "the features name no candidate" in refused(places(300), tmp_path, *spec)


def test_an_artifact_keeps_its_own_features(trained: Path, tmp_path: Path) -> None:
    message = refused(places(300), tmp_path, "model.name=dnn", policy=trained)
    assert "key 'model': the artifact to start from has its own" in message


def test_misspelt_settings_name_the_nearest(tmp_path: Path) -> None:
    assert "Did you mean 'variance_penalty'" in refused(places(300), tmp_path, "objective.variance_penalti=1")
    assert "there is no 'snps'" in refused(places(300), tmp_path, "objective.name=snps")


def test_a_row_that_counts_for_several_is_as_many_rows(tmp_path: Path) -> None:
    """One step on all rows at once: where it starts, and how the policies before and after are judged."""
    counts = np.random.default_rng(3).integers(1, 4, 600)
    table = places(600).drop("timestamp").with_columns(user_id=np.arange(600), p_drop=1 - 1 / counts)
    copies = table[np.repeat(np.arange(600), counts)].drop("p_drop")
    settings = ["learning.epochs=1", "learning.batch_size=100000", "split.by=random"]
    events = []
    for name, log in (("counted", table), ("copied", copies)):
        (tmp_path / name).mkdir()
        options = {"model": tmp_path / name / "policy.pt", "out": tmp_path / name / "run"}
        found = learn_policy(log, overrides=settings, **options)  # type: ignore[arg-type]
        events.append([list(event.values()) for event in found.learning.events])
    # Ids go by how often a value is there; here counted and copied rows put them in one order.
    np.testing.assert_allclose(events[0], events[1], rtol=1e-4)


def test_ids_of_a_text_log_that_look_like_numbers_are_those_of_training(tmp_path: Path) -> None:
    """`1.10` and `1.1` are two sizes, of a row and of a candidate, for who learns and for who evaluates."""
    rng = np.random.default_rng(0)
    table = places(400).select(
        size=pl.Series(rng.choice(["1.10", "1.1", "2.50"], 400)),
        action=pl.col("action"),
        propensity=pl.col("propensity"),
        reward=pl.col("reward"),
        candidates=pl.col("candidates").cast(pl.List(pl.String)).list.join("|"),
        candidate_grade=pl.lit("0.50|0.5|1|2|3"),
    )
    table.write_csv(tmp_path / "log.csv")
    (tmp_path / "config.yaml").write_text(
        "features:\n  categorical: [{name: size}, {name: action}, {name: grade}]\n"
        "  labels: {reward: reward}\n"
        "  candidate: {id: action, features: [grade]}\n"
    )
    log, model = str(tmp_path / "log.csv"), str(tmp_path / "policy.pt")
    learn_policy(
        log,
        config=tmp_path / "config.yaml",
        model=model,
        out=tmp_path / "run",
        overrides=["learning.epochs=1", "objective.baselines=[0.2]"],
    )
    learnt = ctrkit.load(model).encoder
    assert set(learnt.vocabularies["size"]) == {"1.10", "1.1", "2.50"}
    assert set(learnt.vocabularies["grade"]) == {"0.50", "0.5", "1", "2", "3"}
    found = evaluate_policy(log, model, out=tmp_path / "ope", overrides=["estimators=[snips]"]).to_dict()
    frame = table.with_columns(
        pl.col("candidates").str.split("|").cast(pl.List(pl.Int64)),
        pl.col("candidate_grade").str.split("|"),
    )
    told = evaluate_policy(frame, model, out=tmp_path / "frame", overrides=["estimators=[snips]"]).to_dict()
    assert found["policies"] == told["policies"]
    assert not any("unknown" in note for note in found["notes"])


def test_ids_that_are_unknown_only_later_in_a_log_are_told(
    found: tuple[LearntPolicy, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrkit.ope.evaluation.parts.BATCH", 100)
    log = places(1000).with_row_index().with_columns(
        place=pl.when(pl.col("index") < 200).then("place").otherwise(pl.concat_str(pl.lit("new_"), "place"))
    )  # fmt: skip
    path = tmp_path / "log.parquet"
    log.drop("index").write_parquet(path, row_group_size=100)
    told = evaluate_policy(
        path, str(found[1] / "policy.pt"), out=tmp_path / "ope", overrides=["estimators=[snips]"]
    )
    (note,) = (note for note in told.to_dict()["notes"] if note.startswith("Column 'place'"))
    assert "80% of the ids are unknown" in note
