"""The labelled rows that a model is calibrated or evaluated on, and which of them it has seen before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ctrkit.api.model import Model
from ctrkit.api.train import TrainConfig, read_training_table
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.fingerprints import row_hashes, share_seen
from ctrkit.data.split import Split, split_rows
from ctrkit.errors import DataError
from ctrkit.tables import TableLike

# From this share of rows that a model was trained on, what it scores on them says little.
SEEN = 0.05


@dataclass(frozen=True)
class LabelledRows:
    """A labelled table as a model reads it.

    Attributes:
        table: the raw rows; file: its name for messages; encoded: the same rows, encoded.
        config: the training config of the model.
        split: how training divided these rows; None where this is not the training table.
    """

    table: pl.DataFrame
    file: str | None
    encoded: EncodedTable
    config: TrainConfig
    split: Split | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to tell of the rows, whatever is done with them."""
        group = self.config.features.group
        if group is None or group in self.table.columns:
            return ()
        return (
            f"There is no column '{group}' here: rows count as independent of one another, so that intervals "
            "are too short where they are not.",
        )


def labelled_rows(model: Model, data: TableLike | None) -> LabelledRows:
    """Read and encode a labelled table; by default the one that the model was trained on.

    Raises:
        DataError: a faulty table; or none is given, and training was on a table in memory.
    """
    config = TrainConfig.model_validate(model.artifact.config)
    source = data if data is not None else model.artifact.data["file"]
    if source is None:
        raise DataError("the model was trained on a table in memory", mend="Give the labelled table as DATA")
    table, file = read_training_table(config, source)
    encoded = model.encoder.encode(table, file)
    if encoded.fingerprint() != model.artifact.data["fingerprint"]:
        return LabelledRows(table, file, encoded, config, None)
    split = split_rows(config.features, config.split, table, config.seed, file)
    return LabelledRows(table, file, encoded, config, split)


def share_of_training_rows(model: Model, encoded: EncodedTable) -> float | None:
    """The share of rows that the model was trained on, less those that are alike by chance; None where the
    artifact keeps no sample of its training rows, or too few of these rows can be looked up.

    Args:
        encoded: by the model's own encoder.
    """
    seen = model.artifact.data.get("seen")
    if seen is None:
        return None
    sample = np.ascontiguousarray(np.asarray(seen["sample"])).view(np.uint64)
    share = share_seen(row_hashes(encoded), sample)
    if np.isnan(share):
        return None
    alike = 0.0 if np.isnan(seen["alike"]) else float(seen["alike"])
    return max(0.0, (share - alike) / (1.0 - alike)) if alike < 1.0 else 0.0


def seen_in_training(model: Model, encoded: EncodedTable) -> float | None:
    """The share of rows that the model was trained on, where it is large enough to matter; else None."""
    share = share_of_training_rows(model, encoded)
    return share if share is not None and share > SEEN else None


def unused_weights(model: Model) -> tuple[str, ...]:
    """A remark where the rows have weights, which training reads and this does not."""
    column = model.spec.weight
    return () if column is None else (f"Every row counts once: the weights in '{column}' are not used here.",)
