"""RecBole's atomic files: interactions, users and items of any data set."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.data.sources.official import Float64, String, joined, official, optional
from ctrkit.errors import DataError
from ctrkit.tables import TextFile, TextFormat, first_names, scan_text

LIKED = 4
KINDS = {"token": String, "token_seq": String, "float": Float64, "float_seq": String}


class RecBole(Source):
    """A data set in RecBole's form: `.inter`, with `.user` and `.item` where they are.

    The names are those of the header without their kinds. Sequences are lists. `label` is the column of that
    name; without one, it says whether the rating is at least 4.
    """

    name = "recbole"
    rows = "any"
    columns = None
    labels = ("label",)
    publisher = "https://recbole.io/docs/user_guide/data/atomic_files.html"
    terms = "those of the data set"
    first_line = r"\w+:token\t\w+:token"

    def tables(self, path: Path) -> SourceTables:
        files = official(path, "*.inter")
        rows, _ = _table(files)
        for kind in ("user", "item"):
            if side := optional(path, f"{Path(files[0].name).stem}.{kind}", beside=True):
                facts, key = _table(side)
                rows = joined(rows, facts, side[0], key)
        names = rows.collect_schema().names()
        if "label" in names:
            return SourceTables(rows.with_columns(pl.col("label").cast(pl.Int8)))
        if "rating" not in names:
            raise DataError(
                "the interactions have neither this column nor ratings",
                file=files[0],
                column="label",
                hint="Add label:float",
            )
        return SourceTables(rows.with_columns(label=(pl.col("rating") >= LIKED).cast(pl.Int8)))


def _table(files: list[TextFile]) -> tuple[pl.LazyFrame, str]:
    """The rows of atomic files, and the name of their first column, the key of a side table."""
    header = first_names(files[0], "\t")
    kinds = dict(name.rpartition(":")[::2] for name in header)
    for name, kind in kinds.items():
        if not name or kind not in KINDS:
            raise DataError(
                "a name in the header ends with its kind, such as user_id:token",
                file=files[0],
                column=f"{name}:{kind}" if name else kind,
                hint="Give an atomic file of RecBole",
            )
    form = TextFormat({f"{n}:{k}": KINDS[k] for n, k in kinds.items()}, "\t", quoted=False)
    rows = scan_text(files, form).rename({f"{n}:{k}": n for n, k in kinds.items()})
    words = [pl.col(n).str.extract_all(r"\S+") for n, k in kinds.items() if k == "token_seq"]
    numbers = [
        pl.col(n).str.extract_all(r"\S+").cast(pl.List(pl.Float64))
        for n, k in kinds.items()
        if k == "float_seq"
    ]
    return rows.with_columns(*words, *numbers), next(iter(kinds))
