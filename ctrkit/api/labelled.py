"""The labelled rows that a model is calibrated or evaluated on, and which of them it has seen before."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ctrkit.api.model import Model
from ctrkit.api.train import TrainConfig, read_training_table
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.fingerprints import share_of_seen, times_digest
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
    known = model.artifact.data
    # The times decide which rows were held out; an artifact of an earlier version has no digest of them.
    times = known.get("times", "") in ("", times_digest(config.features, table))
    if encoded.fingerprint() != known["fingerprint"] or not times:
        return LabelledRows(table, file, encoded, config, None)
    split = split_rows(config.features, config.split, table, config.seed, file)
    return LabelledRows(table, file, encoded, config, split)


def seen_in_training(model: Model, table: pl.DataFrame, encoded: EncodedTable) -> float | None:
    """The share of rows that the model was trained on, less those that are alike by chance, where it is large
    enough to matter; None too where that cannot be told.

    Args:
        table: the raw rows; encoded: the same, by the model's own encoder.
    """
    seen = model.artifact.data.get("seen")
    share = None if seen is None else share_of_seen(seen, model.spec, table, encoded)
    return share if share is not None and share > SEEN else None


def unused_weights(model: Model) -> tuple[str, ...]:
    """A remark where the rows have weights, which training reads and this does not."""
    column = model.spec.weight
    return () if column is None else (f"Every row counts once: the weights in '{column}' are not used here.",)
