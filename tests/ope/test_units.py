"""Keys and codes of users and rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ctrkit.errors import DataError
from ctrkit.ope.units import cluster_column, codes_of, row_keys, user_keys


def test_user_keys() -> None:
    numbers = pl.Series("user_id", [3, -1, 3])
    assert user_keys(numbers).view(np.int64).tolist() == [3, -1, 3]
    words = user_keys(pl.Series("user_id", ["b", "a", "b", "é"]))
    # As `printf b | b2sum --length 64` prints them, the lowest byte first.
    digests = {"a": "40f89e395b66422f", "b": "8472c2e34d854f75"}
    expected = {user: int.from_bytes(bytes.fromhex(digest), "little") for user, digest in digests.items()}
    assert words[:3].tolist() == [expected["b"], expected["a"], expected["b"]]
    # The same user has the same key in any part of the log and in any type of text.
    again = user_keys(pl.Series("user_id", ["é", "a"], dtype=pl.Categorical))
    assert again.tolist() == [words[3], words[1]]
    with pytest.raises(DataError) as caught:
        user_keys(pl.Series("user_id", ["a", None]))
    assert (caught.value.column, caught.value.row) == ("user_id", 1)


def test_rows_of_all_files_have_keys_of_their_own() -> None:
    rows = np.arange(1000)
    keys = np.concatenate([row_keys(rows, number) for number in range(3)])
    assert len(np.unique(keys)) == 3000


def test_codes_are_of_units_with_several_rows() -> None:
    codes = codes_of(np.array([7, 2**63, 7], dtype=np.uint64))
    assert codes is not None
    assert codes.tolist() == [0, 1, 0]
    assert codes_of(np.array([1, 2], dtype=np.uint64)) is None


def test_what_a_log_is_clustered_by() -> None:
    table = pl.DataFrame({"user_id": [1], "session": ["a"]})
    assert cluster_column(table, None, None) == "user_id"
    assert cluster_column(table.drop("user_id"), None, None) is None
    assert cluster_column(table, "row", None) is None
    assert cluster_column(table, "session", None) == "session"
    with pytest.raises(DataError, match=r"log\.csv, column 'sesion'.*Did you mean 'session'"):
        cluster_column(table, "sesion", "log.csv")
