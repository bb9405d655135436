"""AliExpress's search (2020): products in result lists of five countries, with clicks and purchases."""

from __future__ import annotations

from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, Int8, Int64, in_parts
from ctrkit.tables import TextFormat, scan_text

COLUMNS = {
    "search_id": Int64,
    **{f"categorical_{index}": Int64 for index in range(1, 17)},
    **{f"numerical_{index}": Float64 for index in range(1, 64)},
    "click": Int8,
    "conversion": Int8,
}


class AliExpress(Source):
    """Products in AliExpress's search lists, with the click and the purchase; one folder for each country.

    The files are `train.csv` and `test.csv` of a country in the form in which multi-task benchmarks read
    them: the owner's tables of users and of items, joined. `split` is the owner's: train or test.
    """

    name = "aliexpress"
    rows = "5 countries"
    columns = 83
    labels = ("click", "conversion")
    publisher = "https://tianchi.aliyun.com/dataset/74690"
    terms = "as its page says"
    first_line = "(split,)?search_id,categorical_1,"

    def tables(self, path: Path) -> SourceTables:
        parts = {"train": "train.csv", "test": "test.csv"}
        return SourceTables(in_parts(path, parts, lambda files: scan_text(files, TextFormat(COLUMNS))))
