"""Files of vectors by id: tables, or arrays in an npz or safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from ctrkit.data.vectors import VectorTable, is_there, read_vectors, with_none
from ctrkit.errors import DataError, missing, nearest
from ctrkit.schema import VectorFeature
from ctrkit.tables import read_named
from ctrkit.tables.cells import ids_as_text


def read_vector_table(feature: VectorFeature) -> VectorTable:
    """The vectors of a file by their ids; an id without a vector counts as one that is not there.

    Raises:
        DataError: the file cannot be read, lacks the column of ids, holds an id twice or no vector, or leaves
            open which column holds vectors.
    """
    assert feature.table is not None
    name = feature.table_id or feature.column
    table, file = _read_file(feature.table, (name, feature.table_vector))
    for column in (name, feature.table_vector):
        if column is not None and column not in table.columns:
            key = "table_id" if column == name else "table_vector"
            hint = f"Name the right one as `{key}`. {nearest(column, table.columns)}"
            raise DataError("the file of vectors has no such column", file=file, column=column, hint=hint)
    ids = ids_as_text(table[name], file)
    if (wrong := (ids.is_null() | ~ids.is_first_distinct()).arg_true()).len():
        row = int(wrong[0])
        problem = "the vector has no id" if ids[row] is None else f"'{ids[row]}' has a second vector here"
        hint = "Keep one vector for each id"
        raise DataError(problem, file=file, column=name, row=row, hint=hint)
    values = read_vectors(_vectors_in(table.drop(name), feature, file), feature, None, file)
    there = is_there(values)
    if not there.any():
        raise DataError("the file holds no vector", file=file, hint="Give the file of an embedding")
    return VectorTable(ids.filter(pl.Series(there)).to_list(), with_none(values[there]))


def _read_file(path: str, texts: Sequence[str | None]) -> tuple[pl.DataFrame, str | None]:
    """The file as a table; `texts` are columns that are text in a text file."""
    kind = Path(path).suffix
    if not Path(path).is_file():
        raise missing("vectors", path)
    if kind not in (".npz", ".safetensors"):
        return read_named(path, lambda name: name in texts)
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        else:
            found = load_file(path)
        half = [name for name, array in found.items() if array.dtype == np.float16]
        return pl.DataFrame(found | {name: found[name].astype(np.float32) for name in half}), path
    except Exception as error:  # of many kinds, by the damage
        hint = "Save an array of ids and one of vectors, with a row for each id, and no Python objects"
        raise DataError("the arrays of this file cannot be read", file=path, hint=hint) from error


def _vectors_in(table: pl.DataFrame, feature: VectorFeature, file: str | None) -> pl.Series:
    """The column of vectors, or all columns as one."""
    if feature.table_vector is not None:
        return table[feature.table_vector]
    numbers = [name for name, dtype in table.schema.items() if dtype.is_numeric()]
    lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List | pl.Array)]
    others = [name for name in table.columns if name not in numbers and name not in lists]
    if len(lists) == 1 or (not lists and not numbers and len(others) == 1):
        return table[(lists or others)[0]]
    if lists or others or not numbers:
        columns = ", ".join(table.columns[:6]) or "no other column"
        raise DataError(
            f"the file does not say which column holds vectors (it has {columns})",
            file=file,
            hint="Name it as `table_vector`",
        )
    joined = pl.concat_list(pl.col(numbers).cast(pl.Float64))
    return table.select(vectors=pl.when(~pl.all_horizontal(pl.col(numbers).is_null())).then(joined))[
        "vectors"
    ]
