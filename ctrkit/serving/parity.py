"""Whether graphs give what the model gives, on random rows and on real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import PADDING_ID, UNKNOWN_ID, FeatureMap, VectorField
from ctrkit.data.histories import Histories
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.vectors import Vectors
from ctrkit.serving.bundle import LOGITS, Graphs, arrays_of
from ctrkit.serving.sessions import Arrays

# A graph's probabilities are those of the model to this difference, its values to this share of themselves.
TOLERANCE = 1e-5
# The number of random rows, and of those that share a history.
RANDOM, SHARING = 512, 32


@dataclass(frozen=True)
class Parity:
    """How the outputs of graphs compare with those of the model.

    Attributes:
        rows: number of rows compared.
        largest_difference: of a probability or a logit, or of an expected value as a share of it.
        at_steps: rows left out, because a calibrator jumps so close to their logits that rounding decides.
    """

    rows: int
    largest_difference: float
    at_steps: int


def any_rows(encoder: Encoder, seed: int = 0) -> EncodedTable:
    """Random rows for the model of an encoder. Raw ones hold small whole numbers, which inputs of all types
    take."""
    if not isinstance(encoder, RawEncoder):
        return random_rows(encoder.feature_map(), seed)
    draw = np.random.default_rng(seed)
    columns = encoder.spec.static_columns
    return encoder.encode(
        pl.DataFrame({name: draw.integers(0, 100, RANDOM) for name in columns}), labels=False
    )


def random_rows(features: FeatureMap, seed: int = 0) -> EncodedTable:
    """Rows with any ids, also unknown ones, with missing numbers, and histories of any length.

    Rows that share a history lie side by side.
    """
    draw = np.random.default_rng(seed)

    def ids(table: str, *shape: int) -> NDArray[np.int32]:
        return draw.integers(UNKNOWN_ID, features.tables[table], shape, dtype=np.int32)

    categorical = [ids(table, RANDOM) for table in features.categorical.values()]
    numeric = draw.normal(scale=2.0, size=(RANDOM, len(features.numeric))).astype(np.float32)
    numeric[draw.random(numeric.shape) < 0.1] = np.nan
    place, sequences = np.arange(RANDOM) // SHARING, {}
    for domain in features.by_domain():
        lengths = draw.integers(0, domain.max_length, RANDOM // SHARING, dtype=np.int32, endpoint=True)
        lengths[:2] = 0, domain.max_length
        windows = lengths.cumsum(dtype=np.int64)[place], lengths[place], features.max_length
        for name, table in domain.sequences.items():
            sequences[name] = Histories(ids(table, lengths.sum()), *windows)
    bags, weights = {}, {}
    for name, bag in features.bags.items():
        there = np.arange(bag.length) < draw.integers(0, bag.length, (RANDOM, 1), endpoint=True)
        bags[name] = np.where(there, ids(bag.table, RANDOM, bag.length), np.int32(PADDING_ID))
        if bag.weighted:
            weights[name] = np.where(there, draw.random(there.shape), 0.0).astype(np.float32)
    return EncodedTable(
        np.stack(categorical, axis=1) if categorical else np.empty((RANDOM, 0), np.int32),
        numeric,
        {name: sequences[name] for name in features.sequences},
        np.empty((RANDOM, 0), np.float32),
        np.ones(RANDOM, np.float32),
        bags=bags,
        bag_weights=weights,
        vectors={name: _random_vectors(draw, one) for name, one in features.vectors.items()},
    )


def _random_vectors(draw: np.random.Generator, of: VectorField) -> Vectors:
    """Vectors of which some are missing."""
    values = draw.normal(size=(of.rows or RANDOM, of.width)).astype(np.float32)
    values[draw.random(len(values)) < 0.1] = np.nan
    return Vectors(values, None if of.table is None else draw.integers(0, of.rows, RANDOM, dtype=np.int32))


def compared(graphs: Graphs, rows: EncodedTable, wanted: Mapping[str, Floats], jumps: Booleans) -> Parity:
    """Compare graphs with the model: whole rows, and each history with its candidates.

    Args:
        graphs: the opened graphs.
        rows: encoded rows.
        wanted: output -> what the model gives for the rows, [n], or [n, T] for logits.
        jumps: rows where a calibrator jumps so close to the logit that rounding decides, [n].
    """
    arrays = arrays_of(rows)
    answers = [graphs.score(arrays)]
    if graphs.interface.sequences:
        answers.append(_by_history(graphs, arrays))
    largest = 0.0
    for answer in answers:
        for name, values in wanted.items():
            apart = np.abs(answer[name] - values) / np.maximum(1.0, np.abs(values))
            apart = apart if name == LOGITS else apart[~jumps]
            largest = max(largest, float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)))
    return Parity(len(rows), largest, int(jumps.sum()))


def _by_history(graphs: Graphs, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The outputs for rows whose histories are encoded once each."""
    interface, found = graphs.interface, dict[str, NDArray[Any]]()
    histories = np.concatenate([arrays[name] for name in interface.sequences], axis=1)
    _, first, place = np.unique(histories, axis=0, return_index=True, return_inverse=True)
    for history, row in enumerate(first):
        state = graphs.encode({name: arrays[name][row : row + 1] for name in interface.sequences})
        own = np.flatnonzero(place == history)
        answer = graphs.score_candidates({name: arrays[name][own] for name in interface.static}, state)
        for name, values in answer.items():
            found.setdefault(name, np.empty((place.size, *values.shape[1:]), values.dtype))[own] = values
    return found
