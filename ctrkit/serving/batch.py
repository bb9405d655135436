"""A stored batch: raw rows and what the model gives for them, with which a server checks what it has loaded.

The rows are made up of what the encoder knows, so that an export holds no row of a log. They go the whole
way of a request, from raw values to probabilities, and need no PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.arrays import Booleans, Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.scales import restored
from ctrkit.errors import ArtifactError
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.parity import compared

BATCH = "batch.zip"
# The number of rows, of those that share a history, and of ids that they take of a table.
ROWS, _SHARING, _IDS = 32, 8, 20
_NEW, _MISSING = "an id that nobody has", 0.2


def raw_rows(encoder: Encoder, encoded: EncodedTable) -> pl.DataFrame:
    """Raw rows for the model of an encoder: known and new ids, missing values, and lists of any length.

    Args:
        encoder: the model's.
        encoded: rows that the model takes. Of raw values, which a model need not take at random, these are
            the rows; of others the rows are random.
    """
    if isinstance(encoder, RawEncoder):
        return _decoded(encoder, encoded)
    draw, spec = np.random.default_rng(0), encoder.spec
    columns: dict[str, list[Any]] = {}

    def ids(known: Sequence[str], count: int) -> list[str]:
        some = [*known[:_IDS], _NEW] if known else [str(number) for number in range(_IDS)]  # hashed
        return [some[place] for place in draw.integers(len(some), size=count)]

    def ids_of(name: str, count: int) -> list[str]:
        return ids(encoder.vocabularies.get(spec.tables[name], []), count)

    for vector in spec.vectors:
        stock = encoder.stocks[vector.name]
        if stock.table is None:
            columns[vector.column] = draw.normal(size=(ROWS, stock.width)).tolist()
        else:
            columns[vector.column] = ids(stock.table.ids, ROWS)
    for feature in spec.categorical:
        columns[feature.name] = ids_of(feature.name, ROWS)
    for number in spec.numeric:
        scaled = draw.normal(size=ROWS).tolist()
        raw = [restored(one, encoder.scales[number.name], number) for one in scaled]
        columns[number.name] = [abs(one) for one in raw] if number.transform == "log1p" else raw
    for values in columns.values():
        for row in np.flatnonzero(draw.random(ROWS) < _MISSING):
            values[row] = None
    for domain in spec.domains:
        most = min(one.max_length for one in domain)
        lengths = [0, most, *draw.integers(0, most, ROWS // _SHARING - 2, endpoint=True).tolist()]
        for one in domain:
            histories = [ids_of(one.name, length) for length in lengths]
            columns[one.name] = [history for history in histories for _ in range(_SHARING)]
    for bag in spec.bags:
        columns[bag.name] = [ids_of(bag.name, int(draw.integers(bag.max_length + 1))) for _ in range(ROWS)]
        if bag.weights is not None:
            columns[bag.weights] = [draw.random(len(of)).tolist() for of in columns[bag.name]]
    return pl.DataFrame({name: columns[name] for name in spec.feature_columns})


def _decoded(encoder: RawEncoder, encoded: EncodedTable) -> pl.DataFrame:
    spec = encoder.spec
    ids = {
        one.name: encoder.values(one.name, encoded.categorical[:ROWS, place])
        for place, one in enumerate(spec.categorical)
    }
    numbers = {
        one.name: pl.Series(encoded.numeric[:ROWS, place]).fill_nan(None)
        for place, one in enumerate(spec.numeric)
    }
    return pl.DataFrame({**ids, **numbers})


def encoded_rows(encoder: Encoder, rows: pl.DataFrame) -> EncodedTable:
    """Raw rows, encoded as a server encodes them."""
    return encoder.encode(encoder.spec.typed(rows, None), labels=False)


def write_batch(
    rows: pl.DataFrame, wanted: Mapping[str, Floats], jumps: Booleans, tolerance: float, folder: Path
) -> None:
    """Store a batch.

    Args:
        rows: raw rows.
        wanted: output -> what the model gives for them, [n], or [n, T] for logits.
        jumps: rows where a calibrator jumps so close to the logit that rounding decides, [n].
        tolerance: the largest difference that is allowed.
        folder: where to.
    """
    stored = {"rows": rows.to_dict(as_series=False), "wanted": dict(wanted), "jumps": jumps}
    write_arrays({**stored, "tolerance": tolerance}, folder / BATCH)


def check_batch(bundle: Bundle, folder: Path) -> None:
    """Compute the stored batch, and compare it with what the model has given.

    Args:
        bundle: the exported model, opened.
        folder: its folder.

    Raises:
        ArtifactError: an output differs by more than is allowed, or the batch cannot be computed.
    """
    try:
        stored = read_arrays(folder / BATCH)
        rows = encoded_rows(bundle.encoder, pl.DataFrame(stored["rows"]))
        found = compared(bundle.graphs, rows, stored["wanted"], stored["jumps"]).largest_difference
        allowed = float(stored["tolerance"])
    except Exception as error:  # of many kinds, by the damage
        raise ArtifactError("the stored batch cannot be computed", file=folder) from error
    if not found <= allowed:
        raise ArtifactError(
            f"on the stored batch this machine's outputs differ from those of the export, by {found:.2g}; "
            f"{allowed:g} is allowed",
            file=folder,
            hint="Export the model for this machine, in another format",
        )
