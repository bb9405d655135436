"""`ctrkit explain` as a person or a script would call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctrkit.cli import app
from tests.terminal import call

QUICK = ("rows=300", "attributed_rows=10", "repeats=2", "grid=4", "dependence_rows=20", "top=2")
SETS = [part for setting in QUICK for part in ("--set", setting)]


def test_help_names_the_options() -> None:
    result = CliRunner().invoke(app, ["explain", "--help"], env={"COLUMNS": "160"})
    assert result.exit_code == 0
    for option in ("--row", "--method", "--task", "--feature", "--json", "--quiet", "--debug", "--seed"):
        assert option in result.stdout


def test_a_model_as_a_whole_in_json_and_in_tables(trained: Path, logs: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    data = logs / "impressions.parquet"
    code, out, err = call(
        "explain", trained, data, "--feature", "user_age", "--out", tmp_path / "e", "--json", *SETS
    )
    assert code == 0, err
    content = json.loads(out)
    assert [one["feature"] for one in content["partial_dependence"]] == ["user_age"]
    for one in content["importance"]:
        assert f"{one['auc']['value']:.4g}" in err
        assert one["feature"] in err
    assert content["attributions"]["method"] == "ig"
    assert (tmp_path / "e" / "report.html").is_file()


def test_rows_in_json_and_in_tables(trained: Path, logs: Path, tmp_path: Path) -> None:
    pytest.importorskip("captum")
    data = logs / "impressions.parquet"
    code, out, err = call(
        "explain", trained, data, "--row", "3", "--row", "40", "--out", tmp_path / "e", "--json"
    )
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["row"] for row in rows] == [3, 40]
    for row in rows:
        assert f"Row {row['row']}: contributions to the probability of click" in err
        assert f"{100 * row['probability']:.3g}%" in err
        assert f"{row['contributions'][0]['logit']:+.4g}" in err


def test_bad_input_ends_with_one_message_and_nothing_written(
    trained: Path, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = logs / "impressions.parquet", tmp_path / "e"
    for arguments, said in {
        (data, "--row", "99999"): f"{data}: there is no row 99999. The table has 12,000 rows",
        (data, "--feature", "user_aeg"): "Did you mean 'user_age'",
        (data, "--method", "saph"): "Did you mean 'shap'",
        (data, "--set", "permutation=3"): "Did you mean 'permutations'",
        (tmp_path / "none.parquet",): "no such file",
    }.items():
        code, stdout, err = call("explain", trained, *arguments, "--out", out)
        assert (code, stdout) == (2, "")
        assert said in err
        assert "Traceback" not in err
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    code, _, err = call("explain", trained, data, "--row", "3", "--out", out)
    assert code == 2
    assert "pip install 'ctrkit[explain]'" in err
    assert not out.exists()


def test_the_command_is_known_without_loading_what_explains() -> None:
    heavy = "{'torch', 'captum', 'shap', 'openTSNE', 'umap', 'polars'}"
    code = f"import sys, ctrkit.cli, ctrkit; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONWARNINGS": "error"})
