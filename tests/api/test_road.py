"""The road on small logs, through the flat functions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.calibration import CalibrationWarning
from ctrkit.data.synthetic import true_value
from ctrkit.errors import ConfigError, DataError
from ctrkit.nn.fusion import OPERATIONS
from ctrkit.policies import UniformPolicy

# Conversions are few in so small a log, and calibration says so.
pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")


def test_training_leaves_a_complete_run_folder(trained: Path) -> None:
    folder = trained.parent / "train"
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.yaml", "events.jsonl", "figures", "metrics.json", "report.html"}
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events == json.loads((folder / "metrics.json").read_text())["validations"]
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert "http-equiv" not in page
    assert "src=" not in page


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    weights, rows = [], pl.read_parquet(logs / "impressions.parquet").head(3000)
    for run, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{run}.pt"
        overrides = [*small, "training.epochs=1", f"seed={seed}", "split.by=time"]
        ctrkit.train(data=rows, model=path, out=tmp_path / str(run), overrides=overrides)
        weights.append(ctrkit.load(path).artifact.weights)
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert any((weights[0][name] != weights[2][name]).any() for name in weights[0])


@pytest.mark.slow
def test_optfusion_searches_derives_and_trains_what_it_found(
    logs: Path, tmp_path: Path, small: tuple[str, ...]
) -> None:
    search = ["model.fusion.name=optfusion", "model.branches=[cross, fields, behaviour]", "training.epochs=1"]
    path, stages = tmp_path / "model.pt", set()
    result = ctrkit.train(
        data=logs / "impressions.parquet",
        model=path,
        out=tmp_path / "run",
        overrides=[*small, *search],
        on_step=lambda done, total, what: stages.add(what.split()[0]),
    )
    fusion = ctrkit.load(path).artifact.config["model"]["fusion"]
    assert result.found["fusion"] == fusion
    assert fusion["connected"]
    assert fusion["operation"] in OPERATIONS
    assert stages == {"choosing", "search,", "fitting", "epoch"}
    assert not list((tmp_path / "run").glob("*.pt"))
    names = ctrkit.load(path).artifact.weights
    assert not any("alpha" in name for name in names)


def test_calibration_is_fitted_on_validation_rows_and_judged_on_test_rows(
    trained: Path, tmp_path: Path
) -> None:
    with pytest.warns(CalibrationWarning, match="^conversion: platt needs 20 positive rows"):
        result = ctrkit.calibrate(
            trained, out=tmp_path / "c", save=tmp_path / "m.pt", overrides=["method=platt"]
        )
    split = ctrkit.load(trained).artifact.data["split"]
    assert result.tasks["click"].choice.rows == split["valid"]
    assert result.tasks["click"].after.summary.rows == split["test"]
    clicked = result.tasks["click"].before.summary.positives
    assert result.tasks["conversion"].before.summary.rows == clicked


def test_another_table_is_divided_and_says_so(trained: Path, logs: Path, tmp_path: Path) -> None:
    from ctrkit.data.synthetic import Market

    other = Market(seed=4, users=300, ads=40, advertisers=8).impressions(3000)
    model = tmp_path / "m.pt"
    result = ctrkit.calibrate(trained, other, save=model, out=tmp_path / "c", overrides=["method=platt"])
    assert "not the training table" in result.notes[0]
    assert result.tasks["click"].choice.rows == pytest.approx(1500, abs=50)
    assert ctrkit.load(model).predict(other)["click"].mean() == pytest.approx(other["click"].mean(), rel=0.3)


def test_a_policys_truth_is_the_markets(trained: Path, logs: Path, tmp_path: Path) -> None:
    log = pl.read_parquet(logs / "bandit.parquet")
    result = ctrkit.evaluate_policy(log, UniformPolicy(), out=tmp_path / "o")
    expected = true_value(log, np.full((log.height, 8), 1 / 8))
    assert result.truth == pytest.approx(expected, rel=1e-6)
    estimates = {e["estimator"]: e for e in result.to_dict()["policies"][0]["estimates"]}
    assert set(estimates) == {"ips", "snips", "dm", "dr"}
    for name in ("ips", "snips", "dr"):
        assert estimates[name]["low"] <= expected <= estimates[name]["high"]


def test_the_truth_of_clicks_is_not_taken_for_that_of_other_rewards(logs: Path, tmp_path: Path) -> None:
    log = pl.read_parquet(logs / "bandit.parquet").with_columns(reward=pl.col("conversion"))
    assert ctrkit.evaluate_policy(log, UniformPolicy(), out=tmp_path / "o").truth is None


@pytest.mark.slow
def test_an_artifacts_policy_is_evaluated_with_its_own_settings(
    trained: Path, logs: Path, tmp_path: Path
) -> None:
    log = logs / "bandit.parquet"
    greedy = ctrkit.evaluate_policy(log, trained, out=tmp_path / "g", overrides=["policy.name=greedy"])
    uniform = ctrkit.evaluate_policy(log, trained, out=tmp_path / "u", overrides=["policy.name=uniform"])
    assert greedy.truth is not None
    assert uniform.truth is not None
    assert greedy.truth > uniform.truth
    assert greedy.evaluation.policies[0].name == "greedy"


def test_a_target_column_needs_no_model(logs: Path, tmp_path: Path) -> None:
    log = pl.read_parquet(logs / "bandit.parquet").with_columns(target_probability=pl.lit(1 / 8))
    by_column = ctrkit.evaluate_policy(log, out=tmp_path / "a").to_dict()["policies"][0]["estimates"]
    by_policy = ctrkit.evaluate_policy(log, UniformPolicy(), out=tmp_path / "b").to_dict()["policies"][0][
        "estimates"
    ]
    for first, second in zip(by_column, by_policy[:2], strict=True):
        assert first["estimator"] == second["estimator"]
        assert first["value"] == pytest.approx(second["value"], rel=1e-9)
    with pytest.raises(ConfigError, match="a policy and a target column"):
        ctrkit.evaluate_policy(log, UniformPolicy(), target_column="target_probability", out=tmp_path / "c")


def test_bidding_keeps_to_the_budget_and_below_the_optimum(trained: Path, logs: Path, tmp_path: Path) -> None:
    result = ctrkit.simulate_bidding(logs / "auctions.parquet", trained, budget=50.0, out=tmp_path / "s")
    content = result.to_dict()
    assert [one["name"] for one in content["strategies"]] == ["truthful", "linear", "dual", "thompson"]
    for one in content["strategies"]:
        assert one["spend"] <= 50.0
        assert 0.0 < one["share_of_optimum"] <= 1.0
        assert one["auctions"] == 3000
    events = pl.read_parquet(tmp_path / "s" / "events.parquet")
    assert events.height == 4 * 3000
    spent = events.filter(pl.col("strategy") == "thompson")["spend"].sum()
    assert spent == pytest.approx(content["strategies"][3]["spend"])


def test_the_value_of_a_click_can_be_given(trained: Path, logs: Path, tmp_path: Path) -> None:
    log = pl.read_parquet(logs / "auctions.parquet")
    clicks = ctrkit.simulate_bidding(
        log, trained, budget=50.0, out=tmp_path / "s", overrides=["value_per_click=2.0", "strategies=[dual]"]
    ).to_dict()["strategies"][0]
    events = pl.read_parquet(tmp_path / "s" / "events.parquet")
    truth = np.stack(log["true_click_probability"].cast(pl.List(pl.Float64)).to_list())
    won = events["won"].to_numpy()
    expected = 2.0 * truth[np.arange(len(truth)), events["ad"].to_numpy()][won].sum()
    assert clicks["value"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_a_replay_of_single_ads_takes_the_models_features(trained: Path, logs: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(logs / "impressions.parquet").with_columns(market_price=pl.lit(0.2))
    content = ctrkit.simulate_bidding(table, trained, budget=50.0, out=tmp_path / "s").to_dict()
    dual = next(one for one in content["strategies"] if one["name"] == "dual")
    assert dual["spend"] <= 50.0
    assert dual["wins"] > 0


def test_summary_gathers_the_runs(trained: Path, logs: Path, tmp_path: Path) -> None:
    shutil.copytree(trained.parent / "train", tmp_path / "train")
    ctrkit.evaluate_policy(logs / "bandit.parquet", trained, out=tmp_path / "ope")
    result = ctrkit.summary(tmp_path, out=tmp_path)
    assert set(result.to_dict()) == {"train", "ope", "report"}
    assert "AUC of click" in result.report().tables[0].rows[0][0]
    assert (tmp_path / "report.html").is_file()
    with pytest.raises(DataError, match="no finished run"):
        ctrkit.summary(tmp_path / "none")


def test_results_speak_json_and_pandas(trained: Path, logs: Path, tmp_path: Path) -> None:
    result = ctrkit.evaluate_policy(logs / "bandit.parquet", trained, out=tmp_path / "ope")
    assert json.loads(result.to_json()) == result.to_dict()
    assert list(result.to_pandas().columns) == ["estimator", "value", "low", "high", "interval"]


@pytest.mark.slow
def test_ten_lines_in_a_notebook_go_the_whole_road(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pl.read_parquet(logs / "impressions.parquet").to_pandas()
    ctrkit.train(data=frame, model="model.pt", overrides=[*small, "training.epochs=1"])
    model = ctrkit.load("model.pt")
    with pytest.raises(DataError, match="trained on a table in memory"):
        ctrkit.calibrate(model)
    ctrkit.calibrate(model, frame, overrides=["method=temperature"])
    assert set(model.calibrators) == {"click", "conversion"}
    assert ctrkit.load("model.pt").calibrators == {}  # a model in memory is saved only where one says
    value = ctrkit.evaluate_policy(logs / "bandit.parquet", model)
    result = ctrkit.simulate_bidding(logs / "auctions.parquet", model, 50)
    assert value.to_pandas().shape[0] >= 5
    assert result.to_pandas()["strategy"].to_list()[-1] == "hindsight optimum"


@pytest.mark.slow
def test_several_policies_are_evaluated_on_one_log(trained: Path, logs: Path, tmp_path: Path) -> None:
    copied = shutil.copy(trained, tmp_path / "copy.pt")
    given = [trained, copied, "uniform", "logging"]
    result = ctrkit.evaluate_policy(logs / "bandit.parquet", given, out=tmp_path / "o")
    content = result.to_dict()["policies"]
    names = [policy["name"] for policy in content]
    assert names[2:] == ["uniform", "logging"]
    assert len(set(names)) == 4
    of_artifact, of_copy, of_uniform, of_logging = (
        {one["estimator"]: one["value"] for one in policy["estimates"]} for policy in content
    )
    assert of_artifact == of_copy
    alone = ctrkit.evaluate_policy(logs / "bandit.parquet", UniformPolicy(), out=tmp_path / "a").to_dict()
    assert of_uniform == {one["estimator"]: one["value"] for one in alone["policies"][0]["estimates"]}
    log = pl.read_parquet(logs / "bandit.parquet")
    assert of_logging["ips"] == pytest.approx(log["reward"].mean())
    assert content[3]["diagnostics"]["max_weight"] == pytest.approx(1)
    ranking = result.to_dict()["ranking"]
    ranked = {one["name"]: one["probability_best"] for one in ranking["policies"]}
    assert sorted(ranked) == sorted(names)
    assert sum(ranked.values()) == pytest.approx(1, abs=1e-6)
    assert len(ranking["differences"]) == 6
    report = result.report()
    assert [row[0] for row in report.tables[0].rows] == names
    kinds = ("estimates", "weights", "timeline", "overlap")
    assert list(result.figures()) == [f"{kind}_{number}" for number in range(1, 5) for kind in kinds]


def test_policies_can_be_named_in_words(logs: Path, tmp_path: Path) -> None:
    actions = list(range(4))
    log = pl.DataFrame(
        {
            "action": np.tile(actions, 500),
            "reward": np.tile([0, 0, 1, 0], 500),
            "propensity": np.full(2000, 0.25),
            "mine": np.full(2000, 0.25),
        }
    )
    result = ctrkit.evaluate_policy(
        log, ["action:2", "column:mine"], out=tmp_path / "o", overrides=["estimators=[ips]"]
    )
    values = {one["name"]: one["estimates"][0]["value"] for one in result.to_dict()["policies"]}
    assert values == {"action:2": pytest.approx(1.0), "mine": pytest.approx(0.25)}
    with pytest.raises(DataError, match="action '9' is not among"):
        ctrkit.evaluate_policy(log, "action:9", out=tmp_path / "o")
    with pytest.raises(ConfigError, match="no policy is given"):
        ctrkit.evaluate_policy(log, [], out=tmp_path / "o")
