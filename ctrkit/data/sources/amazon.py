"""Amazon's reviews (McAuley's group, 2014, 2018 and 2023): what users rated, and what the products are."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int64, String, joined, official, optional
from ctrkit.errors import DataError
from ctrkit.tables import TextFile, TextFormat, first_names, scan_json_lines, scan_text

LIKED = 4
IN_2023 = {
    "user_id": String, "parent_asin": String, "rating": Float64, "timestamp": Int64,
}  # fmt: skip
BEFORE = {"reviewerID": String, "asin": String, "overall": Float64, "unixReviewTime": Int64}
NAMES = {
    "parent_asin": "item_id", "asin": "item_id", "reviewerID": "user_id", "overall": "rating",
    "unixReviewTime": "timestamp",
}  # fmt: skip
META_2023 = {"parent_asin": String, "title": String, "main_category": String, "store": String}
META_2018 = {"asin": String, "title": String, "brand": String, "main_cat": String}


class Amazon(Source):
    """Amazon's reviews of one category; a product with at least four of five stars is `liked`.

    The files are JSON lines, or the table of ratings of 2023 (`user_id,parent_asin,rating,timestamp`). The
    columns are user_id, item_id, rating and timestamp: unix seconds, of 2023 milliseconds. If
    `meta_CATEGORY.json` or `.jsonl` is beside them, each row has the product's title, brand (`store`, of
    2023) and category. Means and numbers of ratings in it are left out: they know later ratings.
    """

    name = "amazon"
    rows = "571.5 M"
    columns = None
    labels = ("liked",)
    publisher = "https://amazon-reviews-2023.github.io"
    terms = "as its page says"
    first_line = r'user_id,parent_asin,rating,timestamp$|\{.*"(parent_asin|reviewerID)": '

    def tables(self, path: Path) -> SourceTables:
        found = official(path, "*.jsonl", "*.json", "*.csv")
        reviews = [file for file in found if not file.name.startswith("meta_")]
        if not reviews:
            raise DataError("there is no file of reviews", file=path, hint="Give such as Books.jsonl.gz")
        rows, newest = _reviews(reviews)
        rows = rows.rename(NAMES, strict=False)
        rows = rows.with_columns(liked=(pl.col("rating") >= LIKED).cast(pl.Int8))
        meta = optional(path, "meta_*.jsonl", "meta_*.json", beside=True)
        if not meta:
            return SourceTables(rows)
        facts = scan_json_lines(meta, META_2023 if newest else META_2018)
        facts = facts.rename({**NAMES, "main_cat": "category", "main_category": "category"}, strict=False)
        return SourceTables(joined(rows, facts, meta[0], "item_id"))


def _reviews(files: list[TextFile]) -> tuple[pl.LazyFrame, bool]:
    """The reviews, and whether they are those of 2023."""
    if files[0].name.endswith(".csv"):
        if "parent_asin" not in first_names(files[0], ","):
            raise DataError(
                "the header lacks this column of the official file",
                file=files[0],
                column="parent_asin",
                hint="Give the reviews as JSON lines: older tables of ratings have no header",
            )
        return scan_text(files, TextFormat(IN_2023)), True
    with files[0].open() as stream:
        newest = b'"parent_asin"' in stream.readline()
    return scan_json_lines(files, IN_2023 if newest else BEFORE), newest
