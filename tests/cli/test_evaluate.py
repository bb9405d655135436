"""`ctrkit evaluate` as a pipeline would call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.terminal import call

FAST = ("--set", "draws=20", "--set", "parts=2", "--set", "figures=false")
pytestmark = pytest.mark.filterwarnings("ignore::ctrkit.evaluation.EvaluationWarning")


def test_bare_it_takes_the_model_of_the_folder_and_its_test_rows(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(trained.read_bytes())
    code, out, err = call("evaluate", "--json", *FAST)
    assert code == 0, err
    content = json.loads(out)
    assert set(content["tasks"]) == {"click", "conversion", "click·conversion"}
    assert content["gates"] == []
    # What people read goes to stderr, the verdict last.
    assert " ".join(content["tasks"]["click"]["verdict"]["sentence"].split()[:6]) in " ".join(err.split())
    assert (tmp_path / "runs" / "evaluate" / "report.html").is_file()


def test_a_broken_gate_exits_1_after_the_report_and_lists_each(trained: Path, tmp_path: Path) -> None:
    config = tmp_path / "gates.yaml"
    config.write_text(
        "draws: 20\nparts: 2\nfigures: false\n"
        "gates: {auc: {minimum: 0.99}, pcoc: {maximum: 99}, conversion/pcoc: {maximum: 0.001}}\n"
    )
    out = tmp_path / "run"
    code, text, err = call(
        "evaluate", trained, "--config", config, "--out", out, "--gate", "--json", "--quiet"
    )
    assert code == 1
    held = {gate["metric"]: gate["held"] for gate in json.loads(text)["gates"]}
    assert held == {"auc": False, "pcoc": True, "conversion/pcoc": False}
    broken = [line for line in err.splitlines() if line.startswith("gate broken: ")]
    assert len(broken) == 2
    assert "below its minimum of 0.99" in broken[0]
    assert "above its maximum of 0.001" in broken[1]
    assert (out / "report.html").is_file()
    assert json.loads((out / "metrics.json").read_text())["gates"][0]["held"] is False


def test_a_gate_without_thresholds_or_on_an_unknown_metric_is_an_error(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for arguments, said in (
        (("--gate",), "there are no gates to hold the model against"),
        (("--set", "gates.pcok.maximum=1", "--gate"), "there is no metric 'pcok'. Did you mean 'pcoc'"),
    ):
        code, text, err = call("evaluate", trained, "--out", out, *arguments)
        assert (code, text) == (2, "")
        assert said in err
    assert not out.exists()
