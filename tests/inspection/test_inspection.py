"""What a table is taken for, on tables whose meaning is known."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.data.sources import SOURCES, recognised
from ctrkit.errors import ConfigError, DataError, DataWarning
from ctrkit.inspection import inspected, spread_rows
from ctrkit.inspection.first_config import PROPOSED
from tests.data.sources.official import MADE

SHARED = Path(__file__).parents[3] / "shared" / "data"


def log(rows: int = 3000) -> pl.DataFrame:
    """A log with a column of every kind, and three that no model may read."""
    rng = np.random.default_rng(0)
    click = rng.random(rows) < 0.1
    items = rng.integers(100, 160, rows)
    return pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(rows)],
            "event_time": pl.Series(1_700_000_000 + 60 * np.arange(rows)).cast(pl.Int64),
            "user_id": [f"u{i}" for i in rng.integers(0, 300, rows)],
            "item_id": items,
            "os": rng.choice(["ios", "android"], rows),
            "city": rng.choice([f"{one}, Land" for one in "ABCDEFGH"], rows),
            "price": rng.integers(1, 20, rows),
            "bid_floor": rng.lognormal(0, 2, rows),
            "seen_items": [
                "|".join(map(str, rng.integers(100, 160, rng.integers(0, 5)))) for _ in range(rows)
            ],
            "is_click": click * 1,
            "conversion": (click & (rng.random(rows) < 0.3)) * 1,
            "dwell": np.where(click, rng.exponential(10, rows), 0.0),
            "comment": [f"text number {i}" for i in range(rows)],
            "note": [None] * rows,
            "pctr": rng.random(rows),
        },
        schema_overrides={"note": pl.String},
    )


def test_columns_are_taken_for_what_they_are() -> None:
    found = {one.name: one for one in inspected(log())}
    roles = {name: one.role for name, one in found.items()}
    assert roles == {
        "event_id": "left out", "event_time": "time", "user_id": "group", "item_id": "feature",
        "os": "feature", "city": "feature", "price": "feature", "bid_floor": "feature",
        "seen_items": "feature", "is_click": "label 1", "conversion": "label 2", "dwell": "left out",
        "comment": "left out", "note": "left out", "pctr": "left out",
    }  # fmt: skip
    kinds = {
        name: found[name].kind
        for name in ("item_id", "os", "city", "price", "bid_floor", "seen_items", "note")
    }
    assert list(kinds.values()) == ["id", "category", "category", "number", "number", "list", "empty"]
    assert found["seen_items"].shares == "item_id"
    assert "known only after the is_click" in found["dwell"].why


@pytest.mark.slow
def test_the_first_config_trains_as_it_stands_and_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, spec = tmp_path / "log.csv", tmp_path / "spec.yaml"
    monkeypatch.chdir(tmp_path)
    log(1500).write_csv(file)
    done = CliRunner().invoke(app, ["inspect", str(file), "--out", str(spec), "--json"])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rows"] == 1500
    assert {"name", "kind", "missing", "distinct"} <= told["columns"][0].keys()
    assert told["config"] == spec.read_text()
    by_config = ctrkit.train(spec, network="lr")
    assert yaml.safe_load(told["config"])["features"]["labels"] == {
        "click": "is_click",
        "conversion": "conversion",
    }
    bare = ctrkit.train(data=file, network="lr")
    assert bare.metrics == by_config.metrics
    assert {one.name for one in bare.columns} == {*log().columns}
    assert "ctrkit inspect" in bare.notes[0]
    prepared = ctrkit.prepare(data=file, out=tmp_path / "prepared")
    assert prepared.notes[0] == bare.notes[0]
    assert ctrkit.train(data=tmp_path / "prepared", network="lr").metrics == bare.metrics


def test_the_files_of_a_public_data_set_train_without_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ratings, spec = tmp_path / "u.data", tmp_path / "spec.yaml"
    lines = [f"{row % 7}\t{row % 11}\t{1 + row % 5}\t{880000000 + row}" for row in range(300)]
    ratings.write_text("\n".join(lines))
    done = CliRunner().invoke(app, ["inspect", str(ratings), "--source", "movielens", "--out", str(spec)])
    assert done.exit_code == 0, done.stderr
    assert "ctrkit train --config" in done.stdout
    by_config = ctrkit.train(spec, network="lr")
    assert by_config.artifact.config["source"] == "movielens"
    roles = {one.name: one.role for one in ctrkit.inspect(ratings, source="movielens").columns}
    assert (roles["liked"], roles["rating"]) == ("label 1", "left out")
    for settings in ({"source": "movielens"}, {"overrides": ["source=movielens"]}):
        assert ctrkit.train(data=ratings, network="lr", **settings).metrics == by_config.metrics
    with pytest.raises(ConfigError, match="Did you mean 'movielens'"):
        ctrkit.inspect(ratings, source="movielen")


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.first_line is not None])
def test_a_public_data_set_is_recognised_by_its_file_and_its_folder(name: str, tmp_path: Path) -> None:
    MADE[name].write(tmp_path)
    main = tmp_path / MADE[name].main
    assert recognised(main) == recognised(tmp_path) == name
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(main, main.name)
    if main.suffix != ".parquet":
        assert recognised(tmp_path / "all.zip") == name
    main.write_text("user,clicked,price\n1,0,2\n")
    assert recognised(main) is None


def test_a_public_file_without_a_header_is_named_with_its_command(tmp_path: Path) -> None:
    MADE["criteo"].write(tmp_path)
    file = tmp_path / "train.txt"
    done = CliRunner().invoke(app, ["train", str(file), "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "this looks like the data set 'criteo' (Criteo's display ads)" in said
    for wanted, name in (("--config criteo", "criteo"), ("--set source=mind", "mind")):
        MADE[name].write(tmp_path / name)
        with pytest.raises(DataError) as error:
            ctrkit.inspect(tmp_path / name / MADE[name].main)
        assert wanted in str(error.value.hint)
    # A table that can be understood as it stands is, with a note.
    MADE["hillstrom"].write(tmp_path / "hillstrom")
    found = ctrkit.inspect(tmp_path / "hillstrom" / MADE["hillstrom"].main)
    assert "--config hillstrom" in found.report().notes[-1]


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    table = log(300).select("user_id", "os", "city", "item_id", "is_click", "bid_floor")
    file = tmp_path / "log.csv"
    table.write_csv(file, include_header=False)
    with pytest.raises(DataError, match="instead of column names") as error:
        ctrkit.inspect(file)
    assert "Add a header line" in str(error.value.hint)
    # Columns that are counted, and a value that is called as its column, are no values of a row.
    counted = log().select("os", "is_click", "price").rename({"os": "0", "is_click": "1", "price": "2"})
    assert inspected(counted.with_columns(pl.lit(None).alias("3")), "1")
    assert inspected(log().with_columns(os=pl.when(pl.col("is_click") == 1).then(pl.lit("os"))))


def test_the_report_and_the_first_config_are_in_the_run_folder(tmp_path: Path) -> None:
    file, folder = tmp_path / "log.parquet", tmp_path / "run"
    log(500).write_parquet(file)
    done = CliRunner().invoke(app, ["inspect", str(file), "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["out"] == str(folder / "first_config.yaml")
    assert told["config"] == (folder / "first_config.yaml").read_text()
    assert json.loads((folder / "metrics.json").read_text())["rows"] == 500
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == str(file)
    page = (folder / "report.html").read_text()
    assert "Left out, as they give the label away" in page
    assert {one.name for one in (folder / "figures").iterdir()} >= {"rate_os.svg", "rate_price.svg"}
    ctrkit.inspect(file, save=tmp_path / "own.yaml")
    assert (tmp_path / "own.yaml").read_text() == told["config"]
    assert {one.name for one in tmp_path.iterdir()} == {"log.parquet", "own.yaml", "run"}


def visits(rows: int = 2000) -> pl.DataFrame:
    """Lists of four items; users click on what they like, and on what is cheapest in its list."""
    rng = np.random.default_rng(0)
    lists = rows // 4
    user, item = rng.integers(0, 40, lists).repeat(4), rng.integers(0, 60, rows)
    price = rng.integers(1, 100, rows) + 1000 * rng.integers(1, 9, lists).repeat(4)
    likes = rng.random((40, 60)) < 0.2
    cheap = price.reshape(-1, 4).argmin(axis=1)[:, None] == np.arange(4)
    click = rng.random(rows) < 0.05 + 0.6 * likes[user, item] + 0.3 * cheap.ravel()
    return pl.DataFrame(
        {
            "impression_id": np.arange(lists).repeat(4), "user_id": user, "ad_id": item, "price": price,
            "timestamp": 1_700_000_000 + 60 * np.arange(lists).repeat(4), "click": click,
        }
    )  # fmt: skip


def test_histories_rates_and_ranks_are_proposed() -> None:
    table = visits()
    found = ctrkit.inspect(table)
    assert "derive" not in found.settings
    spec = yaml.safe_load(found.config.replace(PROPOSED, ""))
    steps = [(step["name"], step.get("by"), step.get("of")) for step in spec["derive"]]
    assert steps == [
        ("rate", "ad_id", None), ("rate", "user_id", None), ("history", "user_id", None),
        ("since", None, None), ("within", "impression_id", "price"),
    ]  # fmt: skip
    with_them, without = (ctrkit.train(one, table, network="lr") for one in (spec, found.settings))
    derived = {name for step in spec["derive"] for key in ("makes", "columns") for name in step.get(key, ())}
    named = [one["name"] for key in ("numeric", "sequences") for one in spec["features"][key]]
    assert derived <= {*named}
    assert with_them.metrics["click"]["log_loss"] < without.metrics["click"]["log_loss"] - 0.02
    later = table.tail(40).with_columns(click=None)
    rows = pl.concat([table, later], how="vertical_relaxed")
    with pytest.warns(DataWarning, match="put the rows before them"):
        assert ctrkit.predict(with_them.trained, rows).to_dict()["rows"] == rows.height


def test_nothing_is_proposed_that_cannot_be_derived() -> None:
    table = visits(400)
    for lacking in (["user_id", "impression_id"], ["timestamp", "impression_id"], ["ad_id", "impression_id"]):
        assert PROPOSED not in ctrkit.inspect(table.drop(lacking)).config
    # Rows of several users or times are no list.
    mixed = table.with_columns(impression_id=pl.int_range(pl.len()) % 50)
    assert "within" not in ctrkit.inspect(mixed).config
    taken = table.with_columns(past_clicks=pl.lit(1))
    assert PROPOSED not in ctrkit.inspect(taken).config
    # Lists of events that stand in the rows are the history.
    listed = table.with_columns(seen=pl.concat_list("ad_id"))
    assert "history:" not in ctrkit.inspect(listed).config
    assert "rate" in ctrkit.inspect(listed).config
    sums = table.with_columns(impressions=pl.lit(3), click=pl.col("click") * 1)
    assert PROPOSED not in ctrkit.inspect(sums).config


def test_outcomes_may_be_true_and_false() -> None:
    yes = [pl.col(name) == 1 for name in ("is_click", "conversion")]
    roles = {one.name: one.role for one in inspected(log().with_columns(yes))}
    assert (roles["is_click"], roles["conversion"]) == ("label 1", "label 2")


def test_numbers_in_text_are_no_times(tmp_path: Path) -> None:
    table = log(200).with_columns(at_time=pl.Series([str(1000 + row % 3) for row in range(200)]))
    assert next(one.kind for one in inspected(table) if one.name == "at_time") == "category"


def test_sums_of_impressions_are_recognised() -> None:
    rng = np.random.default_rng(0)
    shown = rng.integers(50, 200, 400)
    clicks = rng.binomial(shown, 0.1)
    table = pl.DataFrame(
        {
            "ad_id": rng.integers(0, 9, 400),
            "place": rng.choice(["a", "b"], 400),
            "impressions": shown,
            "clicks": clicks,
        }
    )
    roles = {one.name: one.role for one in inspected(table)}
    assert roles == {
        "ad_id": "feature",
        "place": "feature",
        "impressions": "impressions",
        "clicks": "label 1",
    }
    with pytest.raises(DataError, match="missing in 1 of 400 rows"):
        inspected(table.with_columns(clicks=pl.when(pl.int_range(pl.len()) > 0).then(pl.col("clicks"))))
    result = ctrkit.train(data=table, network="lr")
    assert result.metrics["click"]["pcoc"] == pytest.approx(1.0, abs=0.1)


def test_a_table_without_a_label_says_how_to_name_it() -> None:
    table = log().rename({"is_click": "outcome", "conversion": "other"})
    with pytest.raises(DataError, match=r"columns of 0 and 1: outcome, other") as caught:
        inspected(table, file="log.csv")
    assert caught.value.file == "log.csv"
    assert "--label" in str(caught.value.hint)
    roles = {one.name: one.role for one in inspected(table, "outcome")}
    assert roles["outcome"] == "label 1"
    with pytest.raises(DataError, match="lacks this column"):
        inspected(table, "clicked")


def test_what_would_be_read_wrongly_is_refused_or_left_out() -> None:
    table = log().with_columns(pl.col("price").cast(pl.String) + ",50")
    price = next(one for one in inspected(table) if one.name == "price")
    assert (price.role, "decimal comma" in price.why) == ("left out", True)
    word = pl.when(pl.col("is_click") == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))
    words = log().with_columns(is_click=word)
    with pytest.raises(DataError, match=r"name of a label, and holds 'no', 'yes'"):
        inspected(words, file="log.csv")


def test_outcomes_that_cannot_be_labels_are_no_features_either() -> None:
    def role(table: pl.DataFrame, name: str) -> tuple[str, str]:
        one = next(one for one in inspected(table) if one.name == name)
        return one.role, one.why

    table = log()
    other = table.with_columns(label=pl.col("is_click"))
    assert (role(other, "is_click")[0], role(other, "label")[0]) == ("label 1", "left out")
    broken = table.with_columns(conversion=1 - pl.col("is_click"))
    assert "without 'is_click'" in role(broken, "conversion")[1]
    gaps = table.with_columns(conversion=pl.when(pl.col("is_click") == 1).then(pl.col("conversion")))
    assert "write 0" in role(gaps, "conversion")[1]
    with pytest.raises(DataError, match="missing in 3 of 3,000 rows"):
        inspected(table.with_columns(is_click=pl.when(pl.int_range(pl.len()) > 2).then(pl.col("is_click"))))


def test_numbers_without_a_meaning_are_left_out_with_the_reason() -> None:
    table = log().with_columns(
        price=pl.when(pl.int_range(pl.len()) == 7).then(float("inf")).otherwise(pl.col("price")),
        seen_on=pl.lit("12.03.2024 12:05"),
    )
    table = table.with_columns(seen_on=pl.concat_str(pl.int_range(pl.len()) % 28 + 1, pl.lit(".03.2024")))
    why = {one.name: one.why for one in inspected(table) if one.role == "left out"}
    assert "infinite" in why["price"]
    assert "2024-03-10" in why["seen_on"]
    with pytest.raises(DataError, match="no column can be a feature"):
        inspected(table.select("is_click", "note", "seen_on"))


def test_rows_are_spread_over_a_file_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    pl.DataFrame({"row": range(100_000), "word": "x"}).write_csv(file)
    table, rows = spread_rows(file, most=1000)
    assert rows == 100_000
    assert 500 <= table.height <= 1000
    steps = table["row"].diff().drop_nulls()
    assert steps.n_unique() == 1
    assert table["row"][0] == 0


@pytest.mark.skipif(not SHARED.exists(), reason="the real logs are not here")
@pytest.mark.parametrize(
    ("name", "label", "group", "time"),
    [
        ("hillstrom.parquet", "visit", None, None),
        ("mind_impressions.parquet", "click", "user_id", "timestamp"),
        ("trivago_impressions.parquet", "click", "user_id", "timestamp"),
    ],
)
def test_real_logs_are_understood(name: str, label: str, group: str | None, time: str | None) -> None:
    table, _ = spread_rows(SHARED / name, most=20_000)
    by_role = {one.role: one.name for one in inspected(table)}
    assert (by_role.get("label 1"), by_role.get("group"), by_role.get("time")) == (label, group, time)


def test_lists_of_other_lengths_than_the_history_are_bags_and_uneven_numbers_are_left_out(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(1)
    table = log(2000).with_columns(
        seen_hours=pl.col("seen_items").str.extract_all(r"\d+").list.eval(pl.element().str.slice(2)),
        tags=pl.Series([rng.integers(0, 9, count).tolist() for count in rng.integers(0, 4, 2000)]),
        scores=pl.Series([rng.random(count).tolist() for count in rng.integers(1, 4, 2000)]),
    )
    found = {one.name: one for one in inspected(table)}
    kinds = {name: found[name].kind for name in ("seen_items", "seen_hours", "tags", "scores")}
    assert kinds == {"seen_items": "list", "seen_hours": "list", "tags": "bag", "scores": "numbers"}
    assert "other lengths than 'seen_items'" in found["tags"].why
    assert found["scores"].role == "left out"
    table.write_parquet(tmp_path / "log.parquet")
    ctrkit.inspect(tmp_path / "log.parquet", save=tmp_path / "first.yaml")
    config = yaml.safe_load((tmp_path / "first.yaml").read_text())
    assert [one["name"] for one in config["features"]["bags"]] == ["tags"]
    trained = ctrkit.train(tmp_path / "first.yaml", network="lr", overrides=["model.crosses=[]"]).trained
    assert [one.name for one in trained.spec.bags] == ["tags"]


def test_other_lists_of_items_are_events_of_another_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    table = log(2000)
    items = table["seen_items"].str.extract_all(r"\d+").to_list()
    bought = [events[: rng.integers(0, 3)] for events in items]
    paid = [rng.integers(0, 5, len(events)).tolist() for events in bought]
    table = table.with_columns(bought=pl.Series(bought), paid=pl.Series(paid))
    table.write_parquet(tmp_path / "log.parquet")
    ctrkit.inspect(tmp_path / "log.parquet", save=tmp_path / "first.yaml")
    config = yaml.safe_load((tmp_path / "first.yaml").read_text())
    domains = {one["name"]: one.get("domain") for one in config["features"]["sequences"]}
    assert domains == {"seen_items": None, "bought": "bought", "paid": "bought"}
    trained = ctrkit.train(tmp_path / "first.yaml", network="lr", overrides=["model.crosses=[]"]).trained
    assert [len(domain) for domain in trained.spec.domains] == [1, 2]
