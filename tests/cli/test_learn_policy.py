from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.terminal import call, sets

QUICK = ("learning.epochs=1", "objective.baselines=[0.0]")


@pytest.mark.slow
def test_a_policy_is_learnt_and_ope_takes_it(logs: Path, tmp_path: Path) -> None:
    log, policy = logs / "bandit.parquet", tmp_path / "policy.pt"
    arguments = ("learn-policy", "--logs", log, "--model", policy, "--out", tmp_path / "run", *sets(QUICK))
    code, out, err = call(*arguments, "--seed", "3", "--json")
    assert code == 0, err
    content = json.loads(out)
    assert content["objective"] == "snips"
    assert "seed: 3" in (tmp_path / "run" / "config.yaml").read_text()
    names = [one["name"] for one in content["evaluation"]["policies"]]
    assert names[0].startswith("policy")
    assert names[1:] == ["uniform", "logging"]
    code, out, err = call("ope", "--logs", log, "--policy", policy, "--out", tmp_path / "ope", "--json")
    assert code == 0, err
    assert json.loads(out)["policies"][0]["diagnostics"]["rows"] == 3000


@pytest.mark.slow
def test_what_people_read(logs: Path, tmp_path: Path) -> None:
    log = logs / "bandit.parquet"
    place = ("--model", tmp_path / "p.pt", "--out", tmp_path / "run")
    code, out, _ = call(
        "learn-policy", "--logs", log, *place, "--set", "learning.epochs=1", "--objective", "ips"
    )
    assert code == 0
    assert "Verdict on p" in out
    assert "Rows: 1,800 to train, 600 to validate, 600 held out, divided by time." in out
    assert "report.html" in out


def test_wrong_input_is_one_message_and_leaves_nothing(logs: Path, tmp_path: Path) -> None:
    place = ("--model", tmp_path / "p.pt", "--out", tmp_path / "run")
    code, out, err = call("learn-policy", "--logs", logs / "impressions.parquet", *place)
    assert code == 2
    assert not out
    assert err.count("error:") == 1
    assert "impressions.parquet" in err
    code, _, err = call("learn-policy", "--logs", logs / "bandit.parquet", "--objective", "poem", *place)
    assert code == 2
    assert "there is no 'poem'" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_sample_log_by_default(tmp_path: Path) -> None:
    quick = sets((*QUICK, "split.train=0.02", "split.valid=0.02"))
    code, out, err = call(
        "learn-policy", "--model", tmp_path / "p.pt", "--out", tmp_path / "run", *quick, "--json"
    )
    assert code == 0, err
    assert "The log is the sample that ships with ctrkit." in json.loads(out)["notes"]
