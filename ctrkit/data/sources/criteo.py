"""Criteo display ads (Kaggle, 2014): seven days of banners, with a click or not."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int32, String, official
from ctrkit.tables import TextFormat, scan_text

NUMBERS = tuple(f"I{index}" for index in range(1, 14))
CATEGORIES = tuple(f"C{index}" for index in range(1, 27))


class Criteo(Source):
    """Criteo's display ads: seven days, in order of time; clicks and the others are thinned differently.

    `train.txt` has no header; the columns have the names of the challenge's page, and its `Label` is `click`.
    `I1_bucket` to `I13_bucket` are ⌊ln(x)²⌋ of the numbers above 2, and smaller numbers as they are: how the
    winners of the challenge and BARS, "Open Benchmarking for Click-Through Rate Prediction" (Zhu et al., CIKM
    2021), read them as categories.
    """

    name = "criteo"
    rows = "45.8 M"
    columns = 40
    publisher = "https://www.kaggle.com/c/criteo-display-ad-challenge/data"
    terms = "as Criteo's licence says"
    first_line = r"[01]\t(-?\d*\t){13}[0-9a-f]*(\t[0-9a-f]*){25}$"

    def tables(self, path: Path) -> SourceTables:
        columns = {
            "click": Int8,
            **dict.fromkeys(NUMBERS, Int32),
            **dict.fromkeys(CATEGORIES, String),
        }
        form = TextFormat(columns, "\t", header=False, quoted=False)
        rows = scan_text(official(path, "train.txt"), form)
        return SourceTables(rows.with_columns(_bucket(name) for name in NUMBERS))


def _bucket(name: str) -> pl.Expr:
    squared = (pl.col(name).cast(pl.Float64).log() ** 2).floor()
    return pl.when(pl.col(name) > 2).then(squared).otherwise(name).cast(Int32).alias(f"{name}_bucket")
