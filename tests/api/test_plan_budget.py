from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linprog

import ctrkit
from ctrkit.errors import ArtifactError, ConfigError, DataError

DAY = 86_400


def log(rows: int = 600, days: int = 1, seed: int = 0) -> pl.DataFrame:
    """Auctions of two advertisers, evenly over the hours of whole days."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "timestamp": np.linspace(0, days * DAY - 1, rows).astype(np.int64),
            "market_price": np.round(rng.lognormal(1, 1, rows), 2),
            "pctr": rng.uniform(0, 0.05, rows),
            "advertiser": rng.choice(["shoes", "hats"], rows),
        }
    )


def test_a_log_with_pctr_is_planned_close_to_the_best_purchase(tmp_path: Path) -> None:
    table = log()
    budget = 400.0
    result = ctrkit.plan_budget(budget, auctions=table, out=tmp_path, overrides=["knots=60"])
    value, price = table["pctr"].to_numpy(), table["market_price"].to_numpy()
    best = -linprog(-value, A_ub=price[None], b_ub=[budget], bounds=(0, 1)).fun
    assert result.plan.value == pytest.approx(best, rel=1e-3)
    assert result.plan.value <= best * (1 + 1e-9)
    assert result.in_proportion < result.plan.value
    assert result.plan.by_campaign()["campaign"].to_list() == ["hats", "shoes"]
    assert result.plan.by_hour()["hour"].to_list() == list(range(24))


def test_the_run_folder(tmp_path: Path) -> None:
    result = ctrkit.plan_budget(300.0, auctions=log(), out=tmp_path)
    plan, lines = pl.read_parquet(tmp_path / "plan.parquet"), pl.read_parquet(tmp_path / "allocation.parquet")
    assert plan.columns == ["hour", "spend", "share", "value"]
    assert lines.columns == ["campaign", "hour", "spend", "value", "marginal_value"]
    assert plan["share"].sum() == pytest.approx(1.0)
    assert plan["spend"].sum() == pytest.approx(300.0)
    sums = lines.group_by("hour").agg(pl.col("spend").sum()).sort("hour")
    np.testing.assert_allclose(sums["spend"], plan["spend"])
    np.testing.assert_allclose(pl.read_csv(tmp_path / "plan.csv")["spend"], plan["spend"])
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "allocation.svg",
        "curves.svg",
        "day.svg",
    }
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == {"command": "plan-budget", **json.loads(result.to_json())}
    assert "report.html" in {path.name for path in tmp_path.iterdir()}
    assert list(result.to_pandas()["campaign"]) == ["hats", "shoes"]


def test_the_same_log_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ctrkit.plan_budget(300.0, auctions=log(), out=tmp_path / name)
    for file in ("plan.parquet", "allocation.csv", "report.html", "metrics.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_log_of_three_days_is_planned_for_one(tmp_path: Path) -> None:
    one = log()
    later = [one.with_columns(pl.col("timestamp") + day * DAY) for day in range(3)]
    result = ctrkit.plan_budget(400.0, auctions=pl.concat(later), out=tmp_path / "three")
    same = ctrkit.plan_budget(400.0, auctions=one, out=tmp_path / "one")
    assert result.plan.value == pytest.approx(same.plan.value, rel=0.01)
    assert any("3 days" in note for note in result.notes)


def test_logs_in_many_files(tmp_path: Path) -> None:
    table = log()
    table[:300].write_parquet(tmp_path / "a.parquet")
    table[300:].write_parquet(tmp_path / "b.parquet")
    files = ctrkit.plan_budget(200.0, auctions=str(tmp_path / "*.parquet"), out=tmp_path / "run")
    assert files.plan.lines.equals(
        ctrkit.plan_budget(200.0, auctions=table, out=tmp_path / "run2").plan.lines
    )


def test_without_times_and_campaigns_it_says_so(tmp_path: Path) -> None:
    table = log().drop("timestamp", "advertiser")
    result = ctrkit.plan_budget(100.0, auctions=table, out=tmp_path)
    assert result.plan.lines.select("campaign", "hour").rows() == [("all", 0)]
    assert any("no times" in note for note in result.notes)
    assert any("no campaigns apart" in note for note in result.notes)
    named = ctrkit.plan_budget(100.0, auctions=log(), out=tmp_path, overrides=["campaign=advertiser"])
    assert named.plan.by_campaign().height == 2


def test_a_model_scores_the_candidates_and_their_advertiser_is_the_campaign(
    trained: Path, logs: Path, tmp_path: Path
) -> None:
    auctions = logs / "auctions.parquet"
    result = ctrkit.plan_budget(50.0, auctions=auctions, model=trained, out=tmp_path)
    advertisers = {str(one) for one in pl.read_parquet(auctions)["candidate_ad_advertiser"][0]}
    assert set(result.plan.lines["campaign"]) <= advertisers
    assert result.plan.spend == pytest.approx(50.0)
    assert not any("not calibrated" in note for note in result.notes)


def curves(**columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "campaign": ["a", "a", "a", "b", "b"],
            "spend": [1.0, 2.0, 3.0, 2.0, 4.0],
            "value": [4.0, 6.0, 7.0, 3.0, 5.0],
            **columns,
        }
    )


def test_given_curves(tmp_path: Path) -> None:
    # Slopes of a: 4, 2, 1; of b: 1.5, 1. Of 5 the plan buys 2 of a and 2 of b, then either at 1.
    result = ctrkit.plan_budget(5.0, curves=curves(), out=tmp_path)
    assert result.plan.value == pytest.approx(4 + 2 + 3 + 1)
    assert result.plan.budget_price == pytest.approx(1.0)
    assert result.notes == ()
    limited = ctrkit.plan_budget(5.0, curves=curves(), out=tmp_path, overrides=["maximum={a: 1.5}"])
    assert dict(limited.plan.by_campaign().select("campaign", "spend").rows()) == pytest.approx(
        {"a": 1.5, "b": 3.5}
    )
    prices = {one.limit: one.price for one in limited.plan.bindings}
    assert prices == pytest.approx({"budget (5)": 1.0, "maximum of a (1.5)": 1.0})


def test_curves_that_are_not_concave_are_made_so_and_told_or_refused(tmp_path: Path) -> None:
    bent = curves(value=[1.0, 6.0, 7.0, 3.0, 5.0])
    result = ctrkit.plan_budget(3.0, curves=bent, out=tmp_path)
    assert "1 of 2 curves were not concave and were made so" in result.notes[0]
    assert "campaign a" in result.notes[0]
    with pytest.raises(DataError, match="campaign a, hour 0: the curve is not concave: after spend 1"):
        ctrkit.plan_budget(3.0, curves=bent, out=tmp_path, overrides=["fit=none"])
    assert ctrkit.plan_budget(3.0, curves=curves(), out=tmp_path, overrides=["fit=none"]).notes == ()


@pytest.mark.parametrize("fit", ["log", "hill"])
def test_fitted_forms(fit: str, tmp_path: Path) -> None:
    result = ctrkit.plan_budget(3.0, curves=curves(), out=tmp_path, overrides=[f"fit={fit}"])
    assert f"fitted by the {fit} form" in result.notes[0]
    assert result.plan.spend == pytest.approx(3.0)


def test_a_budget_above_everything_says_that_it_does_not_bind(tmp_path: Path) -> None:
    result = ctrkit.plan_budget(100.0, curves=curves(), out=tmp_path)
    assert result.notes == ("The budget does not bind: all there is to buy costs 7.",)
    assert "More budget would be worth nothing" in result.report().answer


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"budget": 0.0}, ConfigError, "the budget is 0 and must be above 0"),
        ({"overrides": ["minimum={a: 2, b: 4}"]}, ConfigError, "Give a budget of at least 6"),
        ({"overrides": ["minimum={c: 2}"]}, ConfigError, "no campaign 'c'"),
        ({"overrides": ["minimums={c: 2}"]}, ConfigError, "Did you mean 'minimum'"),
        ({"curves": curves().drop("value")}, DataError, "column 'value'"),
        ({"curves": curves(value=[4.0, -6.0, 7.0, 3.0, 5.0])}, DataError, "row 1"),
        ({"curves": curves(spend=[1.0, 1, 2, 2, 4]), "overrides": ["fit=none"]}, DataError, "must rise"),
        ({"auctions": log()}, ConfigError, "both are given"),
        ({"curves": None, "auctions": log().drop("pctr")}, ArtifactError, "model.pt"),
        ({"curves": None, "auctions": log(), "overrides": ["campaign=advertizer"]}, DataError, "Did you"),
    ],
)  # fmt: skip
def test_wrong_input_is_named_and_leaves_nothing(
    given: dict, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"budget": 5.0, "curves": curves(), "out": tmp_path / "run", **given}
    with pytest.raises(error) as caught:
        ctrkit.plan_budget(**arguments)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())
