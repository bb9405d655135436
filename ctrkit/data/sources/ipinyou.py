"""iPinYou (2013): auctions that its bidder won, with prices and clicks; raw, or made by make-ipinyou-data."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int64, String, in_parts, official, optional
from ctrkit.tables import TextFile, TextFormat, first_names, scan_text

LOG = {
    "bidid": String, "timestamp": Int64, "logtype": String, "ipinyouid": String, "useragent": String,
    "IP": String, "region": String, "city": String, "adexchange": String, "domain": String, "url": String,
    "urlid": String, "slotid": String, "slotwidth": Int64, "slotheight": Int64, "slotvisibility": String,
    "slotformat": String, "slotprice": Int64, "creative": String, "bidprice": Int64, "payprice": Int64,
    "keypage": String, "advertiser": String, "usertag": String,
}  # fmt: skip
MADE = {"click": Int8, "weekday": Int8, "hour": Int8, **LOG}
COUNTED = {"nclick": Int64, "nconversation": Int64}
RAW = TextFormat(LOG, "\t", header=False, quoted=False)


class IPinYou(Source):
    """iPinYou's won auctions of nine advertisers: prices, clicks, and features of the user and the slot.

    The folder is that of the second and third season (`imp.*.txt`, `clk.*.txt`, `conv.*.txt`), or one of an
    advertiser that make-ipinyou-data has made (`train.log.txt`, `test.log.txt`). The names are those of its
    schema; `payprice` is `market_price`, the highest other bid in CPM, so that the table can be replayed as
    auctions. `timestamp` is yyyyMMddHHmmssSSS. `usertag` is a list. Raw logs also have `conversion`; those
    that were made have weekday, hour and `split`.
    """

    name = "ipinyou"
    rows = "19.5 M"
    columns = 26
    publisher = "https://contest.ipinyou.com"
    terms = "research, as its page says"
    first_line = r"(click\tweekday\thour\t)?bidid\ttimestamp\tlogtype\t|\w+\t\d{17}\t1\t"

    def tables(self, path: Path) -> SourceTables:
        made = optional(path, "train.log.txt", "test.log.txt")
        rows = _made(path) if made and "click" in first_names(made[0], "\t") else _raw(path)
        tags = pl.col("usertag").fill_null("").str.extract_all(r"[^,\s]+")
        return SourceTables(rows.with_columns(tags).rename({"payprice": "market_price"}))


def _made(path: Path) -> pl.LazyFrame:
    train = TextFormat(MADE, "\t", quoted=False)
    test = TextFormat({**MADE, **COUNTED}, "\t", quoted=False)
    parts = {"train": "train.log.txt", "test": "test.log.txt"}

    def read(files: list[TextFile]) -> pl.LazyFrame:
        counted = "nclick" in first_names(files[0], "\t")
        return scan_text(files, test if counted else train).drop(*COUNTED, strict=False)

    return in_parts(path, parts, read)


def _raw(path: Path) -> pl.LazyFrame:
    shown, clicked, converted = (
        # The first season has other columns.
        [
            file
            for file in official(path, f"{kind}.*.txt", beside=kind != "imp")
            if "training1st" not in str(file.path)
        ]
        for kind in ("imp", "clk", "conv")
    )
    rows = scan_text(shown, RAW)
    for name, files in {"click": clicked, "conversion": converted}.items():
        seen = scan_text(files, RAW).select("bidid").unique().with_columns(pl.lit(1, Int8).alias(name))
        rows = rows.join(seen, on="bidid", how="left", maintain_order="left")
        rows = rows.with_columns(pl.col(name).fill_null(0))
    return rows
