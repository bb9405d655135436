"""Official files under any of their names, and what the readers make of their rows."""

from __future__ import annotations

import bz2
import gzip
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrkit.data.sources import open_bandit, source_tables
from ctrkit.data.sources.ipinyou import LOG
from ctrkit.errors import DataError
from ctrkit.schema import AUCTION_LOG
from tests.data.sources.official import MADE, text

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_logs = pytest.mark.skipif(not DATA.exists(), reason="the real logs are not here")


def read_source(name: str, path: Path) -> pl.DataFrame:
    """The rows of a data set."""
    return source_tables(name, path).rows.collect()


def packed(folder: Path, how: str) -> Path:
    """The file `train.txt` of a folder, packed; what is left to read."""
    file = folder / "train.txt"
    content = file.read_bytes()
    if how == "gz":
        (folder / "train.txt.gz").write_bytes(gzip.compress(content))
    elif how == "bz2":
        (folder / "train.txt.bz2").write_bytes(bz2.compress(content))
    elif how == "zip":
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            archive.write(file, "dac/train.txt")
            archive.writestr("dac/readme.txt", "…")
    elif how == "tar.gz":
        with tarfile.open(folder / "dac.tar.gz", "w:gz") as archive:
            archive.add(file, "./train.txt")
    else:
        return file
    file.unlink()
    return next(folder.iterdir())


@pytest.mark.parametrize("how", ["plain", "gz", "bz2", "zip", "tar.gz"])
def test_a_file_is_found_in_its_folder_and_read_under_any_packing(tmp_path: Path, how: str) -> None:
    MADE["criteo"].write(tmp_path)
    whole = read_source("criteo", tmp_path)
    file = packed(tmp_path, how)
    assert read_source("criteo", file).equals(whole)
    assert read_source("criteo", file.parent).equals(whole)


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MADE["criteo"].write(tmp_path)
    whole = read_source("criteo", tmp_path)
    monkeypatch.setattr("ctrkit.tables.scanning.BLOCK", 500)
    assert read_source("criteo", tmp_path).equals(whole)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1,2,3,pv", "row index 5: the row has 4 values"),
        ("1,2,3,pv,9,9", "row index 5: the row has 6 values"),
        ("1,2,x,pv,9", "column 'category_id', row index 5: 'x' is not a whole number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrkit.tables.scanning.BLOCK", 40)
    text(tmp_path / "UserBehavior.csv", *["1,2,3,pv,1511658000"] * 5, row, "1,2,3,pv,1511658000")
    with pytest.raises(DataError) as error:
        read_source("userbehavior", tmp_path)
    assert f"UserBehavior.csv, {said}" in str(error.value)
    with pytest.raises(DataError, match=r"row index 5"):
        source_tables("userbehavior", tmp_path).rows.select("category_id").collect()


def test_blank_lines_are_no_rows_whatever_is_read(tmp_path: Path) -> None:
    text(tmp_path / "UserBehavior.csv", "1,2,3,pv,1511658000", "", " ", "1,2,,pv,1511658000", "", "")
    rows = source_tables("userbehavior", tmp_path).rows
    assert rows.select("category_id").collect().to_series().to_list() == [3, None]
    assert rows.select(pl.len()).collect().item() == rows.collect().height == 2


def test_another_delimiter_and_other_columns_are_named(tmp_path: Path) -> None:
    MADE["taobaoad"].write(tmp_path)
    file = tmp_path / "ad_feature.csv"
    whole = file.read_text()
    for spoilt, said in {
        whole.replace(",", ";"): "the first line has no comma",
        whole.replace("brand,", "mark,"): "column 'brand': the header lacks this column",
        whole.replace("price", "price,colour"): "column 'colour': the official file has no such column",
        whole.replace("price", "price,brand"): "column 'brand': the header names this column twice",
        whole + "5,1,1,1,1,1\n": "column 'adgroup_id': the id 5 is there twice",
    }.items():
        file.write_text(spoilt)
        with pytest.raises(DataError) as error:
            read_source("taobaoad", tmp_path)
        assert f"{file}" in str(error.value)
        assert said in str(error.value)


def test_side_tables_join_their_rows(tmp_path: Path) -> None:
    MADE["taobaoad"].write(tmp_path)
    rows = read_source("taobaoad", tmp_path)
    assert rows["user"].to_list() == [*(row % 2 for row in range(39)), 4]
    prices = [None if ad == 6 else ad * 10 + 0.5 for ad in rows["adgroup_id"]]
    assert rows["price"].to_list() == prices
    assert rows["new_user_class_level"].to_list() == [None if user == 4 else user for user in rows["user"]]
    assert rows.filter(pl.col("adgroup_id") == 3)["brand"].null_count() == 19
    events = source_tables("taobaoad", tmp_path).events["behavior"].collect()
    assert events.rows() == [(0, 1493741625, "pv", 0, 95471), (1, 1493741626, "buy", 1, 95471)]


def test_a_purchase_counts_for_views_before_it(tmp_path: Path) -> None:
    seen = [
        (1, 1, "pv", 100),
        (1, 1, "pv", 300),
        (1, 2, "pv", 100),
        (2, 1, "pv", 100),
        (2, 2, "pv", -(10**9)),
    ]
    done = [(1, 1, "buy", 50), (1, 1, "buy", 200), (1, 2, "cart", 200)]
    lines = [f"{user},{item},9,{what},{1511658000 + at}" for user, item, what, at in (*seen, *done)]
    text(tmp_path / "UserBehavior.csv", *lines)
    rows = read_source("userbehavior", tmp_path)
    assert rows["conversion"].to_list() == [1, 0, 0, 0]
    assert rows.columns == ["user_id", "item_id", "category_id", "timestamp", "conversion"]


def test_buckets_of_criteo(tmp_path: Path) -> None:
    numbers = [*(str(number) for number in (-2, 0, 2, 3, 100, 23159456)), *[""] * 7]
    text(tmp_path / "train.txt", "\t".join(["1", *numbers, *["0a"] * 26]))
    row = read_source("criteo", tmp_path).row(0, named=True)
    expected = [-2, 0, 2, *(int(np.log(number) ** 2) for number in (3, 100, 23159456))]
    assert [row[f"I{place}_bucket"] for place in range(1, 7)] == expected
    assert row["I7_bucket"] is None


def test_times_of_avazu(tmp_path: Path) -> None:
    MADE["avazu"].write(tmp_path)
    rows = read_source("avazu", tmp_path)
    # 21 October 2014 was a Tuesday.
    assert rows.row(7, named=True)["hour_of_day"] == 7
    assert rows["weekday"].to_list() == [2] * 20 + [3] * 20
    assert rows["weekend"].sum() == 0


@needs_logs
@pytest.mark.parametrize(
    ("name", "file", "rows"), [("criteo", "criteo_10k.txt.gz", 10_000), ("avazu", "avazu_10k.csv.gz", 8999)]
)
def test_real_rows_are_as_polars_reads_them(name: str, file: str, rows: int) -> None:
    found = read_source(name, DATA / file)
    by_polars = pl.read_csv(
        DATA / file,
        separator="\t" if name == "criteo" else ",",
        has_header=name == "avazu",
        infer_schema=False,
    )
    assert found.height == by_polars.height == rows
    for ours, theirs in zip(found.iter_columns(), by_polars.iter_columns(), strict=False):
        assert ours.cast(pl.String).to_list() == theirs.to_list()


@needs_logs
def test_real_views_of_taobao(tmp_path: Path) -> None:
    log = pl.read_parquet(DATA / "userbehavior_sample.parquet")
    log.write_csv(tmp_path / "UserBehavior.csv", include_header=False)
    rows = read_source("userbehavior", tmp_path)
    # One view has the time 15, of 1970.
    assert rows.height == (log["behavior"] == "pv").sum() - 1
    bought = {}
    for user, item, _, behavior, at in log.iter_rows():
        if behavior == "buy":
            bought[user, item] = max(at, bought.get((user, item), 0))
    pairs = zip(rows["user_id"], rows["item_id"], rows["timestamp"], strict=True)
    assert rows["conversion"].to_list() == [int(bought.get((u, i), -1) >= t) for u, i, t in pairs]


@pytest.mark.slow
@needs_logs
def test_real_lists_of_trivago_are_those_that_were_made_before(tmp_path: Path) -> None:
    pl.read_parquet(DATA / "trivago_actions.parquet").write_csv(tmp_path / "train.csv")
    ours, known = source_tables("trivago", tmp_path), source_tables("trivago", DATA)
    assert known.rows.collect().equals(ours.rows.collect())
    assert known.events["actions"].collect().equals(ours.events["actions"].collect())


def test_lists_of_trivago_become_rows(tmp_path: Path) -> None:
    MADE["trivago"].write(tmp_path)
    rows = read_source("trivago", tmp_path)
    assert rows.select("event_id", "position", "item_id", "price", "click").rows() == [
        (1, 1, 8, 55, 0), (0, 1, 101, 71, 0), (0, 2, 102, 107, 1), (0, 3, 103, 60, 0),
    ]  # fmt: skip
    assert rows["city"].to_list() == ["Bern, Switzerland"] + ["Marseille, France"] * 3
    actions = source_tables("trivago", tmp_path).events["actions"].collect()
    assert actions.select("action", "item_id").rows() == [
        ("image", 101), ("clickout item", 102), ("change of sort order", None), ("clickout item", 7),
    ]  # fmt: skip


@needs_logs
def test_real_lists_of_mind(tmp_path: Path) -> None:
    """The rows of lists, against those that were made of the same file before."""
    (tmp_path / "behaviors.tsv.gz").write_bytes((DATA / "mind_behaviors_5k.tsv.gz").read_bytes())
    text(tmp_path / "news.tsv", "\t".join(["N138", *"abcdefg"]))
    rows = read_source("mind", tmp_path)
    known = pl.read_parquet(DATA / "mind_impressions.parquet")
    columns = ["event_id", "user_id", "timestamp", "news_id", "click"]
    ours = rows.rename({"impression_id": "event_id"}).select(columns)
    assert ours.sort(columns).equals(known.select(columns).sort(columns))
    assert rows.filter(pl.col("news_id") == "N138")["category"].drop_nulls().unique().to_list() in ([], ["a"])


def test_lists_of_mind_become_rows(tmp_path: Path) -> None:
    MADE["mind"].write(tmp_path)
    rows = read_source("mind", tmp_path)
    assert rows["news_id"].to_list() == ["N1", "N2", "N3", "N1", "N4"]
    assert rows["click"].to_list() == [0, 1, 0, 1, 0]
    assert rows["position"].to_list() == [0, 1, 2, 0, 1]
    assert rows["history"].to_list() == [["N8", "N9"]] * 3 + [[]] * 2
    assert rows["timestamp"].to_list() == [1573568086] * 3 + [1573516800] * 2
    assert rows["title"].to_list() == ['The "news 1', 'The "news 2', 'The "news 3', 'The "news 1', None]


def test_fields_of_aliccp(tmp_path: Path) -> None:
    MADE["aliccp"].write(tmp_path)
    rows = read_source("aliccp", tmp_path)
    assert rows["split"].to_list() == ["train", "train", "test"]
    assert rows["205"].to_list() == [4, 4, 4]
    assert rows["210"].to_list() == [[7, 8]] * 3
    assert rows["101"].to_list() == [31, 31, 32]
    assert rows["127"].to_list() == [3, 3, None]
    assert rows["127_14"].to_list() == [[5, 6], [5, 6], []]
    assert rows["853"].null_count() == 3


@pytest.mark.parametrize(
    ("name", "main", "side"),
    [
        ("movielens", "ratings.csv", "movies.csv"),
        ("taobaoad", "raw_sample.csv", "ad_feature.csv"),
        ("kuairand", "log_standard_4_08_to_4_21_pure.csv", "user_features_pure.csv"),
        ("mind", "behaviors.tsv", "news.tsv"),
        ("recbole", "ml-1m.inter", "ml-1m.item"),
    ],
)
def test_the_file_of_the_rows_finds_the_tables_beside_it(
    name: str, main: str, side: str, tmp_path: Path
) -> None:
    MADE[name].write(tmp_path)
    (file,) = tmp_path.rglob(main)
    whole = read_source(name, file)
    assert set(whole.columns) == set(read_source(name, tmp_path).columns)
    (file.parent / side).unlink()
    if name in ("taobaoad", "kuairand"):
        with pytest.raises(DataError, match="there is no file"):
            read_source(name, file)
    else:
        assert {*read_source(name, file).columns} < {*whole.columns}


def test_the_file_of_one_part_is_that_part(tmp_path: Path) -> None:
    MADE["aliexpress"].write(tmp_path)
    folder = tmp_path / "AliExpress_NL"
    assert read_source("aliexpress", folder / "test.csv")["split"].to_list() == ["test"]
    (folder / "test.csv").rename(folder / "other.csv")
    assert read_source("aliexpress", folder / "other.csv")["split"].to_list() == [None]


def test_parquet_with_the_official_columns_is_read_as_the_official_file(tmp_path: Path) -> None:
    MADE["userbehavior"].write(tmp_path)
    official = read_source("userbehavior", tmp_path)
    names = ["user_id", "item_id", "category_id", "behavior", "timestamp"]
    log = pl.read_csv(tmp_path / "UserBehavior.csv", has_header=False, new_columns=names)
    file = tmp_path / "events.parquet"
    types = {"user_id": pl.Int16, "item_id": pl.Float64, "category_id": pl.String, "behavior": pl.Categorical}
    log.select("item_id", pl.lit(1).alias("more"), pl.exclude("item_id")).cast(types).write_parquet(file)
    assert read_source("userbehavior", file).equals(official)
    for spoilt, said in (
        (log.drop("behavior"), "column 'behavior': the header lacks this column"),
        (log.with_columns(item_id=pl.lit(0.5)), "ids are integers or text"),
        (log.with_columns(item_id=pl.lit("x")), "column 'item_id', row index 0: 'x' is not a whole number"),
        (log.with_columns(item_id=pl.lit([1])), "ids are integers or text"),
    ):
        spoilt.write_parquet(file)
        with pytest.raises(DataError) as error:
            read_source("userbehavior", file)
        assert said in str(error.value)
        assert str(file) in str(error.value)


@needs_logs
def test_real_rows_of_aliexpress(tmp_path: Path) -> None:
    known = pl.read_parquet(DATA / "aliexpress_tiny.parquet").with_columns(pl.col("split").cast(pl.String))
    for part in ("train", "test"):
        known.filter(pl.col("split") == part).drop("split").write_csv(tmp_path / f"{part}.csv")
    rows = read_source("aliexpress", tmp_path)
    parts = pl.concat([known.filter(pl.col("split") == part) for part in ("train", "test")])
    assert rows.select(known.columns).rows() == parts.rows()


def test_whole_numbers_with_a_point_are_whole(tmp_path: Path) -> None:
    MADE["kuairand"].write(tmp_path)
    rows = read_source("kuairand", tmp_path)
    # The random log comes first, by its name.
    assert rows["is_rand"].to_list() == [1, 0, 0, 0]
    assert rows["onehot_feat0"].to_list() == [2, None, 2, None]
    assert rows["video_duration"].to_list() == [None, 17200, 17200, 17200]
    assert rows["follow_user_num_range"].to_list() == ["(0,10]", None, "(0,10]", None]


def test_ratings_of_1m_have_two_colons_and_latin_letters(tmp_path: Path) -> None:
    text(tmp_path / "ratings.dat", "1::1193::5::978300760", "2::661::3::978302109")
    text(tmp_path / "users.dat", "1::F::1::10::48067", "2::M::56::16::70072")
    text(tmp_path / "movies.dat", "1193::Été (1996)::Drama", "661::Jumanji::Comedy|Drama", encoding="latin-1")
    rows = read_source("movielens", tmp_path)
    assert rows["liked"].to_list() == [1, 0]
    assert rows["title"].to_list() == ["Été (1996)", "Jumanji"]
    assert rows["zip_code"].to_list() == ["48067", "70072"]


@needs_logs
def test_real_ratings_of_100k(tmp_path: Path) -> None:
    ratings, users, items = (
        pl.read_parquet(DATA / f"ml100k_{name}.parquet") for name in ("ratings", "users", "items")
    )
    ratings.write_csv(tmp_path / "u.data", separator="\t", include_header=False)
    users.write_csv(tmp_path / "u.user", separator="|", include_header=False)
    flags = [int(index in (3, 8)) for index in range(19)]
    films = [
        "|".join(map(str, [item, title, year, "", "", *flags]))
        for item, title, year in items.select("item_id", "movie_title", "release_year").iter_rows()
    ]
    text(tmp_path / "u.item", *films, encoding="latin-1")
    rows = read_source("movielens", tmp_path)
    assert rows.height == 100_000
    assert rows["liked"].sum() == (ratings["rating"] >= 4).sum()
    assert rows["genres"].unique().to_list() == ["Animation|Drama"]
    joined = ratings.join(users, on="user_id", how="left", maintain_order="left")
    assert rows.select("user_id", "item_id", "age", "occupation").equals(
        joined.select("user_id", "item_id", "age", "occupation").cast(
            {"user_id": pl.Int64, "item_id": pl.Int64}
        )
    )


def test_reviews_of_all_years_have_the_same_columns(tmp_path: Path) -> None:
    MADE["amazon"].write(tmp_path)
    rows = read_source("amazon", tmp_path)
    assert rows.rows() == [
        ("U1", "P1", 5.0, 1588687728923, 1, "A book", "Books", "S"),
        ("U1", "P2", 2.0, 1588687728923, 0, None, None, None),
    ]
    old = '{"overall": 4.0, "reviewerID": "A1", "asin": "B1", "unixReviewTime": 1514851200, "vote": "2"}'
    text(tmp_path / "old" / "Books_5.json", old)
    before = read_source("amazon", tmp_path / "old")
    assert before.rows() == [("A1", "B1", 4.0, 1514851200, 1)]
    text(tmp_path / "old" / "Books_5.json", old, '{"overall": "four"}')
    with pytest.raises(DataError, match=r"Books_5\.json, row index 1"):
        read_source("amazon", tmp_path / "old")


def test_clicks_and_conversions_of_ipinyou(tmp_path: Path) -> None:
    MADE["ipinyou"].write(tmp_path)
    rows = read_source("ipinyou", tmp_path)
    assert rows["click"].to_list() == [0, 1, 0]
    assert rows["conversion"].to_list() == [0, 1, 0]
    assert rows["market_price"].to_list() == [54] * 3
    assert rows["usertag"].to_list() == [["10006"], ["10006", "10024"], ["10006"]]


def test_auctions_of_ipinyou_can_be_replayed(tmp_path: Path) -> None:
    """The layout of make-ipinyou-data, whose table is one of auctions as it is."""
    MADE["ipinyou"].write(tmp_path / "raw")
    lines = (tmp_path / "raw" / "training3rd" / "imp.20131019.txt").read_text().splitlines()
    schema = list(LOG)
    made = tmp_path / "2997"
    text(made / "train.log.txt", "\t".join(["click", "weekday", "hour", *schema]), f"1\t6\t13\t{lines[0]}")
    counted = "\t".join(["click", "weekday", "hour", *schema, "nclick", "nconversation"])
    text(made / "test.log.txt", counted, *(f"0\t6\t13\t{line}\t0\t0" for line in lines))
    rows = read_source("ipinyou", made)
    assert rows["split"].to_list() == ["train", "test", "test", "test"]
    assert rows["hour"].to_list() == [13] * 4
    auctions = AUCTION_LOG.apply(rows.with_columns(pctr=0.01))
    assert auctions["market_price"].to_list() == [54.0] * 4
    assert auctions["timestamp"].to_list() == [1382190000.123] * 4


@pytest.mark.skipif(find_spec("obp") is None, reason="obp is not installed")
def test_the_sample_of_open_bandit_comes_from_obp() -> None:
    rows = read_source("open-bandit", Path("random/men"))
    known = open_bandit.read("men", "random")
    assert rows.height == known.height == 10_000
    assert rows["click"].sum() == known["reward"].sum()
    assert rows["propensity_score"].sum() == pytest.approx(known["propensity"].sum())
    assert rows["item_feature_3"].null_count() == 0
    with pytest.raises(DataError, match="several policies or campaigns"):
        read_source("open-bandit", Path(str(find_spec("obp").origin)).parent / "dataset" / "obd")  # type: ignore[union-attr]


def test_kinds_of_recbole(tmp_path: Path) -> None:
    MADE["recbole"].write(tmp_path)
    rows = read_source("recbole", tmp_path)
    assert rows["label"].to_list() == [1, 0]
    assert rows["movie_title"].to_list() == [["Toy", "Story"], ["Jumanji"]]
    assert rows["vector"].to_list()[0] == [0.5, 1.0]
    assert rows["age"].to_list() == ["18", "56"]
    text(tmp_path / "ml-1m.inter", "user_id\titem_id:token", "1\t2")
    with pytest.raises(DataError, match="ends with its kind"):
        read_source("recbole", tmp_path)


FRAME = pl.DataFrame({"user": ["a", "b"], "click": [0, 1]})


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl", "csv.gz"])
def test_tables_of_every_kind_are_scanned(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        path = tmp_path / f"{name}.{kind}"
        if kind == "parquet":
            FRAME.write_parquet(path)
        elif kind == "jsonl":
            FRAME.write_ndjson(path)
        else:
            content = FRAME.write_csv(separator="\t" if kind == "tsv" else ",").encode()
            path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    both = pl.concat([FRAME, FRAME])
    assert read_source("table", tmp_path).equals(both)
    assert read_source("table", tmp_path / f"*.{kind}").equals(both)
    assert read_source("table", tmp_path / f"one.{kind}").equals(FRAME)


@pytest.mark.parametrize("kind", ["delta", pytest.param("iceberg", marks=pytest.mark.slow)])
def test_tables_of_a_lake_are_scanned(tmp_path: Path, kind: str) -> None:
    if kind == "delta":
        pytest.importorskip("deltalake")
        FRAME.write_delta(tmp_path / "t")
        place = tmp_path / "t"
    else:
        catalogs = pytest.importorskip("pyiceberg.catalog.memory")
        catalog = catalogs.InMemoryCatalog("c", warehouse=f"file://{tmp_path}")
        catalog.create_namespace("n")
        table = catalog.create_table("n.t", FRAME.to_arrow().schema)
        table.append(FRAME.to_arrow().cast(table.schema().as_arrow()))
        place = Path(table.location().removeprefix("file://"))
    assert read_source("table", place).equals(FRAME)


def test_files_of_a_table_have_the_same_columns(tmp_path: Path) -> None:
    FRAME.write_csv(tmp_path / "a.csv")
    for other, said in {
        "user\nx\n": "column 'click': the file lacks this column",
        "user,click,more\nx,1,2\n": "column 'more': the first file does not have",
    }.items():
        (tmp_path / "b.csv").write_text(other)
        with pytest.raises(DataError, match=said) as error:
            read_source("table", tmp_path)
        assert error.value.file == str(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_text("click,user\n7,x\n")
    assert read_source("table", tmp_path)["click"].to_list() == [0, 1, 7]
    (tmp_path / "c.jsonl").write_text("{}")
    with pytest.raises(DataError, match="another kind of file"):
        read_source("table", tmp_path)
