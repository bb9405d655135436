"""The rows of a training run: checked, divided and encoded, with notes for the user."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from ctrkit.api.models.before_training import Notes, check_labels, group_notes
from ctrkit.api.models.negative_rows import notes_on, sampled_log
from ctrkit.api.models.profile import training_profile
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.arrays import Booleans, Integers
from ctrkit.data.delays import LateLabels, Maturity, settled
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.data.fingerprints import seen_state, times_digest, times_of
from ctrkit.data.negatives import counting
from ctrkit.data.raw_table import RawTable
from ctrkit.data.split import Split, split_rows
from ctrkit.data.store import Store
from ctrkit.data.unlike import spread, unknown_by_part
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec, require_columns


@dataclass(frozen=True)
class TrainingRows:
    """A labelled table, ready to train on.

    Attributes:
        table: the raw rows; None where they are not in memory.
        file: name of the table, for messages.
        encoder: the encoder, learned from the training rows.
        encoded: the same rows, encoded.
        split: which rows are training, validation and test rows.
        unknown: field or sequence -> part of the split -> share of unknown ids.
        known: what was noted of the raw rows while they were read, where they are not in memory.
        maturity: what is known of each label that comes late.
        store: the folder of the rows, where they are on disk.
    """

    table: pl.DataFrame | None
    file: str | None
    encoder: Encoder
    encoded: EncodedTable
    split: Split
    unknown: dict[str, dict[str, float]]
    known: dict[str, Any] | None = None
    maturity: tuple[Maturity, ...] = ()
    store: Store | None = None

    def describe(self, notes: Notes) -> dict[str, Any]:
        """What the artifact keeps of the rows, to recognise them and to measure drift without them."""
        spec, training = self.encoder.spec, self.split.train
        if self.table is None:
            found = {**(self.known or {}), "fingerprint": self.encoded.fingerprint()}
            return {**found, "split": self.split.describe(), "unknown": self.unknown}
        table = self.table
        held_out = np.concatenate([self.split.valid, self.split.test])
        lasting = settled({one.task for one in self.maturity}, self.encoded, spec.tasks)
        weight = self.encoded.weight[spread(training)].astype(np.float64)
        return {
            "file": self.file,
            "fingerprint": self.encoded.fingerprint(),
            "times": times_digest(times_of(spec, table)),
            "rows": len(self.encoded),
            "split": self.split.describe(),
            "unknown": self.unknown,
            "maturity": [asdict(one) for one in self.maturity],
            "seen": notes.attempt(
                "sample that recognises the training rows",
                lambda: seen_state(spec, table, lasting, training, held_out, self.split.valid),
            ),
            "profile": notes.attempt(
                "profile of the training rows, so drift cannot be measured without them",
                lambda: training_profile(spec, table[spread(training)], weight),
            ),
        }


def training_rows(config: TrainConfig, table: pl.DataFrame, file: str | None, notes: Notes) -> TrainingRows:
    """Divide and encode a table, and check it for faults that would waste the training.

    Raises:
        DataError: the table is faulty, or there is nothing to learn from it.
    """
    spec = config.features
    require_columns(table, spec.columns, file)
    late = LateLabels.read(config.delays, spec, table, file)
    until = None if late is None else late.settled_until
    split = split_rows(spec, config.split, table, config.seed, file, until)
    if (ties := split.note(config.split)) is not None:
        notes.tell(ties)
    name, counts = file, None
    if config.sampling.negatives is not None:
        sampled = sampled_log(config, RawTable(spec, table, file), split, table)
        notes.extend(notes_on(config, sampled))
        rows, split = sampled.whole(), sampled.split(split)
        table, name, counts = rows.table, rows.file, rows.counts
    encoder = Encoder.fit(spec, table, name, counted_rows(spec, table, split.train))
    notes += encoder.notes
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    unknown, unlike = unknown_by_part(encoder, {part: table[spread(of)] for part, of in parts.items()})
    notes += unlike
    encoded = counting(encoder.encode(table, name), counts)
    maturity: tuple[Maturity, ...] = ()
    if late is not None:
        outcomes = late.outcomes(split)
        encoded, maturity = outcomes.of(encoded), outcomes.maturity
    notes += group_notes(spec.group, encoded.groups, lambda row: table[spec.group or ""][row])
    check_labels(spec, encoded, split, notes, file)
    return TrainingRows(table, file, encoder, encoded, split, unknown, maturity=maturity)


def counted_rows(spec: FeatureSpec, table: pl.DataFrame, rows: Integers) -> Integers:
    """The rows with a weight other than 0; rows of weight 0 are ignored.

    Raises:
        DataError: there are none.
    """
    if spec.weight is None or not table.schema[spec.weight].is_numeric():
        return rows
    counts: Booleans = table[spec.weight].ne_missing(0).to_numpy()
    if not counts[rows].any():
        raise DataError(
            f"all {rows.size:,} training rows have the weight 0",
            column=spec.weight,
            hint="Fix the column, or choose other training rows with `split`",
        )
    return rows[counts[rows]]
