"""Every column of an auction log changes a result, or a note says that it is not used and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.bidding.supply import price_model
from ctrkit.errors import DataError
from ctrkit.schema import AUCTION_LOG, CANDIDATE_PREFIX

N = 400


def log() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    click = rng.random(N) < 0.3
    price = np.round(rng.lognormal(0, 1, N), 2)
    return pl.DataFrame(
        {
            "timestamp": np.arange(N) * 400.0,
            "episode": np.arange(N) // 100,
            "market_price": price,
            "click": click.astype(int),
            "conversion": (click & (rng.random(N) < 0.5)).astype(int),
            "value": rng.integers(1, 9, N) * 1.0,
            "pctr": rng.uniform(0.05, 0.5, N),
            "pcvr": rng.uniform(0.1, 0.9, N),
            "user_id": rng.integers(0, 40, N),
            "slot_prices": np.stack([price, price / 2], axis=1).tolist(),
        }
    )


def other(table: pl.DataFrame, name: str) -> pl.DataFrame:
    """The same log with other values in one column."""
    column = pl.col(name)
    changed = {
        "timestamp": column + 5 * 3600,
        "market_price": column * 1.5 if "slot_prices" not in table.columns else column,
        "click": pl.max_horizontal("conversion", 1 - column) if "conversion" in table.columns else 1 - column,
        "conversion": column * 0,
        "pcvr": 1 - column,
        "user_id": column // 4,
        "slot_prices": pl.concat_list(column.list.first(), column.list.first() / 4)
        if table.schema[name].is_nested()
        else column,
        "candidates": column.list.reverse() if table.schema[name].is_nested() else column,
    }.get(name, column.reverse())
    return table.with_columns(changed.alias(name))


def ran(command: str, table: pl.DataFrame, given: dict[str, Any]) -> tuple[Any, list[str]]:
    """All that a command finds, and what it says of it."""
    if command == "plan-budget":
        plan = ctrkit.plan_budget(40.0, auctions=table, overrides=given["overrides"], model=given["model"])
        return plan.plan.lines.to_dicts(), list(plan.notes)
    overrides = ["strategies=[dual]", "compare_models=false", *given["overrides"]]
    result: Any = ctrkit.simulate_bidding(table, budget=40.0, overrides=overrides, model=given["model"])
    content = result.to_dict()
    notes = content.pop("notes")
    return (content, result.simulation.events.to_dicts()), notes


SETTINGS = {
    "plain": (),
    "a value of clicks": ("value_per_click=2",),
    "a cap": ("frequency_cap=1",),
    "seeds": ("seeds=2",),
    "episodes": ("episode_length=100",),
    "days": ("daily_budget=20",),
    "slots": ("auction.price=gsp", "auction.slot_effects=[1, 0.5]"),
}
COMMANDS = ("simulate-bidding", "plan-budget")
CASES = [
    *(("simulate-bidding", name, ()) for name in SETTINGS),
    ("plan-budget", "plain", ()),
    ("plan-budget", "a value of clicks", ()),
    *(
        (command, "plain", lacking)
        for command in COMMANDS
        for lacking in (("pcvr",), ("value",), ("conversion",), ("click", "conversion"))
    ),
]


@pytest.mark.parametrize(("command", "settings", "lacking"), CASES)
def test_a_column_changes_a_result_or_is_said_not_to(
    command: str, settings: str, lacking: tuple[str, ...]
) -> None:
    check(command, log().drop(*lacking), {"overrides": list(SETTINGS[settings]), "model": None})


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("lists", [True, False])
def test_with_a_model(command: str, lists: bool, trained: Path, logs: Path) -> None:
    sample = pl.read_parquet(logs / "auctions.parquet").head(N)
    of_candidates = [name for name in sample.columns if name.startswith((CANDIDATE_PREFIX, "true_"))]
    if not lists:
        firsts = [
            pl.col(name).list.first().alias(name.removeprefix(CANDIDATE_PREFIX))
            for name in of_candidates
            if name.startswith(CANDIDATE_PREFIX)
        ]
        sample = sample.with_columns(pl.col("candidates").list.first().alias("ad_id"), *firsts)
        sample = sample.drop("candidates", *of_candidates)
    ours = log().select("click", "conversion", "value", "pctr", "pcvr", "episode")
    table = pl.concat([sample.drop(ours.columns, strict=False), ours], how="horizontal")
    check(command, table, {"overrides": [], "model": trained})


def check(command: str, table: pl.DataFrame, given: dict[str, Any]) -> None:
    before, notes = ran(command, table, given)
    for column in AUCTION_LOG.columns:
        if column.name not in table.columns:
            continue
        changed = other(table, column.name)
        assert not changed.equals(table) or column.name == "market_price"
        told = any(f"{column.name} (" in note or f"The log's {column.name} " in note for note in notes)
        after, _ = ran(command, changed, given)
        assert (after != before) or told or column.name == "market_price", column.name
        if any(f"{column.name} (" in note for note in notes):
            assert after == before, f"{column.name} is used after all"


def test_the_log_s_conversions_make_values() -> None:
    table = log()
    (one,) = ctrkit.simulate_bidding(
        table,
        budget=1e6,
        overrides=["strategies=['constant:bid_amount=1000']", "compare_models=false"],
    ).simulation.strategies
    assert one.value == pytest.approx((table["pctr"] * table["pcvr"] * table["value"]).sum())
    assert one.earned == pytest.approx((table["conversion"] * table["value"]).sum())


def test_a_name_next_to_a_known_one_is_told(tmp_path: Path) -> None:
    table = log().rename({"click": "Clicks", "user_id": "userID"})
    result = ctrkit.simulate_bidding(
        table, budget=4.0, overrides=["strategies=[dual]", "compare_models=false"]
    )
    said = [note for note in result.to_dict()["notes"] if "is not read as that" in note]
    assert len(said) == 2
    assert "no column 'click' (whether the impression was clicked). Its column 'Clicks'" in said[0]
    past = tmp_path / "past.parquet"
    log().rename({"value": "Value"}).write_parquet(past)
    tuned = ctrkit.simulate_bidding(
        log(), budget=4.0,
        overrides=["strategies=[dual]", "compare_models=false", f"history={past}"],
    )  # fmt: skip
    assert any(note.startswith("History: The log has no column 'value'") for note in tuned.to_dict()["notes"])


# --- lists of candidates ---


@pytest.fixture
def lists(logs: Path) -> pl.DataFrame:
    """A log of which the later chunks have shorter lists than the first ones."""
    return pl.read_parquet(logs / "auctions.parquet").head(3000)


def cut(table: pl.DataFrame, length: pl.Expr) -> pl.DataFrame:
    names = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
    return table.with_columns(pl.col(name).list.head(length) for name in names)


@pytest.mark.parametrize("shorter", [1, 3])
def test_lists_of_any_length_in_any_chunk(lists: pl.DataFrame, shorter: int, trained: Path) -> None:
    row = pl.int_range(pl.len())
    whole = pl.col("candidates").list.len()
    table = cut(lists, pl.when(row < 2048).then(shorter).otherwise(whole))
    given = {
        "budget": 50.0,
        "model": trained,
        "overrides": ["strategies=[dual,thompson]", "compare_models=false"],
    }
    result = ctrkit.simulate_bidding(table, **given)
    events = result.simulation.events
    assert events.filter(pl.col("auction") < 2048)["ad"].max() <= shorter - 1
    assert events["ad"].max() > shorter
    plan = ctrkit.plan_budget(50.0, auctions=table, model=trained)
    assert plan.plan.spend == pytest.approx(50.0)
    chances = events.filter(strategy="thompson")["chances"].drop_nulls()
    assert chances.list.sum().to_list() == pytest.approx([1.0] * len(chances))


def test_a_list_of_another_length_is_named_by_its_row_in_the_log(lists: pl.DataFrame, trained: Path) -> None:
    here = pl.int_range(pl.len()) == 2500
    for name in ("true_click", "candidate_value", "candidate_ad_advertiser"):
        wrong = pl.when(here).then(pl.col(name).list.head(2)).otherwise(pl.col(name)).alias(name)
        with pytest.raises(DataError, match="not as long as the list of candidates") as error:
            ctrkit.simulate_bidding(lists.with_columns(wrong), trained)
        assert (error.value.column, error.value.row) == (name, 2500)


# --- what is not there, not whole or too dear ---


def said(table: pl.DataFrame, *overrides: str, budget: float = 5.0) -> list[str]:
    settings = ["strategies=[dual,truthful]", "compare_models=false", *overrides]
    result: Any = ctrkit.simulate_bidding(table, budget=budget, overrides=settings)
    result.report()  # the figures too
    return result.to_dict()["notes"]


def test_a_column_under_two_names_is_told() -> None:
    notes = said(log().with_columns(clicked=0))
    assert any("clicked (click is read)" in note for note in notes)


def test_auctions_without_a_user_are_of_users_of_their_own() -> None:
    unknown = (
        pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.col("user_id")).alias("user_id")
    )
    table = log().with_columns(unknown)
    notes = said(table, "frequency_cap=1")
    assert "100 auctions have no user; each of them counts as a new user." in notes
    named = table.with_columns(pl.col("user_id").fill_null(1000 + pl.int_range(pl.len())))
    found = [
        ctrkit.simulate_bidding(
            one, budget=1e6,
            overrides=["strategies=['constant:bid_amount=1000']", "compare_models=false", "frequency_cap=1"],
        ).simulation
        for one in (table, named)
    ]  # fmt: skip
    assert found[0].strategies == found[1].strategies
    assert found[0].strategies[0].wins == 100 + table["user_id"].drop_nulls().n_unique()


def test_a_day_that_is_not_whole_has_a_whole_day_s_budget_and_says_so() -> None:
    notes = said(log(), "daily_budget=2")
    part = "The log covers 1 of 2 days only in part (one of them for 20.4 hours); each of them has the budget"
    assert f"{part} of a whole day." in notes
    later = pl.col("timestamp") + pl.when(pl.int_range(pl.len()) < 216).then(0).otherwise(3 * 86400)
    gap = said(log().with_columns(later.alias("timestamp")), "daily_budget=2")
    assert "3 of 5 days have no auctions and count as gaps in the log." in gap
    assert not any("only in part" in note for note in said(log().head(216), "daily_budget=2"))


@pytest.mark.parametrize(
    ("overrides", "budget", "dear"),
    [(("auction.hard_floor=1e9",), 5.0, 1.0), ((), 1e-6, 1.0), ((), 5.0, 1000.0), ((), 5.0, 1e-300)],
)
def test_who_won_nothing_is_told_what_it_bid_and_what_was_asked(
    overrides: tuple[str, ...], budget: float, dear: float
) -> None:
    table = log().drop("slot_prices").with_columns(pl.col("market_price") * dear)
    notes = [note for note in said(table, *overrides, budget=budget) if "won nothing" in note]
    assert len(notes) == (0 if dear < 1 else 2)


def test_a_resample_of_too_few_auctions_is_told() -> None:
    notes = said(log().head(1), "seeds=9")
    assert any("a resample of the log's 1 auctions has no auctions" in note for note in notes)


def test_a_count_under_another_name_is_not_left_out(tmp_path: Path) -> None:
    file = tmp_path / "prices.parquet"
    pl.DataFrame({"market_price": [1.0, 2.0], "Count": [9, 1]}).write_parquet(file)
    with pytest.raises(DataError, match="Call it count if it is how often it occurred"):
        price_model(f"histogram:file={file}")
