"""What `ctrkit simulate-bidding` can be asked for, on simulated markets and small logs."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.bidding import Auctions, CampaignTerms, FrequencyCap, simulate
from ctrkit.bidding.market.auctions import joined
from ctrkit.bidding.supply import SyntheticMarket
from ctrkit.errors import ArtifactError, ConfigError, CtrkitError, DataError, RunError

MARKET = "auctions=4000,ads=4,dimensions=4,click_rate=0.05,days=2"


def run(
    tmp_path: Path, *overrides: str, market: str | None = MARKET, budget: Any = 10.0, **given: Any
) -> Any:
    return ctrkit.simulate_bidding(
        budget=budget, market=market, out=tmp_path / "run", overrides=["compare_models=false", *overrides],
        **given,
    )  # fmt: skip


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    """One ad an auction, half of the users twice as likely to click as is believed."""
    market = joined(list(SyntheticMarket(auctions=5000, ads=1, click_rate=0.05, users=400).chunks()))
    assert market.timestamp is not None
    assert market.click is not None
    assert market.user is not None
    return pl.DataFrame(
        {
            "timestamp": market.timestamp,
            "market_price": market.market_price,
            "pctr": market.click_probability[:, 0],
            "click": market.click[:, 0].astype(int),
            "user_id": market.user,
        }
    )


def strategy(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in content["strategies"] if one["name"] == name)


def test_a_made_up_market_needs_no_files(tmp_path: Path) -> None:
    result = run(tmp_path)
    content = result.to_dict()
    assert [one["name"] for one in content["strategies"]] == ["truthful", "linear", "dual", "thompson"]
    split = strategy(content, "dual")["regret_split"]
    assert sum(split.values()) == pytest.approx(strategy(content, "dual")["regret"])
    assert (tmp_path / "run" / "events.parquet").is_file()
    figures = {file.stem for file in (tmp_path / "run" / "figures").iterdir()}
    assert figures == {"spend", "multiplier", "win_rate", "landscape", "exploration", "regret"}
    assert not (tmp_path / "run" / "logs").exists()


def test_a_sweep_of_budgets(tmp_path: Path) -> None:
    result = run(tmp_path, "strategies=[dual,truthful]", budget="2:32:5")
    table = pl.read_parquet(tmp_path / "run" / "sweep.parquet")
    assert table.filter(strategy="dual")["budget"].to_list() == pytest.approx([2, 4, 8, 16, 32])
    best = table.filter(strategy="hindsight optimum")
    assert best["value"].is_sorted()
    assert best["marginal_value"][1:].is_sorted(descending=True)
    alone = run(tmp_path, "strategies=[dual,truthful]", budget=float(table["budget"][2]))
    assert strategy(alone.to_dict(), "dual")["value"] == pytest.approx(
        table.filter(strategy="dual")["value"][2]
    )
    assert result.report().tables[0].rows[0][0] == pytest.approx(2)
    with pytest.raises(ConfigError, match="one seed"):
        run(tmp_path, "seeds=3", budget="2:32:5")
    notes = run(tmp_path, "strategies=[dual]", budget="1e-9:1e6:2").notes
    assert any(note.startswith("At a budget of 1e-09: dual won nothing") for note in notes)
    assert any(note.startswith("At a budget of 1e+06: The budget") for note in notes)


def test_a_log_without_click_probabilities_is_told_what_it_lacks(
    tmp_path: Path, log: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="no click probabilities, and there is no model") as error:
        run(tmp_path, market=None, auctions=log.drop("pctr"))
    assert error.value.column == "pctr"


def test_no_run_removes_files_that_are_not_its_own(tmp_path: Path, log: pl.DataFrame) -> None:
    home = tmp_path / "run"
    others = [home / "mine.parquet", home / "logs" / "mine" / "impressions.parquet"]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        log.write_parquet(file)
    run(tmp_path, "strategies=[dual]", market=None, auctions=log)
    own = [home / "events.parquet", home / "logs" / "dual" / "impressions.parquet"]
    with pytest.raises(CtrkitError):
        run(tmp_path, "shocks=['traffic:factor=0']", market=None, auctions=log)
    run(tmp_path, "strategies=[dual]", budget="2:4:2", market=None, auctions=log)
    assert all(file.is_file() for file in [*others, *own, home / "sweep.parquet"])


@pytest.mark.parametrize("budget", ["x", "1:2", "5:2:3", "0:2:3", "1:2:1", "1:2:2.5", "0", "-1", "nan"])
def test_budgets_that_are_none(tmp_path: Path, budget: str) -> None:
    with pytest.raises(ConfigError, match="budget is") as error:
        run(tmp_path, budget=budget)
    assert error.value.hint


def test_seeds_are_markets_or_resamples(tmp_path: Path, log: pl.DataFrame) -> None:
    result = run(tmp_path, "seeds=3", "strategies=[truthful,dual]")
    content = result.to_dict()["over_seeds"]
    (table,) = (one for one in result.report().details if one.title == "All KPIs over the 3 seeds")
    assert {"win rate", "eCPC", "eCPM", "ROAS", "regret", "budget used"} <= {row[0] for row in table.rows}
    assert (content["kind"], content["seeds"], content["reference"]) == ("markets", 3, "truthful")
    # The first is no seed of its own: market i is that of the seed i further on.
    values = [
        strategy(run(tmp_path, "strategies=[dual]", market=f"{MARKET},seed={s}").to_dict(), "dual")["value"]
        for s in (1, 2, 3)
    ]
    assert content["means"]["dual"]["value"]["value"] == pytest.approx(np.mean(values), rel=0.02)
    found = run(tmp_path, "seeds=4", "strategies=[dual]", market=None, auctions=log).to_dict()
    assert found["over_seeds"]["kind"] == "resamples"
    mean = found["over_seeds"]["means"]["dual"]["clicks"]
    assert mean["low"] < mean["value"] < mean["high"]


def test_the_seed_is_of_all_that_is_drawn(tmp_path: Path, log: pl.DataFrame) -> None:
    one, other, same = (
        run(tmp_path, "strategies=[dual]", *more, market=market).to_dict()["optimum"]
        for more, market in (((), MARKET), (("seed=3",), MARKET), (("seed=3",), f"{MARKET},seed=0"))
    )
    assert one != other
    assert other == same
    resamples = [
        run(tmp_path, "strategies=[dual]", "seeds=2", f"seed={seed}", market=None, auctions=log).to_dict()
        for seed in (0, 5)
    ]
    assert resamples[0]["strategies"] == resamples[1]["strategies"]  # dual draws nothing
    assert resamples[0]["over_seeds"]["means"] != resamples[1]["over_seeds"]["means"]


def test_competitors_that_pace_too(tmp_path: Path) -> None:
    alone = run(tmp_path, "strategies=[dual,thompson]").to_dict()
    together = run(tmp_path, "strategies=[dual,thompson]", "together=true").to_dict()
    for name in ("dual", "thompson"):
        assert strategy(together, name)["value"] < strategy(alone, name)["value"]


def test_shocks_change_the_market_untold(tmp_path: Path) -> None:
    plain, shocked = (
        pl.read_parquet(run(tmp_path, "strategies=[dual]", *more) and tmp_path / "run" / "events.parquet")
        for more in ((), ("shocks=['price:factor=2,start=0.5']",))
    )
    ratio = shocked["market_price"] / plain["market_price"]
    assert (ratio[:2000] == 1).all()
    assert (ratio[2000:] == 2).all()


def test_nobody_is_told_that_traffic_halves(tmp_path: Path) -> None:
    """Who expects twice the auctions leaves a part of the money; in every seed."""
    halved = ("strategies=[dual]", "shocks=['traffic:factor=0.5,start=0.5']", "seeds=2")
    content = run(tmp_path, *halved).to_dict()
    for used in (
        content["strategies"][0]["budget_used"],
        content["over_seeds"]["means"]["dual"]["budget_used"]["value"],
    ):
        assert used == pytest.approx(0.75, abs=0.06)


def test_pacing_as_soon_as_possible_and_by_a_plan(tmp_path: Path) -> None:
    def spent(*overrides: str) -> pl.DataFrame:
        market = MARKET.replace("=4000", "=40000")
        run(tmp_path, "strategies=[dual]", *overrides, budget=60.0, market=market)
        return pl.read_parquet(tmp_path / "run" / "events.parquet")

    halves = [
        events[: events.height // 2]["spend"].sum() / 60.0 for events in (spent(), spent("pacing=asap"))
    ]
    assert halves[0] == pytest.approx(0.5, abs=0.12)
    assert halves[1] > 0.9
    plan = tmp_path / "plan.parquet"
    pl.DataFrame({"hour": [9, 20], "spend": [1.0, 3.0], "share": [0.25, 0.75]}).write_parquet(plan)
    events = spent(f"pacing={plan}", "daily_budget=40")
    hour = pl.col("timestamp") // 3600 % 24
    by_hour = dict(events.group_by(hour.cast(pl.Int64)).agg(pl.col("spend").sum()).iter_rows())
    around = [by_hour[9], by_hour[20]]
    assert sum(around) == pytest.approx(events["spend"].sum())
    assert around[1] / around[0] == pytest.approx(3, rel=0.25)
    by_day = events.group_by("episode").agg(pl.col("spend").sum())["spend"]
    assert (by_day <= 40).all()
    assert by_day.sum() <= 60


@pytest.mark.parametrize("daily", [(), ("daily_budget=4",)])
def test_plans_that_are_none(tmp_path: Path, daily: tuple[str, ...]) -> None:
    plan = tmp_path / "plan.csv"
    for hours, says in (([9, 20, 9], "hour 9 is given twice"), ([9, 24], "no hour 24")):
        pl.DataFrame({"hour": hours, "share": [1.0] * len(hours)}).write_csv(plan)
        with pytest.raises(CtrkitError, match=says):
            run(tmp_path, f"pacing={plan}", "strategies=[dual]", *daily)


@pytest.mark.slow
def test_a_history_tunes(tmp_path: Path, log: pl.DataFrame) -> None:
    wrong = "strategies=['dual:initial_multiplier=1000']"
    cold = run(tmp_path, wrong, market=None, auctions=log, budget=5).to_dict()["strategies"][0]
    past = tmp_path / "past.parquet"
    log.write_parquet(past)
    warm = run(tmp_path, wrong, f"history={past}", market=None, auctions=log, budget=5).to_dict()
    assert warm["strategies"][0]["share_of_optimum"] > cold["share_of_optimum"]
    run(tmp_path, "strategies=[rlb]", "history=2000")
    with pytest.raises(ConfigError, match="number of auctions"):
        run(tmp_path, f"history={past}")


def test_what_another_model_would_be_worth(tmp_path: Path, log: pl.DataFrame) -> None:
    rows = run(tmp_path, "compare_models=true", "miscalibration='1,2'").to_dict()["models"]
    assert [row["seen"] for row in rows] == [
        "the model", "the model, logits times 1 plus 2", "the model, recalibrated in hindsight",
        "the true click probabilities",
    ]  # fmt: skip
    value = {row["seen"]: {one["name"]: one["value"] for one in row["strategies"]} for row in rows}
    askew = value["the model, logits times 1 plus 2"]
    # One who paces makes up for a common bias in the odds, and one who bids what he believes does not.
    assert askew["dual"] == pytest.approx(value["the model"]["dual"], rel=0.05)
    assert askew["truthful"] < 0.9 * value["the model"]["truthful"]
    assert value["the true click probabilities"]["dual"] > value["the model"]["dual"]
    # Without the truth clicks alone are told.
    rows = run(tmp_path, "compare_models=true", market=None, auctions=log).to_dict()["models"]
    assert [set(row["strategies"][0]) for row in rows] == [{"name", "clicks"}] * 2


def test_a_frequency_cap_counts_users(tmp_path: Path, log: pl.DataFrame) -> None:
    run(tmp_path, "frequency_cap=2", "strategies=[dual]", market=None, auctions=log, budget=50)
    events = pl.read_parquet(tmp_path / "run" / "events.parquet")
    shown = log.with_columns(won=events["won"]).group_by("user_id").agg(pl.col("won").sum())["won"]
    assert shown.max() == 2
    with pytest.raises(DataError, match="counts impressions per user"):
        run(tmp_path, "frequency_cap=2", market=None, auctions=log.drop("user_id"))


def test_pages_of_several_slots(tmp_path: Path, log: pl.DataFrame) -> None:
    gsp = ("auction.price=gsp", "auction.slot_effects='1,0.5'", "strategies=[dual]")
    content = run(tmp_path, *gsp, market=f"{MARKET},slots=2").to_dict()
    assert strategy(content, "dual")["regret_split"] is None
    prices = np.sort(np.random.default_rng(0).lognormal(-4, 1, (len(log), 2)))[:, ::-1]
    paged = log.with_columns(market_price=prices[:, 0], slot_prices=pl.Series(prices.tolist()))
    assert run(tmp_path, *gsp, market=None, auctions=paged).to_dict()["strategies"][0]["wins"] > 0
    with pytest.raises(DataError, match=r"'slot_prices': pages of 2 slots need 2 .* the log"):
        run(tmp_path, *gsp, market=None, auctions=log)
    more = (*gsp[:1], "auction.slot_effects='1,0.5,0.2'")
    with pytest.raises(DataError, match=r"'slot_prices': pages of 3 slots need 3 .* there are 2"):
        run(tmp_path, *more, market=None, auctions=paged)
    ragged = paged.with_columns(
        slot_prices=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit([1.0])).otherwise(pl.col("slot_prices"))
    )
    with pytest.raises(DataError, match="slots") as error:
        run(tmp_path, *gsp, market=None, auctions=ragged)
    assert error.value.row == 7


@pytest.mark.parametrize(
    ("overrides", "given", "says"),
    [
        (("frequency_cap=3/month",), {}, "frequency cap '3/month'"),
        (("frequency_cap=0",), {}, "cap is 0"),
        (("daily_budget=2", "episode_length=100"), {}, "with a daily_budget an episode is a day"),
        (("bid_value=mean", "strategies=[dual]"), {}, "none of the strategies uses it"),
        (("pacing=asap", "strategies=[truthful]"), {}, "none of the strategies uses it"),
        (("pacing=nowhere.parquet",), {}, "nowhere.parquet"),
        (("shocks=['prize:factor=2']",), {}, "Did you mean 'price'"),
        (("shocks=['traffic:factor=0']",), {}, "leave no auctions"),
        (("miscalibration='0,1'",), {}, "scale is 0"),
        ((), {"market": "auctionz=3"}, "Did you mean 'auctions'"),
        ((), {"model": "model.pt"}, "a log or a model is given too"),
        (("value_per_click=2",), {}, "value_per_click is given too"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, overrides: tuple[str, ...], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(CtrkitError, match=says) as error:
        run(tmp_path, *overrides, **given)
    assert error.value.hint
    assert not (tmp_path / "run").exists()


def test_candidates_without_scores_are_not_bid_on(tmp_path: Path, log: pl.DataFrame) -> None:
    listed = log.with_columns(candidates=pl.lit([3, 4, 5]), true_click=pl.lit([0, 0, 1]))
    result = run(tmp_path, "strategies=[dual]", market=None, auctions=listed).to_dict()
    plain = run(tmp_path, "strategies=[dual]", market=None, auctions=log).to_dict()
    assert result["strategies"] == plain["strategies"]
    assert "the candidates have no scores" in result["notes"][-1]


@pytest.mark.slow
def test_an_uncalibrated_model_is_told_what_it_costs(trained: Path, logs: Path, tmp_path: Path) -> None:
    model = ctrkit.load(trained)
    given = {"market": None, "auctions": logs / "auctions.parquet", "model": model}
    calibrated = run(tmp_path, "compare_models=true", "strategies=[dual]", **given).to_dict()["notes"]
    assert not any("calibrated" in note for note in calibrated)
    model.calibrators.clear()
    content = run(tmp_path, "compare_models=true", "strategies=[dual]", **given).to_dict()
    warning, cost = content["notes"][-2:]
    assert "not calibrated" in warning
    dual = [row["strategies"][0]["clicks"] for row in content["models"][:2]]
    assert f"dual wins {dual[0]:,.0f} clicks instead of {dual[1]:,.0f}" in cost


@pytest.mark.parametrize("length", [0, None])
def test_candidates_that_cannot_be_scored(
    trained: Path, logs: Path, tmp_path: Path, length: int | None
) -> None:
    table = pl.read_parquet(logs / "auctions.parquet")
    wrong = None if length is None else pl.col("candidates").list.head(length)
    here = pl.int_range(pl.len()) == 4
    table = table.with_columns(candidates=pl.when(here).then(wrong).otherwise(pl.col("candidates")))
    with pytest.raises(DataError, match="candidates") as error:
        run(tmp_path, "strategies=[dual]", market=None, auctions=table, model=trained)
    assert error.value.row == 4


def test_days_are_those_of_the_zone_in_whatever_unit_the_log_counts(tmp_path: Path) -> None:
    """Six hours on both sides of midnight in Berlin, which is 23:00 UTC."""
    midnight = 1_709_506_800  # 2024-03-04 00:00 in Berlin
    seconds = midnight + 60 * np.arange(-360, 360)
    table = {"market_price": np.full(720, 0.01), "pctr": np.full(720, 0.1)}

    def auctions_of_days(times: Any, *given: str) -> list[int]:
        log = pl.DataFrame({**table, "timestamp": times})
        found = run(tmp_path, "daily_budget=1", *given, market=None, auctions=log)
        events = found.simulation.events.filter(strategy=found.simulation.events["strategy"][0])
        return events.group_by("episode", maintain_order=True).len()["len"].to_list()

    zoned = pl.from_epoch(pl.Series(seconds), "s").dt.convert_time_zone("Europe/Berlin")
    assert auctions_of_days(seconds) == [420, 300]
    assert auctions_of_days(seconds, "time_zone=Europe/Berlin") == [360, 360]
    assert auctions_of_days(seconds * 1000, "time_zone=Europe/Berlin") == [360, 360]
    assert auctions_of_days(zoned) == [360, 360]
    with pytest.raises(CtrkitError, match="no time zone 'Berlin'"):
        auctions_of_days(seconds, "time_zone=Berlin")
    with pytest.raises(CtrkitError, match="its own clock"):
        run(tmp_path, "time_zone=Europe/Berlin")


def fails(*given: Any, **named: Any) -> Any:
    raise ZeroDivisionError("nothing divides")


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("ctrkit.api.simulate_bidding._Simulations.models", "no comparison of models"),
        ("ctrkit.api.simulate_bidding.over_seeds", "no interval over seeds"),
        ("ctrkit.api.simulate_bidding.write_logs", "no log of what was won"),
        ("ctrkit.api.bidding.report.win_rate_figure", "no figure 'win_rate'"),
        ("ctrkit.api.bidding.report.regret_figure", "no figure 'regret'"),
    ],
)
def test_what_is_secondary_never_ends_a_simulation(
    tmp_path: Path,
    log: pl.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    part: str,
    says: str,
) -> None:
    monkeypatch.setattr(part, fails)
    result = run(
        tmp_path,
        "compare_models=true",
        "seeds=2",
        "strategies=[dual]",
        market=None,
        auctions=log[:800],
        budget=3,
    )
    assert strategy(result.to_dict(), "dual")["wins"] > 0
    assert (tmp_path / "run" / "metrics.json").is_file()
    page = unescape((tmp_path / "run" / "report.html").read_text())
    assert f"{says}: nothing divides." in page
    told = [*result.to_dict()["notes"], *(str(one.message) for one in recwarn)]
    assert f"There is {says}: nothing divides." in told


def test_an_optimum_that_is_not_found_leaves_what_was_won(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    auctions = Auctions(
        rng.lognormal(0, 1, 500), np.full((500, 1), 0.1), np.ones((500, 1)), user=np.arange(500) % 50
    )
    terms = CampaignTerms(20.0, frequency_cap=FrequencyCap(3))
    known = simulate(auctions, ["dual"], terms)

    def lost(*given: Any) -> Any:
        raise RunError("the search did not end")

    monkeypatch.setattr("ctrkit.bidding.simulation.market_ledger.MarketLedger._shown", lost)
    found = simulate(auctions, ["dual"], terms)
    assert found.strategies[0].value == known.strategies[0].value
    assert found.optimum.value >= known.optimum.value
    assert found.optimum.upper_bound
    assert any("the search did not end" in note for note in found.notes)


def test_a_largest_bid_that_wins_nothing_is_told_as_such(tmp_path: Path, log: pl.DataFrame) -> None:
    def notes(*overrides: str) -> str:
        return " ".join(
            run(tmp_path, "strategies=[dual]", *overrides, market=None, auctions=log).to_dict()["notes"]
        )

    least, middle = float(log["market_price"].min()), float(log["market_price"].median())  # type: ignore[arg-type]
    none = notes(f"max_bid={least / 2}")
    assert "cannot win all of the 5,000 auctions" in none
    assert "does not bind" not in none
    some = notes(f"max_bid={middle}")
    assert "cannot win 2,500 of the 5,000 auctions" in some
    floor = notes(f"max_bid={middle}", f"auction.hard_floor={2 * middle}")
    assert "cannot win all of the 5,000 auctions" in floor
    assert "below their price or the hard floor" in floor


def test_clicks_of_auctions_that_are_worth_nothing_calibrate_nothing(
    tmp_path: Path, log: pl.DataFrame
) -> None:
    """They are of ads whose pCTR is 0, which no calibration moves."""
    clicked = log.filter(click=1).head(30).with_columns(pctr=0.0)
    table = pl.concat([clicked, log.filter(click=0).head(500)]).sort("timestamp")
    result = ctrkit.simulate_bidding(table, budget=1.0, out=tmp_path / "run", overrides=["strategies=[dual]"])
    assert not result.models
    assert not any("comparison" in note for note in result.notes)


def test_nothing_is_said_of_a_budget_where_nothing_is_worth_anything(
    tmp_path: Path, log: pl.DataFrame
) -> None:
    """Bidders believe in clicks that there are none of."""
    result = run(
        tmp_path, "strategies=[dual]", "shocks=['click-rate:factor=0']", market=None, auctions=log, budget=1.0
    )
    assert result.to_dict()["optimum"]["value"] == 0
    assert not any("does not bind" in note for note in result.notes)


@pytest.mark.parametrize(
    ("scale", "says"), [(0.0, "no strategy bought anything"), (1e-5, r"value: \d\.\d+e-0[67],")]
)
def test_the_answer_tells_little_from_nothing(
    tmp_path: Path, log: pl.DataFrame, scale: float, says: str
) -> None:
    # Without clicks, which would contradict these predictions.
    table = log.head(500).drop("click", "conversion", strict=False).with_columns(pctr=pl.lit(2e-3 * scale))
    result = run(tmp_path, "strategies=[dual]", market=None, auctions=table, budget=0.5)
    assert re.search(says, result.report().answer)
