"""Rows unlike the training rows: unknown ids, missing values, and numbers far outside the training range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ctrkit.arrays import Floats, Integers
from ctrkit.data.feature_map import is_unknown
from ctrkit.data.ids import LEAST, UnknownIds, as_lists
from ctrkit.data.scales import transformed
from ctrkit.data.vectors import Vectors, is_there
from ctrkit.errors import DataError
from ctrkit.schema import CANDIDATE_PREFIX, FeatureSpec
from ctrkit.tables.cells import ids_as_text, values_of

if TYPE_CHECKING:
    from ctrkit.data.encoder import Encoder

# Largest number of rows that are inspected.
LOOK_AT = 100_000
_PARTS = {"train": "Training", "valid": "Validation", "test": "Test"}


def unlike(encoder: Encoder, table: pl.DataFrame) -> tuple[str, ...]:
    """Sentences on how rows differ from the training rows of an encoder; empty where they do not.

    They name columns with far more unknown or missing ids or numbers than usual, and numbers so far outside
    the training range that they are clipped. In a log with candidate lists, the values of all candidates are
    inspected. Columns that are missing or faulty are skipped here, because reading them raises an error.
    """
    rows = _some(table)
    found, empty = _looked_up(encoder, rows, LEAST)
    unknown = _unknown_notes(encoder, found, encoder.usual_unknown)
    usual = encoder.usual_missing
    far = (*_numbers(encoder, rows, usual), *_clipped(encoder, rows))
    return (*unknown, *_empty_notes(empty, usual), *far)


def usual_shares(
    encoder: Encoder, training: pl.DataFrame, held_out: pl.DataFrame
) -> tuple[dict[str, float], dict[str, float], tuple[str, ...]]:
    """The usual shares of unknown ids and of empty rows, and notes on the held-out rows.

    Args:
        encoder: the encoder, without usual shares.
        training: some training rows, spread over all of them.
        held_out: some of the other rows.

    Returns:
        Column -> share of unknown ids, the larger one of the training rows and the held-out rows.
        Column -> share of training rows without an id, a number or any event.
        Sentences on how the held-out rows differ from the training rows. `unknown_by_part` has those on
        unknown ids.
    """
    known, missing = _looked_up(encoder, training)
    usual = {name: ids.share for name, ids in known.items()}
    unknown, empty = _looked_up(encoder, held_out)
    missing |= {name: share for name, share in _missing(encoder, training).items() if share}
    far = (*_numbers(encoder, held_out, missing), *_clipped(encoder, held_out))
    notes = (*_empty_notes(empty, missing), *far)
    told = tuple(f"Validation and test rows: {note}" for note in notes)
    most = {name: max(usual[name], unknown[name].share) for name in usual if name in unknown}
    return most, missing, told


def unknown_ids(encoder: Encoder, table: pl.DataFrame) -> dict[str, UnknownIds]:
    """The unknown ids of each field, sequence, bag and looked-up vector, on at most 100,000 rows spread over
    the table.

    Columns that are hashed are left out: their new values are in the buckets of others.
    """
    return _looked_up(encoder, _some(table))[0]


def unknown_by_part(
    encoder: Encoder, parts: Mapping[str, pl.DataFrame]
) -> tuple[dict[str, dict[str, float]], tuple[str, ...]]:
    """The share of unknown ids of each field, sequence, bag and looked-up vector in each part of a table.

    Args:
        encoder: the encoder.
        parts: "train", "valid" and "test" -> some rows of this part, spread over all of them.

    Returns:
        Column -> part -> share of unknown ids.
        A sentence on each column with far more unknown ids in some part than in the training rows, about the
        part with most of them.
    """
    found = {part: _looked_up(encoder, rows)[0] for part, rows in parts.items()}
    shares = {name: {part: of[name].share for part, of in found.items()} for name in found["train"]}
    usual = {name: of["train"] for name, of in shares.items()}
    notes = []
    for name, of in shares.items():
        most = max(of, key=lambda part: of[part])
        notes += [
            f"{_PARTS[most]} rows: {note}"
            for note in _unknown_notes(encoder, {name: found[most][name]}, usual)
        ]
    return shares, tuple(notes)


def min_count_of(encoder: Encoder, name: str) -> int:
    """How often an id of a field, sequence or bag must occur in the training rows to be known; of a vector,
    an id that is looked up need not."""
    counts = {f.name: f.min_count or 1 for f in encoder.spec.categorical}
    counts |= {one.name: counts.get(one.shares or "", one.min_count) for one in encoder.spec.listed}
    return counts.get(name, 1)


def _unknown_notes(
    encoder: Encoder, found: Mapping[str, UnknownIds], usual: Mapping[str, float]
) -> Iterator[str]:
    for name, ids in found.items():
        if not ids.far_above(usual.get(name, 0.0)):
            continue
        if name in encoder.stocks:
            yield (
                f"Feature '{name}': {ids.share:.0%} of the ids have no vector (in training"
                f" {usual.get(name, 0.0):.0%}), such as {ids.named()}, and are read as the mean vector."
            )
        else:
            known = encoder.vocabularies[encoder.spec.tables[name]]
            yield ids.note(name, known, usual.get(name), min_count_of(encoder, name))


def _looked_up(
    encoder: Encoder, table: pl.DataFrame, least: int = 0
) -> tuple[dict[str, UnknownIds], dict[str, float]]:
    """For each field, sequence, bag and looked-up vector its unknown ids, unless it is hashed, and the share
    of rows without an id, any event or a vector. There is no such share where rows are few.

    Args:
        encoder: the encoder.
        table: the rows.
        least: columns with fewer values are skipped.
    """
    found, empty = {}, {}
    for feature in encoder.spec.categorical:
        values = _column(encoder.spec, table, feature.name)
        if values is not None and values.len() >= least:
            unknown = is_unknown(encoder.ids(feature.name, values))
            found[feature.name] = UnknownIds.of(values, unknown)
            if values.len() >= LEAST:
                empty[feature.name] = 1.0 - found[feature.name].values / values.len()
    for name, values, vectors in _vectors(encoder, table):
        if values.len() >= least and vectors.rows is not None:
            found[name] = UnknownIds.of(values, vectors.rows == 0)
        if values.len() >= LEAST:
            own = vectors.rows is None
            lacks = ~is_there(vectors.values) if own else ids_as_text(values).is_null().to_numpy()
            empty[name] = float(lacks.mean())
    for sequence in encoder.spec.listed:
        if sequence.name in table.columns:
            lists = as_lists(table[sequence.name], sequence, None)
            if (events := values_of(lists)).len() >= least:
                unknown = is_unknown(encoder.ids(sequence.shares or sequence.name, events))
                found[sequence.name] = UnknownIds.of(events, unknown)
            if lists.len() >= LEAST:
                empty[sequence.name] = int((lists.list.len().fill_null(0) == 0).sum()) / lists.len()
    tables, hashed = encoder.spec.tables, encoder.spec.buckets
    return {name: ids for name, ids in found.items() if tables.get(name) not in hashed}, empty


def _empty_notes(found: Mapping[str, float], usual: Mapping[str, float]) -> Iterator[str]:
    """Sentences on columns that are empty in far more rows than in training."""
    for name, share in found.items():
        if name in usual and share > (1 + usual[name]) / 2:
            yield (
                f"Column '{name}': {share:.0%} of the rows have no value (in training {usual[name]:.0%}), and"
                " are read as unknown or empty."
            )


def _numbers(encoder: Encoder, table: pl.DataFrame, usual: Mapping[str, float]) -> Iterator[str]:
    """Sentences on numbers that are clipped, and on far more missing numbers than usual."""
    for feature, values, numbers in _read(encoder, table):
        scale = encoder.scales[feature]
        far = scale.beyond(numbers)
        if far.any():
            raw = values[int(np.argmax(far))]
            what = "far outside the range of the training rows, and are clipped"
            if scale.bound == 0:
                what = "not the number of all training rows, and are read as that number"
            yield f"Column '{feature}': {far.mean():.1%} of the numbers, such as {raw}, are {what}."
        share, known = float(np.isnan(numbers).mean()), usual.get(feature, 0.0)
        if share and not known:
            yield (
                f"Column '{feature}': {share:.1%} of the rows have no number, but all training rows have one;"
                " they are read as the mean of the training rows."
            )
        elif share > (1 + known) / 2:
            yield f"Column '{feature}': {share:.0%} of the rows have no number (in training {known:.0%})."


def _clipped(encoder: Encoder, table: pl.DataFrame) -> Iterator[str]:
    """Sentences on vectors with numbers that are clipped."""
    for name, _, vectors in _vectors(encoder, table):
        far = encoder.stocks[name].scale.clipped(vectors.values)
        if vectors.rows is None and far.any():
            yield (
                f"Column '{name}': {far.mean():.1%} of the vectors have numbers far outside the range of the"
                " training rows, which are clipped: they may come from another embedding model."
            )


def _vectors(encoder: Encoder, table: pl.DataFrame) -> Iterator[tuple[str, pl.Series, Vectors]]:
    """Each vector feature: its name, its raw values and its vectors."""
    for vector, stock in zip(encoder.spec.vectors, encoder.stocks.values(), strict=True):
        values = _column(encoder.spec, table, vector.column, nested=vector.table is None)
        if values is None:
            continue
        try:
            yield vector.name, values, stock.encode(values, vector, None)
        except DataError:
            continue


def _missing(encoder: Encoder, table: pl.DataFrame) -> dict[str, float]:
    """The share of rows without a number, by feature."""
    return {name: float(np.isnan(numbers).mean()) for name, _, numbers in _read(encoder, table)}


def _read(encoder: Encoder, table: pl.DataFrame) -> Iterator[tuple[str, pl.Series, Floats]]:
    """Each numeric feature: its name, its raw values and its transformed numbers."""
    for feature in encoder.spec.numeric:
        values = _column(encoder.spec, table, feature.name)
        if values is None or not values.len():
            continue
        try:
            yield feature.name, values, transformed(values, feature, None)
        except DataError:
            continue


def _column(spec: FeatureSpec, table: pl.DataFrame, name: str, *, nested: bool = False) -> pl.Series | None:
    """The values of a feature, or of all candidates where a log lists them; None without such a column.

    With `nested`, values are lists themselves.
    """
    chosen = spec.candidate
    listed = "candidates" if chosen is not None and name == chosen.id else f"{CANDIDATE_PREFIX}{name}"
    for column in (listed, name):
        if column in table.columns:
            values = table[column]
            lists = column == listed if nested else isinstance(values.dtype, pl.List)
            return values_of(values) if lists else values
    return None


def spread(rows: Integers, most: int = LOOK_AT) -> Integers:
    """At most so many of the rows, spread over all of them."""
    return rows[:: max(1, -(-rows.size // most))]


def _some(table: pl.DataFrame) -> pl.DataFrame:
    """At most `LOOK_AT` rows, spread over the whole table."""
    return table[spread(np.arange(table.height))] if table.height > LOOK_AT else table
