"""Tencent's TAAC and KDD Cup 2026: clicks with or without a conversion, and four histories of their users."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import official
from ctrkit.errors import DataError
from ctrkit.tables import scan_files

NEEDED = ("user_id", "item_id", "label_type", "label_time", "timestamp")


class Taac(Source):
    """Ads of the KDD Cup 2026 in flat columns; `conversion` is 1 where `label_type` is 2.

    The columns are those of the parquet files: `user_int_feats_*`, `user_dense_feats_*`, `item_int_feats_*`
    and the lists `domain_{a,b,c,d}_seq_*`, each domain with times of its own.
    """

    name = "taac"
    rows = "1,000 in the public sample"
    columns = 121
    labels = ("conversion",)
    publisher = "https://huggingface.co/datasets/TAAC2026/data_sample_1000"
    terms = "as the competition's rules say"
    first_line = r"(\w+,)*label_type,(\w+,)*label_time,"

    def tables(self, path: Path) -> SourceTables:
        files = [file.path for file in official(path, "*.parquet")]
        rows = scan_files(pl.scan_parquet(files, glob=False), files[0])
        names = rows.collect_schema().names()
        for name in NEEDED:
            if name not in names:
                raise DataError(
                    "the table lacks this column of the official file",
                    file=files[0],
                    column=name,
                    hint="Give the file as it was downloaded",
                )
        return SourceTables(rows.with_columns(conversion=(pl.col("label_type") == 2).cast(pl.Int8)))
