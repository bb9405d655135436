"""Two rankers on a log of requests, through Python and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    rng, requests, candidates = np.random.default_rng(0), 800, 6
    chance = rng.random(requests * candidates) / 3
    return pl.DataFrame(
        {
            "request_id": np.repeat(np.arange(requests), candidates),
            "user": np.repeat(np.arange(requests) // 4, candidates),
            "click": (rng.random(chance.size) < chance).astype(np.int8),
            "old": chance + rng.normal(0, 1, chance.size),
            "new": chance + rng.normal(0, 0.1, chance.size),
        }
    )


def test_the_better_ranker_wins_and_both_tests_are_sized(log: pl.DataFrame) -> None:
    found = ctrkit.interleave(log, a="old", b="new", user="user", draws=50)
    assert found.preference.low > 0
    assert found.report().answer.startswith("new is preferred")
    assert (found.requests, found.units) == (800, 200)
    assert found.clicks == log["click"].sum()
    assert 0 < found.shown < found.clicks
    low, high = found.saving.low, found.saving.high
    assert low is not None
    assert high is not None
    assert 0 < low < found.saving.value < high
    assert found.saving.value == pytest.approx(found.needed.ab_test / found.needed.interleaving)
    surer = ctrkit.interleave(log, a="old", b="new", user="user", draws=20, power=0.95)
    assert surer.needed.interleaving > found.needed.interleaving
    swapped = ctrkit.interleave(log, a="new", b="old", user="user", draws=20)
    assert swapped.preference.high < 0


def test_the_order_of_rows_does_not_matter_and_neither_does_the_kind_of_ids(log: pl.DataFrame) -> None:
    found = ctrkit.interleave(log, a="old", b="new", draws=20)
    text = log.with_columns(pl.col("request_id").cast(pl.String)).sample(fraction=1, shuffle=True, seed=1)
    other = ctrkit.interleave(text, a="old", b="new", draws=20)
    assert other.preference == pytest.approx(found.preference)
    assert other.shown == found.shown


def test_scores_that_rank_alike_have_no_preference(log: pl.DataFrame) -> None:
    alike = log.with_columns(old=pl.col("new").round(1), new=pl.col("new").round(1) * 2 + 1)
    found = ctrkit.interleave(alike, a="old", b="new", method="balanced", draws=20)
    assert found.same == found.requests
    assert found.preference.mean == 0
    told = found.to_dict()
    assert told["needed"] == {"interleaving": None, "ab_test": None}
    assert any("same list for every request" in note for note in found.notes)


def test_what_is_left_out_is_told(log: pl.DataFrame) -> None:
    odd = log[:600].with_columns(
        request_id=pl.when(pl.int_range(pl.len()) == 0).then(None).otherwise("request_id")
    )
    odd = pl.concat([odd, odd[-1:].with_columns(request_id=pl.lit(-7, odd["request_id"].dtype))])
    found = ctrkit.interleave(odd, a="old", b="new", draws=20)
    assert found.requests == 100
    assert found.notes[:2] == (
        "Left out: 1 requests with one candidate.",
        "Left out: 1 rows without a request.",
    )
    whole = ctrkit.interleave(log, a="old", b="new", length=9, draws=20)
    assert whole.needed.ab_test == np.inf
    assert any("would find nothing" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        ({"old": 1.0}, {}, "same score"),
        ({"old": float("nan")}, {}, "nan is not a finite number"),
        ({"old": None}, {}, "missing"),
        ({"old": "high"}, {}, "not a number"),
        ({"click": 0}, {}, "no click on a list of 3"),
        ({"click": 2}, {}, "neither 0 nor 1"),
        ({"request_id": None}, {}, "no request has two"),
        ({}, {"request": "query"}, "the column is missing"),
        ({}, {"user": "person"}, "the column is missing"),
    ],
)
def test_a_log_that_cannot_be_used(
    log: pl.DataFrame, change: dict[str, Any], settings: dict[str, Any], says: str
) -> None:
    wrong = log.with_columns(**{name: pl.lit(value) for name, value in change.items()})
    with pytest.raises(DataError, match=says) as caught:
        ctrkit.interleave(wrong, a="old", b="new", **settings)
    assert caught.value.column


def test_one_column_is_not_two_rankers(log: pl.DataFrame) -> None:
    with pytest.raises(ConfigError, match="both rankers"):
        ctrkit.interleave(log, a="old", b="old")


def test_the_command_says_what_the_function_does(log: pl.DataFrame, tmp_path: Path) -> None:
    log.write_parquet(tmp_path / "log.parquet")
    arguments = ["interleave", str(tmp_path / "log.parquet"), "--a", "old", "--b", "new", "--json"]
    arguments += ["--method", "probabilistic", "--set", "draws=20", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    told = ctrkit.interleave(log, a="old", b="new", method="probabilistic", draws=20)
    assert json.loads(result.stdout) == json.loads(told.to_json())
    assert (tmp_path / "run" / "report.html").exists()
