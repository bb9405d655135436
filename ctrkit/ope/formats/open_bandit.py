"""Open Bandit Dataset (ZOZO, Saito et al. 2021): one CSV row for each item shown, at one of three positions.

Columns: an unnamed row number, timestamp, item_id, position (1 to 3), click, propensity_score, then
user_feature_0 to user_feature_3 and user-item_affinity_0 onwards.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from ctrkit.errors import DataError
from ctrkit.ope.formats.base import Format, LogTable
from ctrkit.ope.formats.table import read_together

COLUMNS = ("item_id", "position", "click", "propensity_score")
# Prefix of the columns with the affinity of user and item, one for each item from 0.
AFFINITY = "user-item_affinity_"


def read(source: str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read one CSV, in the order of its rows. Positions count from 0, as in obp.

    Raises:
        DataError: the file is damaged, or one of its columns is missing.
    """
    path = Path(source)
    (read,) = read_together(path)
    table = read.table
    for name in COLUMNS:
        if name not in table.columns:
            raise DataError(
                "an Open Bandit log needs this column",
                file=path,
                column=name,
                hint="Give a log of the Open Bandit Dataset, or leave --format out",
            )
    renamed = table.rename({"item_id": "action", "click": "reward", "propensity_score": "propensity"})
    kept = [name for name in renamed.columns if name]  # without the row number
    if renamed.schema["position"].is_integer():
        renamed = renamed.with_columns(pl.col("position") - 1)
    return LogTable(renamed.select(kept), os.fspath(path), actions=_items(renamed))


def _items(table: pl.DataFrame) -> pl.Series | None:
    """All items that could be shown, which are those with an affinity; None where a shown item has none."""
    number = sum(name.startswith(AFFINITY) for name in table.columns)
    items = pl.Series("action", range(number), dtype=pl.Int64)
    shown = table["action"]
    return items if shown.dtype.is_integer() and bool(shown.is_in(items.implode()).all()) else None


OPEN_BANDIT = Format("open-bandit", "Open Bandit Dataset CSV", read)
