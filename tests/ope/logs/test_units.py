"""Keys and codes of users and rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope import evaluate, read_bandit_log
from ctrkit.ope.logs.units import codes_of, repeated_event, row_keys, unit_columns, unit_keys, units_note


def keys(*columns: pl.Series, first: int = 0) -> np.ndarray:
    table = pl.DataFrame(columns)
    return unit_keys(table, table.columns, row_keys(np.arange(first, first + table.height), 0))


def test_keys_of_users() -> None:
    assert keys(pl.Series("user_id", [3, -1, 3])).view(np.int64).tolist() == [3, -1, 3]
    words = keys(pl.Series("user_id", ["b", "a", "b", "é"]))
    # As `printf b | b2sum --length 64` prints them, the lowest byte first.
    digests = {"a": "40f89e395b66422f", "b": "8472c2e34d854f75"}
    expected = {user: int.from_bytes(bytes.fromhex(digest), "little") for user, digest in digests.items()}
    assert words[:3].tolist() == [expected["b"], expected["a"], expected["b"]]
    # The same user has the same key in any part of the log and in any type of text.
    again = keys(pl.Series("user_id", ["é", "a"], dtype=pl.Categorical))
    assert again.tolist() == [words[3], words[1]]


@pytest.mark.parametrize(
    "users",
    [
        pl.Series("user_id", ["a", None, "a", None]),
        pl.Series("user_id", [0, None, 0, None]),
        pl.Series("user_id", [0.0, float("nan"), 0.0, None]),
        pl.Series("user_id", [0.5, float("nan"), 0.5, None]),
    ],
)
def test_a_row_without_a_user_is_a_unit_of_its_own_in_whatever_batch(users: pl.Series) -> None:
    whole = keys(users)
    assert whole[0] == whole[2]
    assert len(np.unique(whole)) == 3
    parts = np.concatenate([keys(users[:1]), keys(users[1:3], first=1), keys(users[3:], first=3)])
    np.testing.assert_array_equal(parts, whole)
    assert any(
        "Some rows have no user_id" in note for note in units_note(pl.DataFrame([users]), ("user_id",))
    )
    # The row's own number, as a user's, is another unit.
    assert not np.isin(whole[[1, 3]], keys(pl.Series("user_id", range(10)))).any()


def test_a_row_without_a_user_goes_with_its_page() -> None:
    table = pl.DataFrame(
        {"user_id": [7, None, None, None, None], "slate_id": [7, 7, 7, 8, None]}, strict=False
    )
    found = unit_keys(table, ("user_id", "slate_id"), row_keys(np.arange(5), 0))
    assert found[1] == found[2]
    assert len(np.unique(found)) == 4


def test_whole_numbers_are_the_same_users_as_floats() -> None:
    ids = pl.Series("user_id", [12, 7])
    np.testing.assert_array_equal(keys(ids), keys(ids.cast(pl.Float64)))


def test_rows_of_all_files_have_keys_of_their_own() -> None:
    rows = np.arange(1000)
    keys = np.concatenate([row_keys(rows, number) for number in range(3)])
    assert len(np.unique(keys)) == 3000


def test_codes_are_of_units_with_several_rows() -> None:
    codes = codes_of(np.array([7, 2**63, 7], dtype=np.uint64))
    assert codes is not None
    assert codes.tolist() == [0, 1, 0]
    assert codes_of(np.array([1, 2], dtype=np.uint64)) is None


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("user_id", "slate_id", "event_id", "position"), ("user_id", "slate_id", "event_id")),
        (("slate_id", "position"), ("slate_id",)),
        (("event_id", "position"), ("event_id",)),
        (("session_id", "event_id"), ("session_id",)),
        (("event_id", "timestamp"), ()),
    ],
)
def test_what_a_log_is_clustered_by_unasked(names: tuple[str, ...], found: tuple[str, ...]) -> None:
    assert unit_columns(names, None, None) == found
    assert unit_columns(names, "row", None) == ()


def test_what_a_log_is_clustered_by_as_asked() -> None:
    assert unit_columns(("user_id", "session"), "session", None) == ("session",)
    with pytest.raises(DataError, match=r"log\.csv, column 'sesion'.*Did you mean 'session'"):
        unit_columns(("user_id", "session"), "sesion", "log.csv")
    with pytest.raises(DataError, match="no such column to cluster by"):
        unit_columns(("user_id",), "", None)


def test_rows_of_an_event_go_together_where_nothing_else_tells() -> None:
    twice = pl.DataFrame({"event_id": ["a", "b", "a", None, None]})
    assert repeated_event(twice, None) == ("event_id",)
    assert repeated_event(twice, "row") == ()
    assert repeated_event(pl.DataFrame({"event_id": ["a", "b", None, None]}), None) == ()


@pytest.mark.parametrize("names", [("slate_id", "slot_number"), ("event_id", "position"), ("event_id", "of")])
def test_slots_of_a_page_are_not_independent(names: tuple[str, str]) -> None:
    """Clicks on a page go together. Of 40 draws 38 intervals should hold; taken by row, far fewer do."""
    held = by_row = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        page = np.repeat(np.arange(400), 4)
        interest = np.repeat(rng.beta(0.5, 1.5, 400), 4)
        table = pl.DataFrame(
            {
                names[0]: page,
                names[1]: np.tile(np.arange(1, 5), 400),
                "action": rng.integers(2, size=1600),
                "propensity": np.full(1600, 0.5),
                "reward": (rng.random(1600) < interest).astype(float),
                "target_probability": np.full(1600, 0.5),
            }
        )
        for cluster_by in (None, "row"):
            log = read_bandit_log(table, cluster_by=cluster_by)
            interval = evaluate(log, ["target_probability"], ["ips"]).logging.interval
            inside = interval.low <= 0.25 <= interval.high
            held, by_row = held + (inside and cluster_by is None), by_row + (inside and cluster_by == "row")
    assert held >= 34  # 3 standard errors below 38
    assert by_row <= 33


def test_an_evaluation_tells_of_rows_without_a_user() -> None:
    table = pl.DataFrame(
        {
            "user_id": [1.0, float("nan"), 1.0, float("nan")] * 200,
            "action": [0, 1] * 400,
            "propensity": [0.5] * 800,
            "reward": [0.0, 1.0] * 400,
            "target_probability": [0.5] * 800,
        }
    )
    for source in (table, table.with_columns(pl.col("user_id").fill_nan(None)), table.to_pandas()):
        log = read_bandit_log(source)
        assert len(np.unique(log.units)) == 401
        assert any(
            "Some rows have no user_id" in note for note in evaluate(log, ["target_probability"]).notes
        )


def test_a_user_has_the_same_key_as_a_number_and_as_text() -> None:
    users = [7, -3, 2**40, 7]
    row = np.arange(4, dtype=np.uint64)
    whole = unit_keys(pl.DataFrame({"user_id": users}), ("user_id",), row)
    text = unit_keys(pl.DataFrame({"user_id": [str(user) for user in users]}), ("user_id",), row)
    np.testing.assert_array_equal(whole, text)
    other = unit_keys(pl.DataFrame({"user_id": ["007", "7", "x", "7"]}), ("user_id",), row)
    assert other[1] == whole[0] != other[0]


def test_lists_are_no_units() -> None:
    log = pl.DataFrame(
        {"action": [0, 1], "propensity": [0.5, 0.5], "reward": [0, 1], "ads": [[0, 1], [0, 1]]}
    )
    with pytest.raises(DataError, match="column 'ads': rows can be clustered by a column of single values"):
        read_bandit_log(log, cluster_by="ads")
