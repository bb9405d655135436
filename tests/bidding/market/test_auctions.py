from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ctrkit.bidding import Auctions, auctions_from_log, read_auction_log, simulate
from ctrkit.bidding.market.auctions import joined, user_codes
from ctrkit.errors import DataError

LOG = {
    "market_price": [1, 2, 3],
    "pctr": [0.1, 0.2, 0.3],
    "click": [0, 1, 1],
    "conversion": [0, 0, 1],
    "value": [10.0, 10.0, 20.0],
    "timestamp": [5, 5, 6],
}


@pytest.mark.parametrize(
    ("column", "values", "row", "says"),
    [
        ("market_price", [1, -2, 3], 1, "below 0"),
        ("market_price", [1, None, 3], 1, "missing"),
        ("market_price", [1.0, float("nan"), 3.0], 1, "not a finite number"),
        ("market_price", ["1", "x", "3"], 1, "not a number"),
        ("pctr", [0.1, 0.2, 1.5], 2, "above 1"),
        ("pctr", [0.1, -0.2, 0.5], 1, "below 0"),
        ("click", [0, 1, 2], 2, "neither 0 nor 1"),
        ("conversion", [1, 0, 0], 0, "conversion but no click"),
        ("timestamp", [5, 6, 4], 2, "before that of the row above"),
    ],
)
def test_a_faulty_value_is_named(tmp_path: Path, column: str, values: list[Any], row: int, says: str) -> None:
    file = tmp_path / "auctions.parquet"
    pl.DataFrame({**LOG, column: values}).write_parquet(file)
    with pytest.raises(DataError, match=says) as error:
        read_auction_log(file)
    assert (error.value.file, error.value.column, error.value.row) == (str(file), column, row)
    assert error.value.hint


def test_a_log_needs_prices_and_rows() -> None:
    with pytest.raises(DataError) as error:
        read_auction_log(pl.DataFrame({"pctr": [0.1]}))
    assert error.value.column == "market_price"
    with pytest.raises(DataError, match="no rows"):
        read_auction_log(pl.DataFrame({"market_price": []}))


def test_aliases_are_read() -> None:
    table = read_auction_log(pl.DataFrame({"payprice": [1], "pCTR": [0.5]}))
    assert table.columns == ["market_price", "pctr"]


def test_a_plain_replay_has_one_ad() -> None:
    auctions = auctions_from_log(read_auction_log(pl.DataFrame(LOG)), value_of_click=2.0)
    auctions.check()
    np.testing.assert_array_equal(auctions.click_probability, [[0.1], [0.2], [0.3]])
    np.testing.assert_array_equal(auctions.expected_value, [[0.2], [0.4], [0.6]])
    assert auctions.earned is not None
    np.testing.assert_array_equal(auctions.earned, [[0.0], [0.0], [20.0]])


def test_a_replay_without_predictions_needs_a_model() -> None:
    table = read_auction_log(pl.DataFrame({"market_price": [1.0, 2.0]}))
    with pytest.raises(DataError) as error:
        auctions_from_log(table)
    assert error.value.column == "pctr"
    assert auctions_from_log(table, np.array([0.1, 0.2])).click is None


def test_the_truth_goes_before_the_prediction() -> None:
    pctr, worth = np.array([[0.5]]), np.array([[2.0]])
    auctions = Auctions(np.ones(1), pctr, worth)
    assert auctions.expected_value.tolist() == [[1.0]]
    assert Auctions(np.ones(1), pctr, worth, true_click_probability=np.array([[0.1]])).expected_value == 0.2
    assert Auctions(np.ones(1), pctr, worth, true_value=np.array([[7.0]])).expected_value == 7.0


@pytest.mark.parametrize(
    ("change", "column", "row"),
    [
        ({"market_price": np.array([1.0, -1.0])}, "market_price", 11),
        ({"market_price": np.array([1.0, np.nan])}, "market_price", 11),
        ({"click_probability": np.array([[0.1], [1.1]])}, "click_probability", 11),
        ({"value_of_click": np.array([[np.inf], [1.0]])}, "value_of_click", 10),
        ({"click": np.array([0.0, 1.0])}, "click", None),
        ({"hidden": np.ones((2, 4))}, "hidden", None),
        ({"user": np.array([0, -1])}, "user", 11),
        ({"user": np.array([0.0, 1.0])}, "user", None),
        ({"user": np.array([[0], [1]])}, "user", None),
        ({"user": np.array([7, 1 << 40])}, "user", 11),
        ({"user": np.array([(1 << 64) - 1, 0], np.uint64)}, "user", 10),
        ({"slot_price": np.ones(2)}, "slot_price", None),
        ({"slot_price": np.ones((2, 0))}, "slot_price", None),
        ({"slot_price": np.array([[1.0, 0.5], [2.0, 0.5]])}, "slot_price", 11),  # not the market price
        ({"slot_price": np.array([[1.0, 0.5], [1.0, 1.5]])}, "slot_price", 11),  # the worse slot is dearer
        ({"slot_price": np.array([[1.0, -0.5], [1.0, 0.5]])}, "slot_price", 10),
        ({"slot_price": np.array([[1.0, 0.5], [1.0, np.nan]])}, "slot_price", 11),
    ],
)
def test_chunks_are_checked(change: dict[str, Any], column: str, row: int | None) -> None:
    given = {
        "market_price": np.ones(2),
        "click_probability": np.ones((2, 1)),
        "value_of_click": np.ones((2, 1)),
    }
    with pytest.raises(DataError) as error:
        Auctions(**{**given, **change}).check(first_row=10)
    assert (error.value.column, error.value.row) == (column, row)


def test_users_and_slots_go_along() -> None:
    page = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, 0.0]])
    auctions = Auctions(
        page[:, 0], np.full((3, 1), 0.1), np.ones((3, 1)), user=np.array([4, 0, 4]), slot_price=page
    )
    auctions.check()
    whole = joined([auctions[:2], auctions[2:]])
    assert whole.user is not None
    assert whole.slot_price is not None
    assert whole.user.tolist() == [4, 0, 4]
    np.testing.assert_array_equal(whole.slot_price, page)
    with pytest.raises(DataError) as error:
        joined([auctions, Auctions(np.ones(1), np.ones((1, 1)), np.ones((1, 1)))])
    assert error.value.column in ("user", "slot_price")


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series(["b", "a", "b", "é", ""]),
        pl.Series([-5, 1 << 62, -5, 7, 0]),
        pl.Series([1 << 63, 3, 1 << 63, 4, 5], dtype=pl.UInt64),
        pl.Series(["y", "x", "y", "z", "w"], dtype=pl.Categorical),
        pl.Series([], dtype=pl.String),
    ],
)
def test_equal_users_have_equal_codes_from_0(ids: pl.Series) -> None:
    codes = user_codes(ids)
    assert codes.dtype == np.int64
    assert sorted(set(codes.tolist())) == list(range(ids.n_unique()))
    pairs = set(zip(ids.to_list(), codes.tolist(), strict=True))
    assert len(pairs) == ids.n_unique()


def test_who_is_not_known_is_nobody_else() -> None:
    assert user_codes(pl.Series("user_id", ["a", None, "b", None])).tolist() == [0, 2, 1, 3]


def test_chunks_with_places_for_other_numbers_of_ads_are_refused() -> None:
    chunks = [Auctions(np.ones(30), np.full((30, ads), 0.5), np.ones((30, ads))) for ads in (2, 3)]
    with pytest.raises(DataError, match="one chunk has 2 ads per auction, and another has 3"):
        simulate(chunks, ["dual"], 5.0)


@pytest.mark.parametrize("column", ["market_price", "value_of_click"])
def test_amounts_whose_sums_would_be_infinite_are_refused(column: str) -> None:
    ones = np.ones((3, 1))
    columns = {"market_price": np.ones(3), "click_probability": 0.1 * ones, "value_of_click": ones.copy()}
    columns[column].flat[1] = 1e300
    with pytest.raises(DataError, match=f"{column}.*1e\\+300 is not at most 1e\\+150"):
        Auctions(**columns).check()
