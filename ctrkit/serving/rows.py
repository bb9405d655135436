"""Whole rows, each with its own history, as data frames and tensors give them: read, and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import is_unknown
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import DataError, nearest
from ctrkit.schema.features import IMPRESSION_VALUE, VALUE
from ctrkit.serving.bundle import Bundle, arrays_of
from ctrkit.serving.sessions import Arrays


@dataclass(frozen=True)
class ReadRows:
    """Rows that are ready to be scored.

    Attributes:
        arrays: their arrays, by the names of `EncodedTable.arrays`.
        missing: column -> number of rows without a value, where there are some.
        unknown: feature -> number of rows with an id that training did not know, where there are some.
    """

    arrays: Arrays
    missing: dict[str, int]
    unknown: dict[str, int]


def read_rows(encoder: Encoder, given: Mapping[str, pl.Series], rows: int) -> ReadRows:
    """Encode the columns of a request.

    Args:
        encoder: the model's.
        given: column -> its cells; a column of the model that is not given is empty in all rows.
        rows: number of rows.

    Raises:
        DataError: a column is none of the model's, a value is wrong, or a history is too long.
    """
    columns = encoder.spec.feature_columns
    for name in given:
        if name not in columns:
            raise DataError("the model reads no such column", column=name, hint=nearest(name, columns))
    empty = pl.Series([None] * rows, dtype=pl.Null)
    table = encoder.spec.typed(pl.DataFrame({name: given.get(name, empty) for name in columns}), None)
    _check_lengths(encoder, table)
    encoded = encoder.encode(table, labels=False)
    return ReadRows(arrays_of(encoded), _missing(table), _unknown(encoder, encoded, table))


def outputs_of(bundle: Bundle, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs of a model for rows; a history that all of them share is encoded once.

    Args:
        bundle: the model.
        arrays: arrays of at least one row.
    """
    graphs = bundle.graphs
    histories = {name: arrays[name] for name in graphs.interface.sequences}
    if histories and all((one == one[:1]).all() for one in histories.values()):
        history = graphs.encode({name: one[:1] for name, one in histories.items()})
        return graphs.score_candidates(arrays, history)
    return graphs.score(arrays)


def columns_of_outputs(
    tasks: Sequence[str], outputs: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    """The columns of `Model.predict`, from the outputs of a model's graphs."""
    columns = {name: outputs[name].astype(np.float64) for name in (*tasks, VALUE) if name in outputs}
    if VALUE in columns:
        columns[IMPRESSION_VALUE] = np.prod(list(columns.values()), axis=0)
    return columns


def _check_lengths(encoder: Encoder, table: pl.DataFrame) -> None:
    for sequence in encoder.spec.sequences:
        column = table[sequence.name]
        if isinstance(column.dtype, pl.List):
            longer = (column.list.len() > sequence.max_length).fill_null(False).to_numpy()
            if longer.any():
                row = int(np.argmax(longer))
                raise DataError(
                    f"the history has {column.list.len()[row]:,} events, and the model reads "
                    f"{sequence.max_length:,}",
                    column=sequence.name,
                    row=row,
                    hint="Send the newest ones",
                )


def _missing(table: pl.DataFrame) -> dict[str, int]:
    found = {
        column.name: int((column.list.len().fill_null(0) == 0).sum())
        if isinstance(column.dtype, pl.List)
        else column.null_count()
        for column in table
    }
    return {name: count for name, count in found.items() if count}


def _unknown(encoder: Encoder, encoded: EncodedTable, table: pl.DataFrame) -> dict[str, int]:
    if isinstance(encoder, RawEncoder):  # to which all ids are new
        return {}
    fields = encoder.spec.categorical
    found = {
        field.name: int(is_unknown(encoded.categorical[:, place]).sum()) - table[field.name].null_count()
        for place, field in enumerate(fields)
    }
    lists = {**{name: one[:] for name, one in encoded.sequences.items()}, **encoded.bags}
    found |= {name: int(is_unknown(ids).any(axis=1).sum()) for name, ids in lists.items()}
    return {name: count for name, count in found.items() if count}
