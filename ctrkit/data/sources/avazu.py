"""Avazu (Kaggle, 2014): ten days of mobile ads, with a click or not."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int32, String, official
from ctrkit.tables import TextFormat, scan_text

CATEGORIES = (
    "C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category",
    "device_id", "device_ip", "device_model", "device_type", "device_conn_type",
    *(f"C{index}" for index in range(14, 22)),
)  # fmt: skip


class Avazu(Source):
    """Avazu's mobile ads: ten days, in order of time; clicks and the others are thinned differently.

    `hour` is the time, as yyMMddHH. `id` is the row's own. `hour_of_day`, `weekday` (1 is Monday) and
    `weekend` are what the published benchmarks read of the time.
    """

    name = "avazu"
    rows = "40.4 M"
    columns = 24
    publisher = "https://www.kaggle.com/c/avazu-ctr-prediction/data"
    terms = "as the competition's rules say"
    first_line = "id,click,hour,C1,banner_pos,"

    def tables(self, path: Path) -> SourceTables:
        columns = {"id": String, "click": Int8, "hour": Int32, **dict.fromkeys(CATEGORIES, String)}
        # The official archive is `train.gz`, or a member of `avazu-ctr-prediction.zip`.
        rows = scan_text(official(path, "train", "train.csv"), TextFormat(columns))
        weekday = (pl.col("hour") // 100).cast(String).str.to_date("%y%m%d").dt.weekday()
        return SourceTables(
            rows.with_columns(
                hour_of_day=(pl.col("hour") % 100).cast(Int8),
                weekday=weekday,
                weekend=(weekday > 5).cast(Int8),
            )
        )
