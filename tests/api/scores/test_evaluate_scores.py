"""A table of scores is judged as a model's rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from typer.testing import CliRunner

import ctrkit
from ctrkit.api.evaluation.result import EvaluationResult
from ctrkit.cli import app
from ctrkit.errors import ConfigError, DataError

FAST = {"draws": 20, "parts": 2, "figures": False}
pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning")
# Rules that need a model or its training rows.
OF_MODELS = ("drift", "unknown items", "leak")


def table(rows: int = 2000, seed: int = 0) -> pl.DataFrame:
    """Labels and the probabilities that they were drawn with."""
    random = np.random.default_rng(seed)
    p = random.beta(1, 6, rows)
    return pl.DataFrame(
        {
            "user_id": random.integers(0, 300, rows),
            "device": random.choice(["phone", "desktop"], rows),
            "click": (random.random(rows) < p).astype(np.int64),
            "pctr": p,
            "weight": random.choice([0.5, 1.0, 3.0], rows),
        }
    )


TABLE = table()


def values(result: EvaluationResult, task: str = "click") -> dict[str, float]:
    found = result.tasks[task].measured.intervals
    return {name: one.value for name, one in found.items() if one is not None}


def test_a_models_predictions_in_a_file_are_judged_like_the_model(
    trained: Path, logs: Path, tmp_path: Path
) -> None:
    model, rows = ctrkit.load(trained), pl.read_parquet(logs / "impressions.parquet")[-1200:]
    predicted = model.predict(rows).rename({"click": "pctr", "conversion": "pcvr"})
    own = rows.select("user_id", "click", "conversion", "device", "placement")
    file = tmp_path / "scores.csv"
    pl.concat([own, predicted], how="horizontal").write_csv(file)
    fields = ["device", "placement"]
    of_model = ctrkit.evaluate(model, rows, segments=fields, **FAST)
    of_scores = ctrkit.evaluate(scores=file, segments=fields, **FAST)
    assert list(of_scores.tasks) == ["click", "conversion", "click·conversion"]
    for task, theirs in of_model.tasks.items():
        ours = of_scores.tasks[task]
        assert (ours.rows, ours.positives) == (theirs.rows, theirs.positives)
        for name, one in theirs.measured.intervals.items():
            other = ours.measured.intervals[name]
            if one is None or other is None:
                assert one is other
                continue
            for end in ("value", "low", "high"):
                assert getattr(other, end) == pytest.approx(getattr(one, end), rel=1e-9, abs=1e-12), name
        assert {name: vars(one)["ece"] for name, one in ours.fields.items()} == pytest.approx(
            {name: vars(one)["ece"] for name, one in theirs.fields.items()}
        )
        kept = [one for one in theirs.verdict.findings if one.rule not in OF_MODELS]
        assert list(ours.verdict.findings) == kept
    assert of_scores.business == of_model.business


def test_metrics_are_those_of_scikit_learn_with_weights() -> None:
    y, p, w = (TABLE[name].to_numpy() for name in ("click", "pctr", "weight"))
    found = values(ctrkit.evaluate(scores=TABLE, **FAST))
    assert found["auc"] == pytest.approx(roc_auc_score(y, p, sample_weight=w))
    assert found["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=w))
    assert found["brier"] == pytest.approx(brier_score_loss(y, p, sample_weight=w))


def test_columns_are_found_by_alias_and_by_name_and_logits_are_mapped() -> None:
    expected = values(ctrkit.evaluate(scores=TABLE, **FAST))
    p = pl.col("pctr")
    own = TABLE.select(
        pl.col("click").alias("tapped"),
        (p / (1 - p)).log().alias("z"),
        pl.lit(0.5).alias("score"),
        pl.col("user_id").alias("uid"),
        pl.col("weight").alias("importance"),
    )
    named = ctrkit.evaluate(
        scores=own, label="tapped", probability="z", weight="importance", logits=True, **FAST
    )
    assert values(named) == pytest.approx(expected, rel=1e-9)
    told = "Columns read: click from 'tapped', pctr from 'z', weight from 'importance', user_id from 'uid'."
    assert told in named.notes
    mapped = ctrkit.evaluate(scores=own, map="click=tapped,pctr=z,weight=importance", logits=True, **FAST)
    assert mapped.tasks["click"].to_dict() == named.tasks["click"].to_dict()


def test_a_second_table_or_column_is_compared_on_the_same_rows() -> None:
    worse = TABLE.with_columns(other=1 - (1 - pl.col("pctr")) ** 3).sample(fraction=1, seed=1, shuffle=True)
    column = ctrkit.evaluate(scores=worse, against="other", **FAST)
    beside = ctrkit.evaluate(scores=worse, against=worse.select("click", pctr="other"), **FAST)
    assert column.tasks["click"].to_dict() == beside.tasks["click"].to_dict()
    table = column.report().tables[0]
    assert table.title.startswith("click: two sets of scores on")
    assert table.header[1:3] == ("these scores", "other scores")
    found = column.tasks["click"].differences["log_loss"]
    assert found is not None
    y, w = worse["click"].to_numpy(), worse["weight"].to_numpy()
    losses = [log_loss(y, worse[name].to_numpy(), sample_weight=w) for name in ("pctr", "other")]
    assert found.interval.value == pytest.approx(losses[0] - losses[1])
    with pytest.raises(DataError, match="1,999 rows, and 2,000 in the table to compare with"):
        ctrkit.evaluate(scores=TABLE, against=TABLE[1:], **FAST)
    with pytest.raises(DataError, match=r"column 'click', row index \d+: .* Give the same rows"):
        ctrkit.evaluate(scores=TABLE, against=TABLE.reverse(), **FAST)


FAULTS: tuple[tuple[pl.DataFrame, dict[str, Any], str], ...] = (
    (
        TABLE.with_columns(pctr=pl.col("pctr") * 9),
        {},
        r"s.csv, column 'pctr', row index \d+: .* is above 1, so it is not a prob.* If these are logits",
    ),
    (
        TABLE.select("click", score=-pl.col("pctr")),
        {},
        r"column 'score', row index 0: -.* is below 0, so it is not a probability",
    ),
    (
        TABLE.with_columns(pctr=pl.when(pl.int_range(pl.len()) == 7).then(None).otherwise("pctr")),
        {},
        r"column 'pctr', row index 7: the value is missing",
    ),
    (
        TABLE.with_columns(pctr=pl.when(pl.int_range(pl.len()) == 7).then(np.nan).otherwise("pctr")),
        {},
        r"column 'pctr', row index 7: nan is not a finite number",
    ),
    (
        TABLE.with_columns(clicked=pl.col("click") * 2).drop("click"),
        {},
        r"column 'clicked', row index \d+: 2 is neither 0 nor 1",
    ),
    (TABLE.with_columns(click=0), {}, r"s.csv, column 'click': .*"),
    (
        TABLE.with_columns(y=0),
        {},
        r"column 'click': this column and 'y' may both hold .* Name the one",
    ),
    (TABLE.drop("pctr"), {}, r"no column is known as the predicted probability of a click .* with `probabi"),
    (TABLE, {"probability": "ptcr"}, r"column 'ptcr': no such column.* Did you mean 'pctr'"),
    (TABLE, {"segments": ["devise"]}, r"column 'devise': the column is missing. Did you mean 'device'"),
)


@pytest.mark.parametrize(("faulty", "settings", "said"), FAULTS)
def test_a_fault_is_one_error_with_file_column_row_and_mend(
    faulty: pl.DataFrame, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "s.csv"
    faulty.write_csv(file)
    with pytest.raises(DataError, match=said):
        ctrkit.evaluate(scores=file, **settings, **FAST)


def test_what_is_said_of_scores_needs_scores(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="label is for a table of scores, and none is given"):
        ctrkit.evaluate("model.pt", label="click")
    with pytest.raises(ConfigError, match="seeds train models again"):
        ctrkit.evaluate(scores=TABLE, seeds=3)
    TABLE.write_csv(tmp_path / "s.csv")
    told = CliRunner().invoke(app, ["evaluate", str(tmp_path / "s.csv")])
    assert told.exit_code == 2
    assert "this is a CSV table, not a ctrkit artifact" in told.stderr
    assert "labels and probabilities with --scores" in told.stderr


def test_a_conversion_alone_is_a_task_of_its_name() -> None:
    own = TABLE.select("user_id", conversion="click", pcvr="pctr")
    assert list(ctrkit.evaluate(scores=own, **FAST).tasks) == ["conversion"]
    named = TABLE.select("user_id", "pctr", conversion="click")
    result = ctrkit.evaluate(scores=named, label="conversion", probability="pctr", **FAST)
    assert list(result.tasks) == ["conversion"]
