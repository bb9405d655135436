"""A log is judged by period: as the whole would be, part by part."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.evaluation.measures.EvaluationWarning")


@pytest.fixture(scope="module")
def model(trained: Path) -> ctrkit.Model:
    return ctrkit.load(trained)


@pytest.fixture(scope="module")
def log(logs: Path) -> pl.DataFrame:
    return pl.read_parquet(logs / "impressions.parquet")[-1500:]


def test_periods_are_judged_by_their_own_rows(model: ctrkit.Model, log: pl.DataFrame) -> None:
    found = ctrkit.monitor(log, model=model, by="day")
    predicted = model.predict(log).select(pl.all().name.prefix("p_"))
    days = pl.from_epoch("timestamp").dt.date().alias("day")
    parts = pl.concat([log.with_columns(days), predicted], how="horizontal").sort("day").group_by("day")
    by_day = {str(day): part for (day,), part in parts}
    assert [one.name for one in found.periods] == sorted(by_day)
    for one in found.periods:
        part = by_day[one.name]
        assert one.rows == part.height
        clicked = part.filter(pl.col("click") == 1)
        assert one.known == {"click": part.height, "conversion": clicked.height}
        assert one.predicted["click"] == pytest.approx(part["p_click"].mean())
        pcoc = one.measured["click"].intervals["pcoc"] if clicked.height else None
        if pcoc is not None:
            assert pcoc.value == pytest.approx(part["p_click"].sum() / clicked.height)
        assert one.money.get("clicks", 0) == clicked.height
    assert found.whole.rows == sum(one.rows for one in found.periods) == log.height


def test_what_evaluate_says_of_all_rows_is_said_here(model: ctrkit.Model, log: pl.DataFrame) -> None:
    found, judged = ctrkit.monitor(log, model=model, by="week"), ctrkit.evaluate(model, log, draws=20)
    for task in model.tasks:
        for name, value in found.whole.measured[task].intervals.items():
            assert value == judged.tasks[task].measured.intervals[name], (task, name)
    assert found.whole.drifts == judged.drifts
    assert found.whole.money == judged.business


def test_a_log_that_is_spoilt_breaks_its_gates(model: ctrkit.Model, log: pl.DataFrame) -> None:
    limits = {"psi": {"maximum": 0.25}, "unknown": {"maximum": 0.1}, "pcoc": {"minimum": 0.5, "maximum": 2.0}}
    quiet = ctrkit.monitor(
        log.drop("hour").with_columns(hour=log["hour"].shuffle(seed=1)), model=model, gates=limits
    )
    assert not [one for one in quiet.broken if one.metric != "psi"]
    spoilt = log.with_columns(
        ad_id=pl.col("ad_id") + 100_000, ad_price=pl.col("ad_price") * 10, click=pl.lit(0, pl.Int8)
    )
    spoilt = spoilt.with_columns(click=pl.Series(np.arange(log.height) % 2, dtype=pl.Int8))
    found = ctrkit.monitor(spoilt, model=model, gates=limits, by="week")
    assert {one.metric for one in found.broken} == {"psi", "unknown", "pcoc"}
    few = ctrkit.monitor(spoilt[:300], model=model, gates=limits, by="week")
    assert {one.metric for one in few.gates if one.held} == {"psi", "missing", "unknown"}
    assert "too few" in few.gates[0].reason


@pytest.mark.slow
def test_rows_like_those_of_training_break_no_gate(model: ctrkit.Model, logs: Path) -> None:
    rows = pl.read_parquet(logs / "impressions.parquet")[: 12_000 * 8 // 10]
    gates = {"pcoc": {"minimum": 0.95, "maximum": 1.05}}
    broken = [
        [
            one.metric
            for one in ctrkit.monitor(
                rows.sample(1500, seed=seed), model=model, gates=gates, by="week"
            ).broken
        ]
        for seed in range(40)
    ]
    assert sum(map(bool, broken)) <= 2, broken


def test_drift_is_that_of_the_server(model: ctrkit.Model, log: pl.DataFrame) -> None:
    pytest.importorskip("prometheus_client")
    from ctrkit.serving.http.metrics import Metrics
    from ctrkit.serving.scoring import Scores

    table = log.with_columns(
        ad_price=pl.when(pl.int_range(log.height) % 3 == 0).then(None).otherwise(pl.col("ad_price") * 2),
        device=pl.when(pl.int_range(log.height) % 5 == 0).then(pl.lit("fridge")).otherwise("device"),
    )
    metrics, encoder = Metrics(3600), model.encoder
    encoded = encoder.encode(table, labels=False)
    place = [one.name for one in encoder.spec.categorical].index("device")
    unknown = {"device": int((encoded.categorical[:, place] == 1).sum())}
    missing = {"ad_price": table["ad_price"].null_count()}
    metrics.scored(
        Scores(
            {task: np.full(log.height, 0.5) for task in model.tasks},
            "v",
            "m",
            missing,
            unknown,
            (),
            {},
            encoded.numeric,
        ),
        encoder,
    )
    told = {
        (one.labels["feature"], one.labels["kind"]): one.value
        for family in metrics.families() for one in family.samples if one.name == "ctrkit_drift"
    }  # fmt: skip
    found = ctrkit.monitor(table, model=model, by="week").whole
    for name, shift in found.shift.items():
        assert told[name, "mean"] == pytest.approx(shift, abs=1e-6)
    assert told["ad_price", "missing"] == pytest.approx(found.missing["ad_price"])
    [device] = [one for one in found.unknown if one.column == "device"]
    assert told["device", "unknown"] == pytest.approx(
        device.evaluated - encoder.usual_unknown.get("device", 0.0)
    )


def test_without_labels_drift_and_predictions_are_told(model: ctrkit.Model, log: pl.DataFrame) -> None:
    found = ctrkit.monitor(log.drop("click", "conversion"), model=model, by="week")
    whole = ctrkit.monitor(log, model=model, by="week").whole
    assert found.whole.predicted == whole.predicted
    assert not found.whole.measured
    assert not found.whole.money
    drifts = {one.column: one for one in whole.drifts or ()}
    assert all(one == drifts[one.column] for one in found.whole.drifts or ())
    assert {one.metric for one in found.gates} == {"psi", "missing", "unknown"}
    assert any("no labels" in note for note in found.notes)


def test_what_was_served_is_compared(model: ctrkit.Model, log: pl.DataFrame) -> None:
    served = model.predict(log)["click"].to_numpy().copy()
    served[7] += 0.25
    table = log.with_columns(served_click=pl.Series(served).set(pl.Series(np.arange(len(served)) == 3), None))
    found = ctrkit.monitor(table, model=model, gates={"skew": {"maximum": 0.1}}, by="week")
    skew = found.whole.skew["click"]
    assert (skew.rows, skew.largest) == (log.height - 1, pytest.approx(0.25))
    assert skew.mean == pytest.approx(0.25 / (log.height - 1))
    assert "skew" in {one.metric for one in found.broken}


def test_segments_and_logs_without_times(model: ctrkit.Model, log: pl.DataFrame) -> None:
    found = ctrkit.monitor(log, model=model, segment="device", by="week")
    counts = dict(log["device"].value_counts().iter_rows())
    assert {one.name: one.rows for one in found.segments} == counts
    with pytest.raises(DataError, match="devise"):
        ctrkit.monitor(log, model=model, segment="devise")
    with pytest.raises(ConfigError, match="pcocc"):
        ctrkit.monitor(log, model=model, gates={"pcocc": {"minimum": 1}})
    spread = log.with_columns(pl.col("timestamp") - 3600 * pl.int_range(log.height))
    with pytest.raises(DataError, match="periods of one hour"):
        ctrkit.monitor(spread, model=model, by="hour")
    assert 2 <= len(ctrkit.monitor(spread[:100], model=model).periods) <= 30  # days


def test_the_command_ends_with_1_where_a_gate_breaks(
    trained: Path, log: pl.DataFrame, tmp_path: Path
) -> None:
    log.write_parquet(tmp_path / "log.parquet")
    line = [
        "monitor",
        str(tmp_path / "log.parquet"),
        "--model",
        str(trained),
        "--out",
        str(tmp_path / "run"),
        "--json",
    ]
    gates = ["--gate", "--set", "gates.psi.maximum=100", "--set", "gates.log_loss.maximum=0"]
    ended = CliRunner().invoke(app, [*line, *gates])
    assert ended.exit_code == 1
    held = {one["metric"]: one["held"] for one in json.loads(ended.stdout)["gates"]}
    assert (held["psi"], held["log_loss"]) == (True, False)
    assert (tmp_path / "run" / "report.html").exists()
