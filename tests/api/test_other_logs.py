"""Logs of pages, of several loggers, of outcomes and of actions' features, from files through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.api.evaluate_policy import evaluate_policy
from ctrkit.api.policies.value import PolicyValue
from ctrkit.errors import DataError
from ctrkit.ope import log_parts, read_bandit_log
from ctrkit.ope.estimators.rows import Models, evaluated_rows
from ctrkit.ope.structured.action_feature_log import FeatureEstimators
from ctrkit.ope.structured.logging_policy_log import LoggingPolicyLog
from ctrkit.ope.structured.outcome_log import OutcomeLog
from ctrkit.ope.structured.slate_log import SlateLog
from ctrkit.policies import UniformPolicy

ROWS = 2400
QUICK = ["estimators=[ips]"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.ope.evaluation.parts.BATCH", 170)
    monkeypatch.setattr("ctrkit.ope.evaluation.parts.PART", 900)


def base(seed: int, users: bool) -> pl.DataFrame:
    """Four ads of two brands, of which brand 1 earns twice as much; the new policy leans to it."""
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.ones(4), size=ROWS) * 0.8 + 0.05
    action = (rng.random((ROWS, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=3)
    at = np.arange(ROWS), action
    click = rng.random(ROWS) < np.array([0.1, 0.1, 0.2, 0.2])[action]
    conversion = click & (rng.random(ROWS) < 0.4)
    table = pl.DataFrame(
        {
            "action": action,
            "propensity": logging[at],
            "reward": click.astype(float),
            "click": click.astype(float),
            "conversion": conversion.astype(float),
            "value": np.where(conversion, rng.gamma(2, 10, ROWS), 0.0),
            "cost": np.where(click, rng.uniform(0.5, 1.5, ROWS), 0.0),
            "candidates": [[0, 1, 2, 3]] * ROWS,
            "logging_probabilities": logging.tolist(),
            "candidate_brand": [[0, 0, 1, 1]] * ROWS,
            "target_probability": np.array([0.1, 0.1, 0.4, 0.4])[action],
        }
    )
    return table.with_columns(user_id=pl.Series(rng.integers(0, 300, ROWS))) if users else table


def pages(users: bool) -> pl.DataFrame:
    """Two or three slots a page; batches and files end within pages."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(2, 4, ROWS)
    table = base(5, False).with_columns(
        slate_id=pl.Series(np.repeat(np.arange(ROWS), lengths)[:ROWS]),
        position=pl.Series(np.concatenate([np.arange(1, one + 1) for one in lengths])[:ROWS]),
    )
    return table.with_columns(user_id=pl.col("slate_id") % 97) if users else table


def loggers(users: bool) -> pl.DataFrame:
    rng = np.random.default_rng(6)
    other = rng.uniform(0.05, 0.9, ROWS)
    logger = pl.Series(rng.integers(0, 2, ROWS))
    own = base(6, users).with_columns(logger_id=logger, other=pl.Series(other))
    lists = pl.when(pl.col("logger_id") == 0).then(pl.concat_list("propensity", "other"))
    return own.with_columns(logger_probabilities=lists.otherwise(pl.concat_list("other", "propensity"))).drop(
        "other"
    )


KINDS: dict[str, Any] = {
    "Value of a page": (pages, {}),
    "Several logging policies": (loggers, {}),
    "Outcomes": (lambda users: base(7, users), {"outcomes": "[click,conversion,value,cost]"}),
    "By the action's brand": (lambda users: base(8, users), {"action_feature": "brand"}),
}


def write(folder: Path, table: pl.DataFrame) -> list[str]:
    """Two files of row groups of 250."""
    folder.mkdir()
    names = []
    for number, part in enumerate(table.iter_slices(ROWS // 2 + 1)):
        names.append(str(folder / f"{number}.parquet"))
        part.write_parquet(names[-1], row_group_size=250)
    return names


def group(found: PolicyValue | dict[str, Any], title: str, policy: int = 0) -> dict[str, Any]:
    content = found if isinstance(found, dict) else found.to_dict()
    (one,) = [one for one in content["policies"][policy]["groups"] if one["title"] == title]
    return dict(one)


def close(one: Any, two: Any) -> None:
    """Equal to rounding, all through."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            close(one[key], two[key])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for mine, theirs in zip(one, two, strict=True):
            close(mine, theirs)
    elif isinstance(one, float):
        assert one == pytest.approx(two, rel=1e-8, abs=1e-12)
    else:
        assert one == two


@pytest.mark.parametrize("users", [False, True])
@pytest.mark.parametrize("title", KINDS)
def test_files_in_batches_are_the_whole(tmp_path: Path, small: None, title: str, users: bool) -> None:
    draw, options = KINDS[title]
    table = draw(users)
    overrides = [*QUICK, *(f"{key}={value}" for key, value in options.items())]
    files = write(tmp_path / "log", table)
    parts = log_parts(files)
    assert len(parts) == 4
    assert max(len(batch) for part in parts for batch in part.batches()) <= 170
    policies = ["uniform", "column:target_probability"]
    cut = evaluate_policy(files, policies, overrides=overrides)
    whole = evaluate_policy(table, policies, overrides=overrides)
    found = group(cut, title)
    close(found, group(whole, title))
    if title != "By the action's brand":
        close(group(cut, title, 1), group(whole, title, 1))
    assert found["estimates"]
    # Each has its meaning, and the logging policy's own value, from which it differs by the difference.
    of_name = {one["estimator"]: one["value"] for one in found["logging"]}
    for one in found["estimates"]:
        assert one["meaning"]
        assert one["low"] <= one["value"] <= one["high"]
        own = of_name.get(one["estimator"], next(iter(of_name.values())))
        assert one["value"] - one["difference"]["value"] == pytest.approx(own, rel=1e-9)
        assert ("clustered" in one["interval"]) is users
    for one in found["logging"]:
        assert one["low"] <= one["value"] <= one["high"]


@pytest.mark.parametrize("title", KINDS)
def test_tables_and_json_of_the_run(tmp_path: Path, title: str) -> None:
    draw, options = KINDS[title]
    overrides = [*QUICK, *(f"{key}={value}" for key, value in options.items())]
    found = evaluate_policy(draw(False), "uniform", out=tmp_path, overrides=overrides)
    estimates = group(found, title)["estimates"]
    (shown,) = (one for one in found.report().tables if one.title == f"{title} under uniform")
    assert [row[0] for row in shown.rows] == [one["estimator"] for one in estimates]
    assert [" ".join(row[-1].split()) for row in shown.rows] == [one["meaning"] for one in estimates]
    assert f"{title} under uniform".replace("'", "&#x27;") in (tmp_path / "report.html").read_text()
    close(group(json.loads((tmp_path / "metrics.json").read_text()), title), group(found, title))


def by_hand(table: pl.DataFrame, estimators: Any) -> dict[str, list[float]]:
    """By name: value, interval and difference, of classes fed with the whole log."""
    return {
        one.estimator: [one.value, one.interval.low, one.interval.high, one.difference] for one in estimators
    }


def told(found: dict[str, Any]) -> dict[str, list[float]]:
    return {
        one["estimator"]: [one["value"], one["low"], one["high"], one["difference"]["value"]]
        for one in found["estimates"]
    }


def agree(one: dict[str, list[float]], two: dict[str, list[float]]) -> None:
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-9, err_msg=name)


def test_they_are_those_of_the_classes() -> None:
    for title, (draw, options) in KINDS.items():
        table = draw(True)
        log = read_bandit_log(table)
        rows = evaluated_rows(log, [UniformPolicy()], Models())
        seen = rows.logged(0)
        assert seen is not None
        weights = 0.25 / table["propensity"].to_numpy()
        np.testing.assert_allclose(seen.weights, weights, rtol=1e-12)
        uniform = np.full(ROWS, 0.25)
        found: Any
        if title == "Value of a page":
            found = SlateLog((0.0, 1.0))
            found.update(log, uniform)
        elif title == "Several logging policies":
            found = LoggingPolicyLog(None, (0.0, 1.0))
            found.update(log, uniform)
        elif title == "Outcomes":
            found = OutcomeLog(("click", "conversion", "value", "cost"))
            found.update(log, seen)
        else:
            found = FeatureEstimators("brand", (0.0, 1.0))
            logging = log.logging_probabilities(slice(0, ROWS))
            found.update(log, slice(0, ROWS), np.full((ROWS, 4), 0.25), logging)
        result = found.result(0.95)
        overrides = [*QUICK, *(f"{key}={value}" for key, value in options.items())]
        value = evaluate_policy(table, "uniform", overrides=overrides)
        agree(told(group(value, title)), by_hand(table, getattr(result, "policy", result)))


def test_outcomes_and_ratios_by_hand() -> None:
    table = base(9, False)
    overrides = [*QUICK, "outcomes=[click,conversion,value,cost]"]
    found = group(evaluate_policy(table, "uniform", overrides=overrides), "Outcomes")
    weights = 0.25 / table["propensity"].to_numpy()
    mean = {
        name: weights @ table[name].to_numpy() / weights.sum()
        for name in ("click", "conversion", "value", "cost")
    }
    own = {name: table[name].mean() for name in mean}
    for each, of in ((mean, "estimates"), (own, "logging")):
        values = {one["estimator"]: one["value"] for one in found[of]}
        ratios = {
            "roas": each["value"] / each["cost"],
            "cpa": each["cost"] / each["conversion"],
            "ecpc": each["cost"] / each["click"],
            "cvr": each["conversion"] / each["click"],
        }
        assert values == pytest.approx({**each, **ratios}, rel=1e-9)
    assert "return on ad spend" in next(
        one["meaning"] for one in found["estimates"] if one["estimator"] == "roas"
    )


def test_a_pages_value_under_the_logging_policy_is_its_mean() -> None:
    table = pages(False)
    found = group(evaluate_policy(table, "uniform", overrides=QUICK), "Value of a page")
    (logging,) = found["logging"]
    each = table.group_by("slate_id").agg(pl.col("reward").sum())["reward"].to_numpy()
    assert logging["value"] == pytest.approx(each.mean(), rel=1e-12)
    reach = 1.96 * each.std(ddof=1) / np.sqrt(len(each))
    assert logging["high"] - logging["value"] == pytest.approx(reach, rel=0.1)
    assert logging["estimator"] == "on-policy"


def test_offcem_with_a_reward_model_and_none_for_a_column() -> None:
    found = evaluate_policy(
        base(10, False),
        ["uniform", "column:target_probability"],
        overrides=["estimators=[dr]", "action_feature=brand", "reward_model=logistic"],
    ).to_dict()
    names = [one["estimator"] for one in group(found, "By the action's brand")["estimates"]]
    assert names == ["mips", "snmips", "offcem"]
    assert found["policies"][1]["groups"] == []
    for one in group(found, "By the action's brand")["estimates"]:
        assert one["low"] < 0.15 < one["high"]  # the true value of the uniform policy


def test_loggers_with_a_reward_model() -> None:
    found = evaluate_policy(loggers(False), "uniform", overrides=["estimators=[dr]", "reward_model=logistic"])
    names = [one["estimator"] for one in group(found, "Several logging policies")["estimates"]]
    assert {"balanced-ips", "naive-ips", "weighted-ips", "balanced-dr", "naive-dr", "weighted-dr"} == {*names}


@pytest.mark.slow
def test_rows_that_stand_for_several(tmp_path: Path, small: None) -> None:
    """Dropped at random: each group counts a row as many as it stands for, whatever the batch holds."""
    for title, (draw, options) in KINDS.items():
        if title == "Value of a page":
            continue  # a page is dropped as a whole
        table = draw(True)
        again = pl.int_range(pl.len()) % 5 == 0
        # None are dropped in the first batches.
        again &= pl.int_range(pl.len()) > 600
        thinned = table.with_columns(p_drop=0.5 * again.cast(pl.Float64))
        twice = pl.concat([table, table.filter(again)])
        overrides = [*QUICK, *(f"{key}={value}" for key, value in options.items())]
        files = write(tmp_path / title, thinned)
        found = evaluate_policy(files, "uniform", overrides=overrides)
        should = evaluate_policy(twice, "uniform", overrides=overrides)
        mine, theirs = (told(group(each, title)) for each in (found, should))
        for name in mine:
            # Value and difference; two copies say less than two rows, as far as the intervals go.
            np.testing.assert_allclose(
                np.array(mine[name])[[0, 3]], np.array(theirs[name])[[0, 3]], rtol=1e-9, atol=1e-12
            )


def test_what_the_log_does_not_have(tmp_path: Path) -> None:
    table = base(11, False)
    for key, value, column in (
        ("outcomes", "[clicks]", "clicks"),
        ("action_feature", "colour", "candidate_colour"),
    ):
        with pytest.raises(DataError) as caught:
            evaluate_policy(table, "uniform", out=tmp_path, overrides=[*QUICK, f"{key}={value}"])
        assert caught.value.column == column
