"""A name in a config that no column, feature or setting has is refused, with the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.terminal import call

CONFIGS = Path(__file__).parents[2] / "configs"
# A key of a training config with a misspelt name -> the right one.
TRAINING = {
    "features.group=userid": "user_id",
    "features.timestamp=timestmp": "timestamp",
    "features.weight=ad_prize": "ad_price",
    "features.candidate.id=adid": "ad_id",
    "features.candidate.features=[ad_categry]": "ad_category",
    "features.profile=[devise]": "device",
    "features.target=[ad_idd]": "ad_id",
    "features.labels={click: clik}": "click",
    "features.categorical=[{name: devise}]": "device",
    "features.numeric=[{name: user_agee}]": "user_age",
    "features.sequences=[{name: history_add}]": "history_ads",
    "features.sequences=[{name: history_ads, shares: adid}]": "ad_id",
}
# What a spec of one's own drops of the sample's, so that no other name in it is at fault.
ALONE = ("features.profile=[]", "features.sequences=[]", "features.candidate=null")
OPE = {
    "cluster_by=userid": "user_id",
    "segments=[devise]": "device",
    "outcomes=[conversions]": "conversion",
    "action_feature=ad_categry": "candidate_ad_category",
    "context_columns=[devise]": "device",
    "estimators=[snipss]": "snips",
    "interval=beting": "betting",
}
MODEL = {
    "calibrate": {"field=devise": "device", "method=isotonc": "isotonic"},
    "evaluate": {
        "fields=[devise]": "device",
        "columns={revenue: valu}": "value",
        "columns={revenu: value}": "revenue",
        "gates={aucc: {minimum: 0.5}}": "auc",
    },
    "explain": {"features=[devise]": "device", "map_of=devise": "device", "task=clik": "click"},
}


def complaint(*arguments: str | Path, cwd: Path) -> str:
    """The message of a refused call."""
    code, out, err = call(*arguments, cwd=cwd)
    assert code == 2, (out, err)
    return next(line for line in err.splitlines() if line.startswith("error: "))


@pytest.mark.parametrize("wrong", TRAINING)
def test_names_of_a_feature_spec(wrong: str, logs: Path, tmp_path: Path) -> None:
    key = wrong.partition("=")[0]
    own = [one for one in ALONE if not one.startswith(key) and not key.startswith(one.partition("=")[0])]
    fewer = own if key in ("features.categorical", "features.numeric") else []
    sets = [part for override in (*fewer, wrong) for part in ("--set", override)]
    message = complaint("train", logs / "impressions.parquet", *sets, cwd=tmp_path)
    assert f"Did you mean '{TRAINING[wrong]}'" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", OPE)
def test_names_of_an_evaluation_of_policies(wrong: str, logs: Path, tmp_path: Path) -> None:
    arguments = ("ope", "--logs", logs / "bandit.parquet", "--policy", "uniform")
    message = complaint(*arguments, "--set", wrong, cwd=tmp_path)
    assert f"Did you mean '{OPE[wrong]}'" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "wrong"), [(c, wrong) for c, names in MODEL.items() for wrong in names])
def test_names_of_what_is_asked_of_a_model(
    command: str, wrong: str, trained: Path, logs: Path, tmp_path: Path
) -> None:
    arguments = (command, trained, logs / "impressions.parquet", "--set", wrong)
    assert f"Did you mean '{MODEL[command][wrong]}'" in complaint(*arguments, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "own"),
    [
        ("features.labels={click: conversion}", "reward"),
        ("features.group=device", "user_id"),
        ("features.timestamp=hour", "timestamp"),
        ("features.weight=value", "p_drop"),
    ],
)
def test_roles_that_a_bandit_log_has_columns_for_are_refused(
    wrong: str, own: str, logs: Path, tmp_path: Path
) -> None:
    arguments = ("learn-policy", "--logs", logs / "bandit.parquet", "--config", CONFIGS / "learn_policy.yaml")
    message = complaint(*arguments, "--set", wrong, cwd=tmp_path)
    assert f"of a bandit log it is the column '{own}'" in message
    assert list(tmp_path.iterdir()) == []
