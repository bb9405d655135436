"""Ali-CCP (Alibaba, 2018): impressions of Taobao's recommender with clicks and purchases."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Int8, Int64, String, in_parts, joined, official
from ctrkit.tables import TextFile, TextFormat, scan_text

# The fields that the owner's page names, by the table in which they are.
USER = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
USER_LISTS = ("109_14", "110_14", "127_14", "150_14")
ITEM = ("205", "206", "207", "216", "508", "509", "702", "853", "301")
ITEM_LISTS = ("210",)
SKELETON = TextFormat(
    {
        "sample_id": Int64, "click": Int8, "conversion": Int8, "common_id": String, "number": Int64,
        "features": String,
    },
    header=False,
    quoted=False,
)  # fmt: skip
COMMON = TextFormat({"common_id": String, "number": Int64, "features": String}, header=False, quoted=False)


class AliCcp(Source):
    """Taobao's recommended items, with the click and the purchase after it (Ma et al., SIGIR 2018).

    The columns are the fields by their official numbers: those of `sample_skeleton_*.csv`, and those of the
    user in `common_features_*.csv`. Fields with several ids are lists; the values beside ids are left out.
    `split` is the owner's: train or test.
    """

    name = "aliccp"
    rows = "84 M"
    columns = 27
    labels = ("click", "conversion")
    publisher = "https://tianchi.aliyun.com/dataset/408"
    terms = "as its page says"
    first_line = r"\d+,[01],[01],\w+,\d+,\d+\x02"

    def tables(self, path: Path) -> SourceTables:
        def read(files: list[TextFile]) -> pl.LazyFrame:
            rows = scan_text(files, SKELETON).with_columns(_fields(ITEM, ITEM_LISTS))
            part = Path(files[0].name).stem.rpartition("_")[2]
            common = official(path, f"common_features_{part}.csv", beside=True)
            users = scan_text(common, COMMON).select("common_id", *_fields(USER, USER_LISTS))
            return joined(rows.drop("number", "features"), users, common[0], "common_id").drop("common_id")

        parts = {part: f"sample_skeleton_{part}.csv" for part in ("train", "test")}
        return SourceTables(in_parts(path, parts, read))


def _fields(single: Iterable[str], lists: Iterable[str]) -> list[pl.Expr]:
    """The ids of fields in `field \\x02 id \\x03 value \\x01 field …`."""
    text = pl.lit("\x01") + pl.col("features").fill_null("")
    ids = [text.str.extract(f"\x01{name}\x02([0-9]+)", 1).cast(Int64).alias(name) for name in single]
    many = [
        text.str.extract_all(f"\x01{name}\x02[0-9]+")
        .list.eval(pl.element().str.extract("\x02([0-9]+)$", 1).cast(Int64))
        .alias(name)
        for name in lists
    ]
    return [*ids, *many]
