from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.terminal import call

CURVES = {
    "campaign": ["a", "a", "a", "b", "b"],
    "spend": [1.0, 2.0, 3.0, 2.0, 4.0],
    "value": [4.0, 6.0, 7.0, 3.0, 5.0],
}


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    pl.DataFrame(CURVES).write_csv(tmp_path / "curves.csv")
    return tmp_path / "curves.csv"


def test_what_people_read_and_what_machines_read(curves: Path, tmp_path: Path) -> None:
    arguments = ("plan-budget", "--budget", "4", "--curves", curves, "--out", tmp_path / "run")
    code, table, _ = call(*arguments)
    assert code == 0
    for words in ("Campaigns", "Plan by hour", "Binding limits", "budget (4)", "plan.csv"):
        assert words in table
    code, out, err = call(*arguments, "--json")
    assert code == 0
    content = json.loads(out)
    assert content["value"] == pytest.approx(9.0)
    assert [one["campaign"] for one in content["campaigns"]] == ["a", "b"]
    assert "Campaigns" in err
    assert call(*arguments, "--quiet") == (0, "", "")


def test_limits_as_options(curves: Path, tmp_path: Path) -> None:
    code, out, err = call(
        "plan-budget", "--budget", "4", "--curves", curves, "--out", tmp_path / "run", "--json",
        "--minimum", "b=3", "--maximum", "a=0.5", "--minimum-share", "b=0.1", "--hour-maximum", "3.5",
        "--evenness", "0.5", "--ramp", "2",
    )  # fmt: skip
    assert code == 0, err
    spends = {one["campaign"]: one["spend"] for one in json.loads(out)["campaigns"]}
    assert spends["b"] >= 3 - 1e-9
    assert spends["a"] <= 0.5 + 1e-9
    assert sum(spends.values()) == pytest.approx(3.5)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "evenness: 0.5" in config


@pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")
def test_bare_it_needs_the_model_of_the_folder(tmp_path: Path) -> None:
    code, _, err = call("plan-budget", "--budget", "100", cwd=tmp_path)
    assert code == 2
    assert "model.pt" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_bare_on_the_sample_log(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(trained.read_bytes())
    code, out, err = call("plan-budget", "--budget", "100", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert content["spend"] == pytest.approx(100.0)
    assert len(content["hours"]) == 24
    assert "The auctions are the sample that ships with ctrkit." in content["notes"]
    assert (tmp_path / "runs" / "plan-budget" / "plan.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "0"), "the budget is 0"),
        (("--budget", "5", "--minimum", "a"), "not of the form CAMPAIGN=AMOUNT"),
        (("--budget", "5", "--minimum", "=3"), "not of the form CAMPAIGN=AMOUNT"),
        (("--budget", "5", "--minimum", "a=3", "--minimum", "b=4"), "at least 7"),
        (("--budget", "5", "--auctions", "none*.parquet"), "both are given"),
        (("--budget", "5", "--set", "fit=cubic"), "there is no 'cubic'"),
    ],
)
def test_wrong_input_is_one_message_and_exit_2(
    arguments: tuple[str, ...], said: str, curves: Path, tmp_path: Path
) -> None:
    code, out, err = call("plan-budget", "--curves", curves, "--out", tmp_path / "run", *arguments)
    assert code == 2
    assert not out
    assert err.count("error:") == 1
    assert said in err
    assert not (tmp_path / "run").exists()
