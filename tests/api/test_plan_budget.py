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
    assert any("no timestamps" in note for note in result.notes)
    assert any("no column of campaigns" in note for note in result.notes)
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


NOTHING_FOR_NOTHING = (
    "2 of 2 curves have no point at a spend of 0; their value there is taken as 0 (the first: campaign a, "
    "hour 0)."
)


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
    assert result.notes == (NOTHING_FOR_NOTHING,)
    limited = ctrkit.plan_budget(5.0, curves=curves(), out=tmp_path, overrides=["maximum={a: 1.5}"])
    assert dict(limited.plan.by_campaign().select("campaign", "spend").rows()) == pytest.approx(
        {"a": 1.5, "b": 3.5}
    )
    prices = {one.limit: one.price for one in limited.plan.bindings}
    assert prices == pytest.approx({"budget (5)": 1.0, "maximum of a (1.5)": 1.0})


def test_curves_that_are_not_concave_are_made_so_and_told_or_refused(tmp_path: Path) -> None:
    bent = curves(value=[1.0, 6.0, 7.0, 3.0, 5.0])
    result = ctrkit.plan_budget(3.0, curves=bent, out=tmp_path)
    assert "1 of 2 curves were not concave and were made concave" in result.notes[0]
    assert "campaign a" in result.notes[0]
    with pytest.raises(DataError, match="campaign a, hour 0: the curve is not concave: after a spend of 1"):
        ctrkit.plan_budget(3.0, curves=bent, out=tmp_path, overrides=["fit=none"])
    unbent = ctrkit.plan_budget(3.0, curves=curves(), out=tmp_path, overrides=["fit=none"])
    assert unbent.notes == (NOTHING_FOR_NOTHING,)


@pytest.mark.parametrize("fit", ["log", "hill"])
def test_fitted_forms(fit: str, tmp_path: Path) -> None:
    result = ctrkit.plan_budget(3.0, curves=curves(), out=tmp_path, overrides=[f"fit={fit}"])
    assert f"fitted by the {fit} form" in result.notes[0]
    assert result.plan.spend == pytest.approx(3.0)


def test_a_budget_above_everything_says_that_it_does_not_bind(tmp_path: Path) -> None:
    table = log()
    result = ctrkit.plan_budget(1e6, auctions=table, out=tmp_path)
    assert (
        f"The budget does not bind: everything there is to buy costs {table['market_price'].sum():g}."
        in result.notes
    )
    assert "More budget would add no value" in result.report().answer


def test_where_limits_hold_the_plan_back_more_budget_is_known_to_be_worth_nothing(tmp_path: Path) -> None:
    given = ctrkit.plan_budget(100.0, curves=curves(), out=tmp_path, overrides=["hour_maximum=1.5"])
    assert given.plan.spend < 7.0
    assert "More budget would add no value." in given.report().answer


def test_numbers_that_tell_campaigns_apart_are_ids(tmp_path: Path) -> None:
    """A column of whole numbers is of floats as soon as a table had gaps."""
    table = log().with_columns(campaign_id=pl.Series([12.0, 7.0] * 300))
    result = ctrkit.plan_budget(20.0, auctions=table, out=tmp_path, overrides=["maximum={'12': 3}"])
    assert result.plan.by_campaign()["campaign"].to_list() == ["12", "7"]


def test_hours_of_the_day_without_auctions_are_told(tmp_path: Path) -> None:
    half = log().filter(pl.col("timestamp") < DAY // 2)
    result = ctrkit.plan_budget(20.0, auctions=half, out=tmp_path)
    assert "The log has no auctions in 12 of the 24 hours of a day: they get no budget." in result.notes
    assert not any(
        "no auctions" in note for note in ctrkit.plan_budget(2.0, auctions=log(), out=tmp_path).notes
    )


def test_beyond_the_last_point_nothing_is_known(tmp_path: Path) -> None:
    result = ctrkit.plan_budget(100.0, curves=curves(), out=tmp_path)
    assert result.plan.spend == pytest.approx(7.0)
    assert (
        "2 of 2 curves are planned at their largest given spend (the first: campaign a, hour 0)"
        in result.notes[1]
    )
    assert "The value of more budget is unknown" in result.report().answer
    short = ctrkit.plan_budget(4.0, curves=curves(), out=tmp_path)
    assert short.notes == (NOTHING_FOR_NOTHING,)


def test_a_curve_of_one_point_costs_what_it_brought(tmp_path: Path) -> None:
    points = pl.DataFrame({"campaign": ["a", "b"], "spend": [40.0, 50.0], "value": [10.0, 20.0]})
    result = ctrkit.plan_budget(60.0, curves=points, out=tmp_path)
    assert result.plan.value == pytest.approx(20 + 10 * 10 / 40)
    assert result.plan.spend == pytest.approx(60.0)
    # Who says that something is had for nothing is believed.
    free = pl.concat([points, pl.DataFrame({"campaign": ["a"], "spend": [0.0], "value": [4.0]})])
    result = ctrkit.plan_budget(60.0, curves=free, out=tmp_path)
    assert result.plan.value == pytest.approx(20 + 4 + 6 * 10 / 40)
    assert "1 of 2 curves have no point at a spend of 0" in result.notes[0]


@pytest.mark.parametrize("fit", ["concave", "log", "hill"])
@pytest.mark.parametrize("seed", range(5))
def test_no_curve_brings_something_for_nothing(fit: str, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    points = pl.DataFrame({"spend": rng.integers(1, 9, n) * 1.0, "value": rng.integers(0, 9, n) * 1.0})
    result = ctrkit.plan_budget(1e-6, curves=points, out=tmp_path, overrides=[f"fit={fit}"])
    assert result.plan.value <= 9e-6 * (1 + 1e-9)  # no point is better than 9 for 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"campaign": "Campaign"}, "Did you mean 'campaign'"),
        ({"campaign": "camp"}, "Did you mean 'campaign'"),
        ({"campaign": "advertiser"}, "Known names: campaign"),
        ({"hour": "hours"}, "Did you mean 'hour'"),
        ({"hour": "Hour of day"}, "Known names"),
    ],
)
def test_a_name_that_is_not_read_is_refused(names: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a table of response curves has no such column") as error:
        ctrkit.plan_budget(5.0, curves=curves(hour=[0, 0, 0, 0, 0]).rename(names), out=tmp_path)
    assert says in str(error.value)


def test_two_names_of_one_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'cost' is another name of this column"):
        ctrkit.plan_budget(5.0, curves=curves(cost=[1.0] * 5), out=tmp_path)


def test_the_column_that_tells_campaigns_apart_is_used(tmp_path: Path) -> None:
    table = log().with_columns(user_id=pl.int_range(pl.len()) % 3)
    for settings, used in (([], False), (["campaign=user_id"], True)):
        result = ctrkit.plan_budget(100.0, auctions=table, out=tmp_path, overrides=settings)
        assert any("user_id (" in note for note in result.notes) != used
        assert result.plan.by_campaign().height == (3 if used else 2)


@pytest.mark.parametrize("hour", [24, 25, -1, 1.5, None])
def test_hours_that_no_day_has(hour: float | None, tmp_path: Path) -> None:
    hours = pl.Series("hour", [0, 0, hour, 1, 1], pl.Float64, strict=False)
    with pytest.raises(DataError) as error:
        ctrkit.plan_budget(5.0, curves=curves().with_columns(hours), out=tmp_path)
    assert (error.value.column, error.value.row) == ("hour", 2)


def test_a_log_with_gaps_and_an_incomplete_day_is_planned_by_what_it_covers(tmp_path: Path) -> None:
    """Every hour is like every other: 20 auctions, each worth .02 at a price of 1, all bought."""
    hour = pl.DataFrame({"timestamp": np.arange(20) * 180.0 + 90})
    whole = [day * 24 + h for day in (0, 4) for h in range(24)]
    for hours in (whole, whole[:30], [*whole[:10], *whole[15:]], range(6), [*range(24), *range(480, 500)]):
        rows = pl.concat([hour + h * 3600.0 for h in hours])
        table = rows.with_columns(market_price=1.0, pctr=0.02)
        result = ctrkit.plan_budget(1e6, auctions=table, out=tmp_path)
        by_hour = result.plan.by_hour()
        assert by_hour["hour"].to_list() == sorted({h % 24 for h in hours})
        np.testing.assert_allclose(by_hour["spend"], 20.0, rtol=1e-12)
        np.testing.assert_allclose(by_hour["value"], 0.4, rtol=1e-12)
    assert "19 of 21 days have no auctions and count as gaps in the log." in result.notes
    assert "The log covers 2 days; the plan is for an average day." in result.notes


def test_many_campaigns_are_shown_in_part_and_planned_in_whole(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(1000)]
    points = pl.DataFrame({"campaign": names, "spend": np.arange(1.0, 1001.0), "value": 1.0})
    result = ctrkit.plan_budget(2e6, curves=points, out=tmp_path)
    table = result.report().tables[0]
    assert table.title == "Campaigns: the 20 of 1,000 that spend the most; allocation.csv has all"
    spends = [row[1] for row in table.rows]
    assert len(spends) == 20
    assert spends == sorted(spends, reverse=True)
    assert pl.read_csv(tmp_path / "allocation.csv").height == len(result.to_pandas()) == 1000
    assert sum(file.stat().st_size for file in (tmp_path / "figures").iterdir()) < 1e6


def test_a_column_that_may_be_meant_for_campaigns_is_told(tmp_path: Path) -> None:
    result = ctrkit.plan_budget(100.0, auctions=log().rename({"advertiser": "Campaign"}), out=tmp_path)
    assert any("If column 'Campaign' names it, give --campaign Campaign." in note for note in result.notes)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"budget": 0.0}, ConfigError, "the budget is 0 and must be above 0"),
        ({"overrides": ["minimum={a: 2, b: 4}"]}, ConfigError, "Give a budget of at least 6"),
        ({"overrides": ["minimum={c: 2}"]}, ConfigError, "no campaign 'c'"),
        ({"overrides": ["minimums={c: 2}"]}, ConfigError, "Did you mean 'minimum'"),
        ({"curves": curves().drop("value")}, DataError, "column 'value'"),
        ({"curves": curves(value=[4.0, -6.0, 7.0, 3.0, 5.0])}, DataError, "row index 1"),
        ({"curves": curves(spend=[1.0, 1, 2, 2, 4]), "overrides": ["fit=none"]}, DataError, "0 and rise"),
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
