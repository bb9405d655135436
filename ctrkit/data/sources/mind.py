"""MIND (Microsoft News, 2019): news in lists, with those that were clicked."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int64, String, joined, official, optional
from ctrkit.tables import TextFormat, scan_text

BEHAVIORS = TextFormat(
    {
        "impression_id": Int64, "user_id": String, "time": String, "history": String, "impressions": String
    },
    "\t",
    header=False,
    quoted=False,
)  # fmt: skip
NEWS = TextFormat(
    dict.fromkeys(
        (
            "news_id", "category", "subcategory", "title", "abstract", "url", "title_entities",
            "abstract_entities",
        ),
        String,
    ),
    "\t",
    header=False,
    quoted=False,
)  # fmt: skip


class Mind(Source):
    """Microsoft's news in the lists of users: a row for each news of a list, clicked or not.

    The columns are impression_id, user_id, timestamp (unix seconds; the time is read as UTC), position in the
    list, news_id and click; what `news.tsv` says of the news, where it is there; and `history`, the owner's
    list of the news that the user clicked before. The folder holds `behaviors.tsv` and `news.tsv`, such as
    `MINDsmall_train`, or several such folders. The test part of the large set has no clicks and is refused.
    """

    name = "mind"
    rows = "8.6 M (small), 15 M lists (large)"
    columns = 14
    publisher = "https://msnews.github.io"
    terms = "Microsoft Research Licence: research"
    first_line = r"\d+\tU?\d+\t\d+/\d+/\d{4} [\d:]+ [AP]M\t[^\t]*\t\S+-[01]( |$)"

    def tables(self, path: Path) -> SourceTables:
        lists = scan_text(official(path, "behaviors.tsv"), BEHAVIORS)
        time = pl.col("time").str.to_datetime("%m/%d/%Y %I:%M:%S %p").dt.epoch("s")
        shown = pl.col("impressions").str.split(" ")
        rows = (
            lists.select(
                "impression_id",
                "user_id",
                time.alias("timestamp"),
                pl.col("history").fill_null("").str.extract_all(r"\S+"),
                shown.alias("shown"),
                pl.int_ranges(shown.list.len()).alias("position"),
            )
            .explode("shown", "position")
            .with_columns(
                news_id=pl.col("shown").str.replace(r"-[01]$", ""),
                click=pl.col("shown").str.extract(r"-([01])$", 1).cast(pl.Int8),
            )
            .drop("shown")
        )
        files = optional(path, "news.tsv", beside=True)
        if not files:
            return SourceTables(rows)
        # Parts of the data set repeat the news of others.
        news = scan_text(files, NEWS)
        news = news.unique("news_id", keep="first", maintain_order=True) if len(files) > 1 else news
        return SourceTables(joined(rows, news, files[0], "news_id"))
