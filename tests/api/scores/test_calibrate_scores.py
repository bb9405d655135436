"""Calibrators of a table of scores: as of a model, kept as JSON, applied to other tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import ctrkit
from ctrkit.api.models.task_calibrators import TaskCalibrator
from ctrkit.calibration import CALIBRATORS, EntireSpaceCalibration, PlattScaling, logits_of
from ctrkit.cli import app
from ctrkit.errors import ArtifactError, ConfigError, DataError

pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")


def table(rows: int = 6000) -> pl.DataFrame:
    """Clicks, and probabilities about twice too high."""
    random = np.random.default_rng(0)
    p = random.beta(1, 9, rows)
    click = random.random(rows) < p
    return pl.DataFrame(
        {
            "id": [f"{number:05d}" for number in range(rows)],
            "uid": random.integers(0, 500, rows),
            "device": random.choice(["phone", "desktop", None], rows),
            "label": click.astype(np.int64),
            "score": 1 - (1 - p) ** 2,
            "conversion": (click & (random.random(rows) < 0.3)).astype(np.int64),
            "pcvr": np.clip(random.normal(0.3, 0.05, rows), 0.01, 0.9),
        }
    )


TABLE = table()


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_calibrator_of_any_kind_is_the_same_after_its_file(name: str, tmp_path: Path) -> None:
    kind = CALIBRATORS[name]
    y, p, device = TABLE["label"].to_numpy(), TABLE["score"], TABLE["device"]
    values, numbers = ctrkit.ScoreCalibrator.numbered(device)
    made = kind(0.1) if name == "downsampling" else kind()  # type: ignore[call-arg]
    fitted = made.fit(logits_of(p), y, segments=numbers)
    held = {"click": TaskCalibrator(fitted, "device" if fitted.uses_segments else None)}
    calibrator = ctrkit.ScoreCalibrator(held, "device", values)
    again = ctrkit.ScoreCalibrator.load(calibrator.save(tmp_path / "c.json"))
    np.testing.assert_array_equal(again(p, device), calibrator(p, device))
    np.testing.assert_array_equal(again(p, device), fitted(logits_of(p), numbers))


def test_the_calibrators_are_those_of_the_model_on_the_same_rows(
    trained: Path, logs: Path, tmp_path: Path
) -> None:
    copied = shutil.copy(trained, tmp_path / "model.pt")
    model = ctrkit.load(copied)
    _, held_out = model.artifact.data["split"]["boundaries"]
    # Rows that training has seen would be left out for the model, and cannot be known for scores.
    rows = pl.read_parquet(logs / "impressions.parquet").filter(pl.col("timestamp") >= held_out)
    model.set_calibrators({})
    predicted = model.predict(rows).rename({"click": "pctr", "conversion": "pcvr"})
    own = rows.select("user_id", "timestamp", "click", "conversion")
    pl.concat([own, predicted], how="horizontal").write_csv(tmp_path / "scores.csv")
    settings: dict[str, Any] = {"method": "platt", "conversion": "entire_space"}
    theirs = ctrkit.calibrate(model, rows, **settings)
    ours = ctrkit.calibrate(scores=tmp_path / "scores.csv", **settings)
    for task, one in theirs.tasks.items():
        found = ours.tasks[task]
        assert found.choice.method == one.choice.method
        lines = [{**which.choice.calibrator.state(), "name": 0.0} for which in (found, one)]
        assert lines[0] == pytest.approx(lines[1], rel=1e-6)
        assert found.after.summary.ece == pytest.approx(one.after.summary.ece, rel=1e-6)
    assert ours.calibrator is not None
    after = ours.calibrator.of_tasks({"click": predicted["pctr"], "conversion": predicted["pcvr"]})
    expected = model.predict(rows)
    for task in ("click", "conversion"):
        np.testing.assert_allclose(after[task], expected[task].to_numpy(), rtol=1e-5)


def test_arrays_with_weights_are_calibrated_as_by_scikit_learn() -> None:
    y, p = TABLE["label"].to_numpy(), TABLE["score"].to_numpy()
    weight = np.random.default_rng(1).choice([0.5, 2.0], len(y))
    found = ctrkit.calibrate_scores(y, p, weight=weight, method="platt")
    peer = LogisticRegression(C=1e12, tol=1e-10).fit(logits_of(p)[:, None], y, sample_weight=weight)
    np.testing.assert_allclose(found(p), peer.predict_proba(logits_of(p)[:, None])[:, 1], rtol=1e-4)
    with pytest.raises(DataError, match=r"argument `probabilities`, row index 0: .* must be in "):
        ctrkit.calibrate_scores(y, p + 1)
    by_field = ctrkit.calibrate_scores(y, p, segments=TABLE["device"], method="field-aware")
    with pytest.raises(DataError, match=r"argument `segments`: .* no values of it are given"):
        by_field(p)
    strange = by_field(p[:2], ["watch", None])
    assert np.isfinite(strange).all()


def test_rows_are_divided_by_time_or_by_user(tmp_path: Path) -> None:
    by_user = ctrkit.calibrate(scores=TABLE, method="platt", save=tmp_path / "c.json")
    told = by_user.notes[0]
    assert "rows of random users, and judged on the" in told
    timed = ctrkit.calibrate(scores=TABLE.with_columns(ts=pl.int_range(pl.len())), method="platt")
    assert timed.notes[0].startswith("Calibrators were fitted on the first 3,000 rows by time")
    choice = timed.tasks["click"].choice
    expected = PlattScaling().fit(logits_of(TABLE["score"][:3000]), TABLE["label"][:3000])
    assert choice.calibrator.state() == expected.state()
    before, after = (getattr(by_user.tasks["click"], part).summary.pcoc for part in ("before", "after"))
    assert before.value > 1.6
    assert 0.8 < after.value < 1.2


def test_it_is_applied_beside_the_columns_of_a_table_whose_cells_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, new, to = (tmp_path / name for name in ("s.csv", "new.csv", "cal.json"))
    TABLE.write_csv(file)
    TABLE[:50].drop("label", "conversion", "pcvr").write_csv(new)
    line = ["calibrate", "--scores", file, "--out", to, "--apply", new, "--set", "method=field-aware"]
    arguments = [*line, "--field", "device", "--json", "--quiet"]
    ran = CliRunner().invoke(app, [str(one) for one in arguments])
    assert ran.exit_code == 0, ran.stderr
    content = json.loads(ran.stdout)
    assert content["calibrator"] == str(to)
    assert Path("runs/calibrate/report.html").is_file()
    again = CliRunner().invoke(
        app, ["calibrate", "--calibrator", str(to), "--apply", str(new), "--to", "o.csv", "--quiet"]
    )
    assert again.exit_code == 0, again.stderr
    assert Path("o.csv").read_text() == (tmp_path / "new.calibrated.csv").read_text()
    written = pl.read_csv(tmp_path / "new.calibrated.csv", infer_schema=False)
    assert written["id"].to_list() == TABLE["id"][:50].to_list()
    calibrator = ctrkit.ScoreCalibrator.load(to)
    expected = calibrator(TABLE["score"][:50], TABLE["device"][:50])
    np.testing.assert_array_equal(written["calibrated_score"].cast(pl.Float64).to_numpy(), expected)
    with pytest.raises(DataError, match="column 'calibrated_score': the table has this column already"):
        ctrkit.calibrate(calibrator=to, apply=tmp_path / "new.calibrated.csv")
    with pytest.raises(DataError, match="column 'device': the column is missing"):
        ctrkit.calibrate(calibrator=to, apply=TABLE.drop("device"), to=tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


def test_a_file_that_is_no_calibrator_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    joint = {
        "conversion": TaskCalibrator(EntireSpaceCalibration(PlattScaling().fit([0.0, 1, 2, 3], [0, 1, 0, 1])))
    }
    ctrkit.ScoreCalibrator(joint).save(file)
    with pytest.raises(DataError, match="is for all impressions and needs the probability of a click"):
        ctrkit.ScoreCalibrator.load(file)([0.5])
    content = json.loads(file.read_text())
    for changed, said in (
        ({"mark": "other"}, "this is JSON, not a file of calibrators"),
        ({"format": 2}, "format 2, and this ctrkit reads format 1"),
        ({"tasks": {"conversion": {"name": "plat"}}}, "damaged .*Did you mean 'platt'"),
        ({"tasks": {}}, "damaged .its tasks are none"),
    ):
        file.write_text(json.dumps({**content, **changed}))
        with pytest.raises(ArtifactError, match=said):
            ctrkit.ScoreCalibrator.load(file)
    with pytest.raises(ConfigError, match="no table to apply the calibrator to"):
        ctrkit.calibrate(calibrator=file)
    with pytest.raises(ArtifactError, match="no such calibrator"):
        ctrkit.ScoreCalibrator.load(tmp_path / "none.json")
