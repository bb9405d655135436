"""Taobao's UserBehavior (Alibaba, 2018): what a million users looked at, kept, and bought in nine days."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int64, String, official
from ctrkit.tables import TextFormat, scan_text

COLUMNS = {"user_id": Int64, "item_id": Int64, "category_id": Int64, "behavior": String, "timestamp": Int64}

# 25 November to 3 December 2017 in China, as unix seconds.
DAYS = (1511539200, 1512316800)


class UserBehavior(Source):
    """Taobao's views of items, which may end in a purchase, and all behaviour of the same users as events.

    A row is a view (`pv`). Its `conversion` says whether the user bought the item then or later, before the
    data end, so views of the last days have had less time to convert. The data hold no impressions without a
    click. `UserBehavior.csv` has no header; times are unix seconds. Some, such as 15, are not of the nine
    days that its page names, and are left out. The table of events is `behavior`, a row for each `pv`, `fav`,
    `cart` and `buy`.
    """

    name = "userbehavior"
    rows = "100.2 M events"
    columns = 5
    labels = ("conversion",)
    publisher = "https://tianchi.aliyun.com/dataset/649"
    terms = "as its page says"
    first_line = r"\d+,\d+,\d+,(pv|fav|cart|buy),\d+$|user_id,item_id,category_id,behavior,timestamp$"

    def tables(self, path: Path) -> SourceTables:
        form = TextFormat(COLUMNS, header=False, quoted=False)
        events = scan_text(official(path, "UserBehavior.csv"), form)
        events = events.filter(pl.col("timestamp").is_between(*DAYS, closed="left"))
        bought = events.filter(pl.col("behavior") == "buy")
        last = bought.group_by("user_id", "item_id").agg(bought=pl.col("timestamp").max())
        views = events.filter(pl.col("behavior") == "pv").drop("behavior")
        rows = views.join(last, on=("user_id", "item_id"), how="left", maintain_order="left")
        converted = (pl.col("bought") >= pl.col("timestamp")).fill_null(False)
        return SourceTables(
            rows.with_columns(conversion=converted.cast(pl.Int8)).drop("bought"), {"behavior": events}
        )
