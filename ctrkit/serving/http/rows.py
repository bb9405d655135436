"""Whole rows, each with its own history, as data frames and tensors give them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import is_unknown
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import InputError, nearest
from ctrkit.serving.bundle import Bundle, arrays_of
from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.scoring import RequestScorer, Scores
from ctrkit.serving.sessions import Arrays


def score_rows(scorer: RequestScorer, given: Mapping[str, pl.Series], rows: int) -> Scores:
    """The scores of rows, as `Model.predict` gives them.

    Args:
        scorer: the model.
        given: column -> its cells; a column of the model that is not given is empty in all rows.
        rows: number of rows.

    Raises:
        Refusal: 422, a column is none of the model's, or a value is wrong.
    """
    started = time.perf_counter()
    encoder = scorer.bundle.encoder
    columns = encoder.spec.feature_columns
    for name in given:
        if name not in columns:
            raise Refusal(422, "the model reads no such column", path=name, hint=nearest(name, columns))
    empty = pl.Series([None] * rows, dtype=pl.Null)
    try:
        table = encoder.spec.typed(pl.DataFrame({name: given.get(name, empty) for name in columns}), None)
        _check_lengths(encoder, table)
        encoded = encoder.encode(table, labels=False)
    except InputError as error:
        raise Refusal.of_input(error) from None
    read = time.perf_counter()
    found = _outputs(scorer.bundle, arrays_of(encoded))
    return Scores(
        outputs={name: found[name].astype(np.float64) for name in scorer.outputs},
        version=scorer.version,
        name=scorer.name,
        missing=_missing(table),
        unknown=_unknown(encoder, encoded, table),
        cold=(),
        stages={"encode": read - started, "score": time.perf_counter() - read},
    )


def _outputs(bundle: Bundle, arrays: Arrays) -> dict[str, Any]:
    """The outputs; a history that all rows share is encoded once."""
    graphs = bundle.graphs
    histories = {name: arrays[name] for name in graphs.interface.sequences}
    if histories and all((one == one[:1]).all() for one in histories.values()):
        encoded = graphs.encode({name: one[:1] for name, one in histories.items()})
        return graphs.score_candidates(arrays, encoded)
    return graphs.score(arrays)


def _check_lengths(encoder: Encoder, table: pl.DataFrame) -> None:
    """Check that no history is longer than the model's."""
    for sequence in encoder.spec.sequences:
        column = table[sequence.name]
        if isinstance(column.dtype, pl.List):
            longer = (column.list.len() > sequence.max_length).fill_null(False).to_numpy()
            if longer.any():
                row = int(np.argmax(longer))
                raise Refusal(
                    422,
                    f"the history has {column.list.len()[row]:,} events, and the model reads "
                    f"{sequence.max_length:,}",
                    path=f"{sequence.name}[{row}]",
                    hint="Send the newest ones",
                )


def _missing(table: pl.DataFrame) -> dict[str, int]:
    """Column -> rows without a value, where there are some."""
    found = {
        column.name: int((column.list.len().fill_null(0) == 0).sum())
        if isinstance(column.dtype, pl.List)
        else column.null_count()
        for column in table
    }
    return {name: count for name, count in found.items() if count}


def _unknown(encoder: Encoder, encoded: EncodedTable, table: pl.DataFrame) -> dict[str, int]:
    """Feature -> rows with an id that training did not know, where there are some."""
    if isinstance(encoder, RawEncoder):  # to which all ids are new
        return {}
    fields = encoder.spec.categorical
    found = {
        field.name: int(is_unknown(encoded.categorical[:, place]).sum()) - table[field.name].null_count()
        for place, field in enumerate(fields)
    }
    lists = {**{n: one[:] for n, one in encoded.sequences.items()}, **encoded.bags}
    found |= {name: int(is_unknown(ids).any(axis=1).sum()) for name, ids in lists.items()}
    return {name: count for name, count in found.items() if count}
