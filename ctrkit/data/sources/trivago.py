"""trivago (RecSys Challenge 2019): hotels in lists, and what users did before."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int16, Int32, Int64, String, official, optional
from ctrkit.tables import TextFormat, read_table, scan_text

ACTIONS = {
    "user_id": String, "session_id": String, "timestamp": Int64, "step": Int16, "action_type": String,
    "reference": String, "platform": String, "city": String, "device": String, "current_filters": String,
    "impressions": String, "prices": String,
}  # fmt: skip
COLUMNS = (
    "event_id", "user_id", "session_id", "timestamp", "step", "position", "item_id", "price", "click",
    "platform", "city", "device",
)  # fmt: skip


class Trivago(Source):
    """Hotels in lists (RecSys Challenge 2019), and the actions of their users before each list.

    The file is the challenge's `train.csv`. A row is a hotel in a list of which one was clicked (`clickout
    item`): event_id (the number of the list), user_id, session_id, timestamp, step, position from 1, item_id,
    price, click, platform, city and device. The table of events is `actions`, all rows of the file with
    `action`, a shorter `action_type`; an action on one hotel, such as a look at its pictures, has an
    `item_id`. A folder may hold both tables instead, as `trivago_impressions.parquet` and
    `trivago_actions.parquet`.
    """

    name = "trivago"
    rows = "15.9 M actions"
    columns = 12
    publisher = "https://recsys.trivago.cloud/challenge/dataset/"
    terms = "research, as the challenge's page says"
    first_line = "user_id,session_id,timestamp,step,action_type,reference,"

    def tables(self, path: Path) -> SourceTables:
        if path.is_dir() and not optional(path, "train.csv"):
            texts = pl.col(pl.Categorical).cast(pl.String)
            rows = read_table(path / "trivago_impressions.parquet").lazy().with_columns(texts)
            actions = read_table(path / "trivago_actions.parquet").lazy().with_columns(texts)
        else:
            actions = scan_text(official(path, "train.csv"), TextFormat(ACTIONS))
            rows = _shown(actions)
        actions = actions.with_columns(
            item_id=pl.col("reference").cast(Int32, strict=False),
            action=pl.col("action_type").str.replace("interaction item ", ""),
        )
        return SourceTables(rows.sort("timestamp", "event_id", "position"), {"actions": actions})


def _shown(actions: pl.LazyFrame) -> pl.LazyFrame:
    """The hotels of all lists."""
    lists = actions.filter(pl.col("action_type") == "clickout item").with_row_index("event_id")
    hotels = pl.col("impressions").str.split("|")
    return (
        lists.select(
            pl.col("event_id").cast(Int32), "user_id", "session_id", "timestamp", "step",
            position=pl.int_ranges(1, hotels.list.len() + 1),
            item_id=hotels,
            price=pl.col("prices").str.split("|"),
            clicked="reference", platform="platform", city="city", device="device",
        )
        .explode("position", "item_id", "price")
        .with_columns(click=(pl.col("item_id") == pl.col("clicked")).cast(Int8))
        .select(*COLUMNS)
        .cast({"position": Int8, "item_id": Int32, "price": Int32})
    )  # fmt: skip
