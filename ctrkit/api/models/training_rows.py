"""The rows of a training run: checked, divided and encoded, with what there is to tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ctrkit.api.models.before_training import Notes, check_labels, group_notes
from ctrkit.api.models.profile import training_profile
from ctrkit.api.models.training_config import TrainConfig
from ctrkit.arrays import Booleans, Integers
from ctrkit.data.encoder import EncodedTable, Encoder, require_columns
from ctrkit.data.fingerprints import seen_state, times_digest
from ctrkit.data.split import Split, split_rows
from ctrkit.errors import DataError
from ctrkit.schema import FeatureSpec


@dataclass(frozen=True)
class TrainingRows:
    """A labelled table, ready to train on.

    Attributes:
        table: the raw rows.
        file: its name for messages.
        encoded: the same rows, encoded.
        encoder: learnt from the training rows.
        split: which rows these are.
    """

    table: pl.DataFrame
    file: str | None
    encoder: Encoder
    encoded: EncodedTable
    split: Split

    def describe(self, notes: Notes) -> dict[str, Any]:
        """What an artifact keeps of them: to know the rows again, and to tell of drift without them."""
        spec, training = self.encoder.spec, self.split.train
        held_out = np.concatenate([self.split.valid, self.split.test])
        weight = self.encoded.weight[training].astype(np.float64)
        return {
            "file": self.file,
            "fingerprint": self.encoded.fingerprint(),
            "times": times_digest(spec, self.table),
            "rows": len(self.encoded),
            "split": self.split.describe(),
            "seen": notes.attempt(
                "sample by which the training rows are known again",
                lambda: seen_state(spec, self.table, self.encoded, training, held_out),
            ),
            "profile": notes.attempt(
                "profile of the training rows, so that drift cannot be told without them",
                lambda: training_profile(spec, self.table[training], weight),
            ),
        }


def training_rows(config: TrainConfig, table: pl.DataFrame, file: str | None, notes: Notes) -> TrainingRows:
    """Divide and encode a table, and look for what would make hours of training worthless.

    Raises:
        DataError: a faulty table, or one that teaches nothing.
    """
    spec = config.features
    require_columns(table, spec.columns, file)
    split = split_rows(spec, config.split, table, config.seed, file)
    if (ties := split.note(config.split)) is not None:
        notes.tell(ties)
    encoder = Encoder.fit(spec, table, file, _counted(spec, table, split.train))
    notes += encoder.notes
    encoded = encoder.encode(table, file)
    notes += group_notes(spec, table, encoded)
    check_labels(spec, encoded, split, notes, file)
    return TrainingRows(table, file, encoder, encoded, split)


def _counted(spec: FeatureSpec, table: pl.DataFrame, rows: Integers) -> Integers:
    """The rows without those of weight 0, which are as if they were not there.

    Raises:
        DataError: no row is left.
    """
    if spec.weight is None or not table.schema[spec.weight].is_numeric():
        return rows
    counts: Booleans = table[spec.weight].ne_missing(0).to_numpy()
    if not counts[rows].any():
        raise DataError(
            f"all {rows.size:,} training rows have the weight 0",
            column=spec.weight,
            hint="Fix the column, or divide the rows otherwise under split",
        )
    return rows[counts[rows]]
