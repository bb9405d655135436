"""trivago (RecSys Challenge 2019): hotels in lists, and what users did before."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.tables import read_table


class Trivago(Source):
    """Hotels in lists (RecSys Challenge 2019), and the actions of their users before each list.

    The folder holds `trivago_impressions.parquet`, a row for each hotel in a list (event_id, user_id,
    session_id, timestamp, step, position, item_id, price, click, platform, device), and
    `trivago_actions.parquet` (user_id, session_id, timestamp, step, action_type, reference). An action on one
    hotel, such as a look at its pictures, has an `item_id`; other actions have none.
    """

    name = "trivago"
    rows = "15.9 M actions"
    columns = 12
    publisher = "https://recsys.trivago.cloud/challenge/dataset/"
    terms = "research, as the challenge's page says"

    def tables(self, path: Path) -> SourceTables:
        texts = pl.col(pl.Categorical).cast(pl.String)
        rows = read_table(path / "trivago_impressions.parquet").with_columns(texts)
        actions = read_table(path / "trivago_actions.parquet").with_columns(texts)
        actions = actions.with_columns(
            item_id=pl.col("reference").cast(pl.Int32, strict=False),
            action=pl.col("action_type").str.replace("interaction item ", ""),
        )
        rows = rows.sort("timestamp", "event_id", "position")
        return SourceTables(rows.lazy(), {"actions": actions.lazy()})
