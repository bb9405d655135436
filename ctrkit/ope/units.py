"""What is independent in a log: its users, or its rows where users are unknown; a key for each.

A key is the same in whatever batch or file a row is read, so that folds, replicates and clusters do not
depend on how a log is cut.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl

from ctrkit.errors import DataError, nearest
from ctrkit.hashing import Words
from ctrkit.ope.moments import Ints

USER = "user_id"
# In place of a column: rows are independent, users or not.
ROW = "row"
# A file's row has the key number · 2^40 + row: room for 10^12 rows in each of 16 million files.
_ROWS = 40


def cluster_column(table: pl.DataFrame, cluster_by: str | None, file: str | None) -> str | None:
    """The column that names each row's unit; None where rows are independent.

    Args:
        cluster_by: a column, `row`, or None: by user, where the log has users.

    Raises:
        DataError: there is no such column.
    """
    if cluster_by is None:
        return USER if USER in table.columns else None
    if cluster_by == ROW:
        return None
    if cluster_by not in table.columns:
        raise DataError(
            "no such column to cluster by",
            file=file,
            column=cluster_by,
            mend=nearest(cluster_by, table.columns),
        )
    return cluster_by


def row_keys(rows: Ints, number: int) -> Words:
    """Keys [N] of rows by their numbers in a file, the `number`-th of its log."""
    return np.asarray(rows.astype(np.uint64) + np.uint64(number << _ROWS))


def user_keys(users: pl.Series) -> Words:
    """Keys [N] of the users of a column of any type, the same on every machine.

    Whole numbers stay as they are; anything else is hashed as text (BLAKE2b, 64 bits).

    Raises:
        DataError: for a row without a user.
    """
    if users.null_count():
        row = int(users.is_null().arg_max() or 0)
        raise DataError("the row names no user", column=users.name, row=row, mend="Give every row a user")
    if users.dtype.is_integer():
        return np.asarray(users.cast(pl.Int64, wrap_numerical=True).to_numpy()).view(np.uint64)
    text = users.cast(pl.String)
    known = text.unique().sort()
    keys = np.array(
        [int.from_bytes(blake2b(str(user).encode(), digest_size=8).digest(), "little") for user in known],
        dtype=np.uint64,
    )
    return np.asarray(keys[known.search_sorted(text).to_numpy().astype(np.int64)])


def codes_of(units: Words) -> Ints | None:
    """Codes [N] from 0 of the units, in the order of their keys; None where each has one row."""
    keys, codes = np.unique(units, return_inverse=True)
    return codes.astype(np.int64) if len(keys) < len(units) else None
