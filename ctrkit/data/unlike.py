"""Rows unlike those that an encoder learnt from: ids unknown or missing, numbers far outside their range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ctrkit.arrays import Integers
from ctrkit.data.ids import LEAST, UnknownIds, as_lists
from ctrkit.data.scales import transformed
from ctrkit.errors import DataError
from ctrkit.schema import CANDIDATE_PREFIX, FeatureSpec
from ctrkit.tables.cells import ids_as_text, values_of

if TYPE_CHECKING:
    from ctrkit.data.encoder import Encoder

# Rows of a table that are looked at.
LOOK_AT = 100_000


def unlike(encoder: Encoder, table: pl.DataFrame) -> tuple[str, ...]:
    """Sentences on how rows differ from all that an encoder learnt from, or none.

    Told are columns with far more unknown or missing ids than usual, and numbers so far outside the training
    rows' that they are read as others. Of a log its candidates are looked at, in place of the features that
    it lists a candidate. Columns that are not there or faulty are passed over: whoever needs them says so.
    """
    rows = _some(table)
    found, empty = _looked_up(encoder, rows, LEAST)
    unknown = _notes(encoder, found, encoder.usual_unknown)
    return (*unknown, *_empty_notes(empty, encoder.usual_missing), *_far(encoder, rows))


def usual_shares(
    encoder: Encoder, table: pl.DataFrame, training: Integers
) -> tuple[dict[str, float], dict[str, float], tuple[str, ...]]:
    """By column, the share of unknown ids in the training rows or, if larger, in the others, and of rows that
    hold nothing; and sentences on how the others are unlike those of training.

    Args:
        training: the rows that were learnt from.
    """
    mine, others = _some(table[training]), np.setdiff1d(np.arange(table.height), training)
    known, missing = _looked_up(encoder, mine)
    usual, held_out = {name: ids.share for name, ids in known.items()}, _some(table[others])
    unknown, empty = _looked_up(encoder, held_out)
    notes = (*_notes(encoder, unknown, usual), *_empty_notes(empty, missing), *_far(encoder, held_out))
    told = tuple(f"Rows that were not learnt from: {note}" for note in notes)
    return {name: max(share, unknown[name].share) for name, share in usual.items()}, missing, told


def _notes(encoder: Encoder, found: Mapping[str, UnknownIds], usual: Mapping[str, float]) -> Iterator[str]:
    table_of = {s.name: s.shares or s.name for s in encoder.spec.sequences}
    for name, ids in found.items():
        if ids.far_above(usual.get(name, 0.0)):
            yield ids.note(name, encoder.vocabularies[table_of.get(name, name)], usual.get(name))


def _looked_up(
    encoder: Encoder, table: pl.DataFrame, least: int = 0
) -> tuple[dict[str, UnknownIds], dict[str, float]]:
    """By field and sequence that is there, its unknown ids, and the share of rows without an id, or without
    any event; the latter not of few rows.

    Args:
        least: columns of fewer values are passed over.
    """
    found, empty = {}, {}
    for feature in encoder.spec.categorical:
        values = _column(encoder.spec, table, feature.name)
        if values is not None and values.len() >= least:
            found[feature.name] = UnknownIds.of(ids_as_text(values), encoder.known[feature.name][0])
            if values.len() >= LEAST:
                empty[feature.name] = 1.0 - found[feature.name].values / values.len()
    for sequence in encoder.spec.sequences:
        if sequence.name in table.columns:
            lists = as_lists(table[sequence.name], sequence, None)
            if (events := values_of(lists)).len() >= least:
                known = encoder.known[sequence.shares or sequence.name][0]
                found[sequence.name] = UnknownIds.of(ids_as_text(events), known)
            if lists.len() >= LEAST:
                empty[sequence.name] = int((lists.list.len().fill_null(0) == 0).sum()) / lists.len()
    return found, empty


def _empty_notes(found: Mapping[str, float], usual: Mapping[str, float]) -> Iterator[str]:
    """Sentences on columns in which most of what training had is missing."""
    for name, share in found.items():
        if name in usual and share > (1 + usual[name]) / 2:
            yield (
                f"Column '{name}': {share:.0%} of the rows hold nothing (in training {usual[name]:.0%}),"
                " which is read as unknown or empty."
            )


def _far(encoder: Encoder, table: pl.DataFrame) -> Iterator[str]:
    """Sentences on numbers that are read as others."""
    for feature in encoder.spec.numeric:
        values = _column(encoder.spec, table, feature.name)
        if values is None or not values.len():
            continue
        try:
            numbers = transformed(values, feature, None)
        except DataError:
            continue
        scale = encoder.scales[feature.name]
        far = scale.beyond(numbers)
        if far.any():
            raw = values[int(np.argmax(far))]
            what = "far outside the training rows' range, and are read as its far end"
            if scale.bound == 0:
                what = "other than in all training rows, which say nothing of them: they are read as those"
            yield f"Column '{feature.name}': {far.mean():.1%} of the numbers, such as {raw}, are {what}."


def _column(spec: FeatureSpec, table: pl.DataFrame, name: str) -> pl.Series | None:
    """The values of a feature, those of all candidates where a log lists them; None where it has none."""
    chosen = spec.candidate
    listed = "candidates" if chosen is not None and name == chosen.id else f"{CANDIDATE_PREFIX}{name}"
    for column in (listed, name):
        if column in table.columns:
            values = table[column]
            return values_of(values) if isinstance(values.dtype, pl.List) else values
    return None


def _some(table: pl.DataFrame) -> pl.DataFrame:
    """Rows from all over a table, where it has more than are looked at."""
    return table.gather_every(-(-table.height // LOOK_AT)) if table.height > LOOK_AT else table
