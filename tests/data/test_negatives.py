"""Sampled negatives: against plain Python for what may be drawn, and chi-square for how often it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from ctrkit.config import settings_of
from ctrkit.data import raw_table
from ctrkit.data.item_draws import ItemDraws, LogRows
from ctrkit.data.negatives import WithNegatives, with_negatives
from ctrkit.data.raw_table import RawTable
from ctrkit.data.sampling import NegativesConfig
from ctrkit.data.split import Split, SplitConfig, split_rows
from ctrkit.errors import ConfigError, DataError
from ctrkit.schema import FeatureSpec

FEATURES = {
    "labels": {"click": "click", "buy": "buy"},
    "categorical": [{"name": n} for n in ("item", "category", "user", "device")],
    "numeric": [{"name": "price"}],
    "bags": [{"name": "tags"}],
    "sequences": [{"name": "past", "shares": "item"}],
    "group": "user",
    "timestamp": "time",
}
SPEC = FeatureSpec.model_validate(FEATURES)


def clicks(rows: int = 600, items: int = 25, users: int = 100, seed: int = 0) -> pl.DataFrame:
    """Clicks alone, at times with ties; the later half of the items comes late; some ids are missing."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(1_000, 1_200, rows))
    there = np.where(time < 1_080, items // 2, items)
    item = (rng.beta(0.6, 1.5, rows) * there).astype(int)
    user = rng.integers(0, users, rows)
    return pl.DataFrame(
        {
            "time": time,
            "item": pl.Series([None if i % 97 == 5 else f"i{n}" for i, n in enumerate(item)]),
            "user": pl.Series([None if i % 83 == 7 else n for i, n in enumerate(user)], dtype=pl.Int64),
            "category": item % 4,
            "price": (item * 7 % 5).astype(float),
            "tags": [[f"t{n % 3}", f"t{n % 5}"] for n in item],
            "device": rng.integers(0, 3, rows),
            "past": [["i1", "i2"][: i % 3] for i in range(rows)],
            "click": np.ones(rows, dtype=int),
            "buy": rng.integers(0, 2, rows),
        }
    )


def sampled(table: pl.DataFrame, spec: FeatureSpec = SPEC, seed: int = 3, **settings: Any) -> WithNegatives:
    config = NegativesConfig(**settings)
    split = split_rows(spec, SplitConfig(train=0.6, valid=0.2), table, 0)
    return with_negatives(RawTable(spec, table), config, split, table, seed)


def allowed(rows: list[dict[str, Any]], settings: dict[str, Any], row: int) -> Counter[str]:
    """By the rules in plain words: item -> its positives, of the items that a row may get."""
    mine = rows[row]
    known = [one for one in rows if one["part"] <= mine["part"] and one["item"] is not None]
    first = {one["item"]: one["time"] for one in reversed(known)}
    found = Counter(one["item"] for one in known if first[one["item"]] <= mine["time"])
    if settings.get("by") == "session":
        there = {one["item"] for one in known if one["user"] == mine["user"] is not None}
        return Counter({name: 1 for name in found if name in there and name != mine["item"]})
    if settings.get("exclude_known") is not False and mine["user"] is not None:
        for one in known:
            if one["user"] == mine["user"]:
                found.pop(one["item"], None)
    found.pop(mine["item"], None)
    return found


RULES: list[dict[str, Any]] = [
    {"by": "uniform"},
    {"by": "popularity", "corrected": True},
    {"by": "popularity", "exclude_known": False},
    {"by": "session"},
]


@pytest.mark.parametrize("settings", RULES)
def test_only_what_the_rules_allow_is_drawn(settings: dict[str, Any]) -> None:
    table = clicks()
    found = sampled(table, per_positive=6, **settings)
    rows = found.whole()
    of_item = {one["item"]: one for one in table.filter(pl.col("item").is_not_null()).to_dicts()}
    log = table.with_columns(part=pl.Series(found.parts)).to_dicts()
    assert rows.table.height == found.times_read.sum()
    for row in range(0, table.height, 3):
        may = allowed(log, settings, row)
        count = 6 if may else 0
        assert found.times_read[row] == 1 + count
        place = found.starts[row]
        group = rows.table[place : place + 1 + count].to_dicts()
        assert {k: group[0][k] for k in SPEC.columns} == {k: log[row][k] for k in SPEC.columns}
        for one in group[1:]:
            assert one["item"] in may
            assert (one["click"], one["buy"]) == (0, 0)
            assert all(one[k] == log[row][k] for k in ("time", "user", "device", "past"))
            assert all(one[k] == of_item[one["item"]][k] for k in ("category", "price", "tags"))
    assert found.lonely < 0.3 * table.height
    # A negative is in the part of its positive.
    split = found.split(Split(*(np.flatnonzero(found.parts == p) for p in range(3)), "time"))  # type: ignore[call-arg,arg-type]
    np.testing.assert_array_equal(split.parts, found.parts[found.sources])


@pytest.mark.parametrize("settings", RULES)
def test_items_are_drawn_as_often_as_they_should(settings: dict[str, Any]) -> None:
    table = clicks(items=12)
    config = NegativesConfig(per_positive=40_000, **settings)
    numbers = table["item"].str.slice(1).cast(pl.Int64).fill_null(-1).to_numpy()
    users = table["user"].fill_null(pl.int_range(100, 700)).to_numpy()
    units = np.arange(600) if settings.get("exclude_known") is False else users
    log = LogRows(numbers, units, table["time"].to_numpy().astype(float), np.ones(600, dtype=bool))
    draws = ItemDraws(log, np.ones(600, dtype=bool), config, seed=1)
    chosen, rows = 0, table.with_columns(part=0).to_dicts()
    for row in range(5, 600, 7):
        may = allowed(rows, settings, row)
        if len(may) < 3 or chosen == 5:
            continue
        chosen += 1
        power = config.power if config.by == "popularity" else 0.0
        weights = {int(name[1:]): count**power for name, count in may.items()}
        drawn, counts = draws.draw(np.array([row]))
        seen = Counter(drawn[0].tolist())
        assert set(seen) == set(weights)
        expected = np.array(list(weights.values())) / sum(weights.values()) * 40_000
        assert chisquare([seen[name] for name in weights], expected).pvalue > 1e-3
        # Corrected, every item counts alike in the mean.
        if config.corrected:
            sums = np.bincount(drawn[0], counts[0], minlength=12)[list(weights)]
            np.testing.assert_allclose(sums / 40_000, 1.0 / len(weights), rtol=0.1)
    assert chosen == 5


def test_sums_are_exact_and_draws_depend_on_the_row_alone() -> None:
    table = clicks()
    found = sampled(table, by="popularity", corrected=True)
    draws = found.draws[0]
    rows = np.flatnonzero((found.parts == 0) & (found.times_read > 1))
    whole = draws.draw(rows)
    for some in (rows[::7], rows[50:51]):
        alone = draws.draw(some)
        places = np.searchsorted(rows, some)
        np.testing.assert_array_equal(alone[0], whole[0][places])
        np.testing.assert_array_equal(alone[1], whole[1][places])
    other = sampled(table, seed=4).draws[0].draw(rows)
    assert (other[0] != sampled(table).draws[0].draw(rows)[0]).mean() > 0.5


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_chunks_of_any_size_and_files_give_the_same_rows(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.model_copy(update={"bags": ()})
    table = clicks().with_columns(pl.col("past", "tags").list.join("|"))
    whole = sampled(table, spec, by="popularity", corrected=True).whole()
    table.write_parquet(file := tmp_path / "log.parquet") if kind == "parquet" else table.write_csv(
        file := tmp_path / "log.csv"
    )
    monkeypatch.setattr(raw_table, "ROWS", 37)
    split = split_rows(spec, SplitConfig(train=0.6, valid=0.2), table, 0)
    config = NegativesConfig(by="popularity", corrected=True)
    found = with_negatives(RawTable(spec, file), config, split, table, 3)
    chunks = list(found.chunks(spec.columns))
    assert len(chunks) == 17
    assert [one.start for one in chunks] == np.cumsum([0, *(one.table.height for one in chunks)])[
        :-1
    ].tolist()
    counts = np.concatenate([one.counts for one in chunks if one.counts is not None])
    np.testing.assert_array_equal(counts, whole.counts)
    text = pl.concat([one.table.cast(pl.String) for one in chunks])
    assert text["item"].equals(whole.table["item"])
    for name in ("category", "price", "click", "past"):
        assert (
            text[name]
            .cast(pl.Float64, strict=False)
            .fill_null(0.0)
            .equals(whole.table[name].cast(pl.Float64, strict=False).fill_null(0.0))
        )


def test_a_fault_is_told_with_its_row_in_the_log() -> None:
    table = clicks().with_columns(price=pl.when(pl.col("time") > 1_150).then(float("inf")).otherwise("price"))
    rows = sampled(table, features=("category",)).whole()
    place = int(np.argmax(np.isinf(rows.table["price"].to_numpy())))
    row = int(np.argmax(np.isinf(table["price"].to_numpy())))
    assert DataError("a fault", file=rows.file, row=place).row == row < place
    assert str(DataError("a fault", file=rows.file, row=place)) == f"row index {row}: a fault."


def test_logged_negatives_can_be_replaced() -> None:
    table = clicks().with_columns(click=pl.Series(np.arange(600) % 3 > 0), buy=0)
    found = sampled(table, replace_logged=True)
    rows = found.whole()
    assert (found.times_read[~table["click"].to_numpy()] == 0).all()
    assert int(rows.table["click"].sum()) == 400
    liked = {row["item"] for row in table.filter("click").to_dicts()}
    assert set(rows.table["item"]) <= liked
    # In a session, items that were seen and not taken are drawn too.
    of_session = sampled(table, replace_logged=True, by="session").whole().table
    shown = table.filter(~pl.col("click")).select("user", "item")
    assert of_session.filter(click=0).join(shown, on=["user", "item"]).height > 100


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        ({"click": 0, "buy": pl.lit(0)}, {}, DataError, "negative.*logs of positives alone.*replace_logged"),
        ({"item": pl.lit("i1")}, {"per_positive": 1}, DataError, "1 items, too few for 1 negatives"),
        ({}, {"per_positive": 25}, DataError, "25 items, too few for 25"),
        ({}, {"item": "articel"}, DataError, "articel"),
        ({}, {"user": "usr"}, DataError, "usr"),
        ({}, {"item": "user"}, ConfigError, "another role"),
        ({}, {"features": ("pric",)}, ConfigError, "Did you mean 'price'"),
        ({"price": pl.int_range(600) % 2, "device": pl.lit(1), "category": "user"}, {}, None, ""),
        ({"item": pl.int_range(600)}, {}, DataError, r"cannot be told which features.*negatives\.features"),
    ],
)
def test_what_cannot_be_sampled_is_told(
    change: dict[str, Any], settings: dict[str, Any], error: type[Exception] | None, message: str
) -> None:
    table = clicks().with_columns(**{n: pl.lit(v) if n == "click" else v for n, v in change.items()})
    if error is None:
        assert set(sampled(table, **settings).moved) == {"tags"}
        return
    with pytest.raises(error, match=message):
        sampled(table, **settings)


def test_a_feature_of_item_and_user_alike_must_be_named() -> None:
    table = clicks().filter(pl.col("user").is_not_null(), pl.col("item").is_not_null())
    table = table.with_columns(item=pl.col("item") + "-" + (pl.col("user") % 2).cast(pl.String))
    table = table.with_columns(device=pl.col("user") % 2)
    with pytest.raises(DataError, match=r"device.*cannot be told to which it belongs"):
        sampled(table)
    assert sampled(table, features=("category", "tags", "price")).moved == ("category", "tags", "price")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_positive": 0}, "must be at least 1"),
        ({"per_positive": -3}, "must be at least 1"),
        ({"by": "popular"}, "popularity"),
        ({"power": 2}, "must be at most 1"),
        ({"corrected": True}, "only negatives that are drawn by popularity"),
        ({"by": "session", "exclude_known": True}, "items of a session are known"),
        ({"session": "visit"}, "only with by: session"),
        ({"positives": 3}, "unknown key"),
    ],
)
def test_faulty_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(NegativesConfig, settings)


def test_roles_that_are_missing_are_asked_for() -> None:
    bare = FeatureSpec.model_validate({**FEATURES, "sequences": [], "group": None})
    for settings, message in (
        ({}, r"Set sampling\.negatives\.item"),
        ({"item": "item", "exclude_known": True}, r"Set sampling\.negatives\.user"),
        ({"item": "item", "by": "session"}, r"Set sampling\.negatives\.session"),
    ):
        with pytest.raises(ConfigError, match=message):
            sampled(clicks(), bare, **settings)
    assert sampled(clicks(), bare, item="item").times_read.max() == 5


def test_an_item_and_a_user_are_enough() -> None:
    spec = FeatureSpec.model_validate({"categorical": [{"name": "user"}, {"name": "item"}], "group": "user"})
    table = clicks().select("user", "item", "click")
    found = sampled(table, spec, item="item")
    assert found.moved == ()
    rows = found.whole().table
    assert rows.columns == ["user", "item", "click"]
    assert rows["click"].sum() == 600
