"""Hillstrom's e-mail test (MineThatData, 2008): 64,000 customers, three random arms, visits and purchases."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int8, Int32, String, official
from ctrkit.errors import DataError
from ctrkit.tables import TextFormat, read_table, scan_text

ARMS = ("Mens E-Mail", "Womens E-Mail", "No E-Mail")
# As the owner's page calls it.
OFFICIAL = "Kevin_Hillstrom_MineThatData_E-MailAnalytics_*.csv"
COLUMNS = {
    "recency": Int32, "history_segment": String, "history": Float64, "mens": Int8, "womens": Int8,
    "zip_code": String, "newbie": Int8, "channel": String, "segment": String, "visit": Int8,
    "conversion": Int8, "spend": Float64,
}  # fmt: skip
FEATURES = ("recency", "history", "mens", "womens", "zip_code", "newbie", "channel")


def read(folder: str | os.PathLike[str]) -> pl.DataFrame:
    """One row for each customer: features, `segment` (the arm, drawn with probability 1/3), and outcomes.

    Args:
        folder: folder of `hillstrom.parquet` or `hillstrom.csv` with the columns of the public file.
    """
    path = Path(folder) / "hillstrom.csv"
    table = read_table(path if path.exists() else path.with_suffix(".parquet"))
    needed = (*FEATURES, "segment", "visit", "conversion", "spend")
    if missing := [name for name in needed if name not in table.columns]:
        raise DataError(
            "the Hillstrom table needs this column", file=path, column=missing[0], hint="Use the public file"
        )
    return table.select(needed).with_columns(pl.col(pl.Categorical).cast(pl.String))


def biased_log(table: pl.DataFrame, seed: int, strength: float = 1.0) -> pl.DataFrame:
    """A bandit log of a policy that was never run, with known propensities, from the randomised test.

    The policy sends e-mail about men's or women's goods to customers who bought such goods, and no e-mail to
    customers who bought long ago: π(a | x) is a softmax of such scores. A row with arm a is kept with
    probability π(a | x) / max π. So arms have the distribution π, and outcomes do not change (rejection
    sampling, Li et al. 2011, "Unbiased offline evaluation of contextual-bandit-based news article
    recommendation algorithms").

    Args:
        table: the table from `read`.
        seed: random seed.
        strength: 0 is the uniform policy; larger values are more deterministic.

    Returns:
        The kept rows as a bandit log: features, action, propensity, reward (the visit), conversion, spend,
        candidates and logging_probabilities.
    """
    mens, womens, recency = (
        table[name].cast(pl.Float64).to_numpy() for name in ("mens", "womens", "recency")
    )
    score = strength * np.column_stack([mens, womens, recency / 12])
    policy = np.exp(score)
    policy /= policy.sum(axis=1, keepdims=True)
    arm = table["segment"].replace_strict(ARMS, range(len(ARMS)), return_dtype=pl.Int64).to_numpy()
    propensity = policy[np.arange(table.height), arm]
    kept = np.random.default_rng(seed).random(table.height) < propensity / policy.max()
    return (
        table.rename({"segment": "action", "visit": "reward"})
        .with_columns(
            propensity=propensity,
            candidates=pl.concat_list(map(pl.lit, ARMS)),
            logging_probabilities=pl.Series(policy.tolist(), dtype=pl.List(pl.Float64)),
        )
        .filter(kept)
    )


class Hillstrom(Source):
    """An e-mail test: 64,000 customers, three random arms, visits and purchases."""

    name = "hillstrom"
    rows = "64 k"
    columns = 12
    labels = ("visit", "conversion")
    publisher = "https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html"
    terms = "free to use"
    first_line = "recency,history_segment,history,mens,womens,"

    def tables(self, path: Path) -> SourceTables:
        files = official(path, "hillstrom.csv", OFFICIAL, "hillstrom.parquet")
        return SourceTables(scan_text(files, TextFormat(COLUMNS)))
