"""The labelled rows that a model is calibrated or evaluated on, and whether it was trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.models.before_training import group_notes
from ctrkit.api.models.model import Model
from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.delays import LateLabels, Maturity, settled
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.fingerprints import SEEN, rows_seen, share_of_seen, times_digest, times_of
from ctrkit.data.negatives import counting
from ctrkit.data.raw_table import RawTable
from ctrkit.data.split import Split, split_rows
from ctrkit.errors import DataError, InputError
from ctrkit.tables import TableLike

if TYPE_CHECKING:
    from ctrkit.api.models.training_config import TrainConfig

# Fewer rows that a model has not seen are too few to go on with alone.
LEAST_UNSEEN = 1000


@dataclass(frozen=True)
class LabelledTable:
    """A labelled table as a model reads it.

    Attributes:
        table: the raw rows.
        file: its name for messages.
        encoded: the same rows, encoded.
        config: the training config of the model.
        split: how training divided these rows; None where this is not the training table.
        unlike: sentences on how these rows differ from all that training knew, or from a log.
        maturity: what is known of each label that comes late.
        settled_until: the time up to which all labels are known, unix seconds; None if none comes late.
    """

    table: pl.DataFrame
    file: str | None
    encoded: EncodedTable
    config: TrainConfig
    split: Split | None
    unlike: tuple[str, ...] = ()
    maturity: tuple[Maturity, ...] = ()
    settled_until: float | None = None

    @property
    def weight(self) -> Floats:
        """The weight of each row; 1 where the spec names no weight column."""
        return self.encoded.weight.astype(np.float64)

    def counted(self, rows: Integers) -> Integers:
        """The rows of `rows` with a weight above 0.

        Raises:
            DataError: there are none.
        """
        held = rows[self.encoded.weight[rows] > 0]
        if rows.size and not held.size:
            raise DataError(
                f"all {rows.size:,} rows have a weight of 0",
                file=self.file,
                column=self.config.features.weight,
                hint="Give at least one row a weight above 0",
            )
        return held

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on the rows, for any use of them."""
        spec = self.config.features
        told = remarks(spec.weight, self.encoded.weight, spec.group, self.table, self.encoded.groups)
        return (*self.unlike, *told, *(sentence for one in self.maturity for sentence in one.sentences))


def remarks(
    weight_name: str | None,
    weight: NDArray[np.floating],
    group: str | None,
    table: pl.DataFrame,
    groups: Integers | None,
) -> Iterator[str]:
    """Notes on the weights and the groups of rows, for any use of them.

    Args:
        weight_name: the column of weights; None if there is none.
        weight: the weight of each row, [N].
        group: the column of groups, which the table may lack; None if there is none.
        table: the raw rows.
        groups: the group of each row, [N]; None without groups.
    """
    if weight_name is not None:
        left_out = int(np.count_nonzero(weight == 0))
        yield (
            f"Rows are weighted by '{weight_name}': a row of weight 2 counts twice in metrics, but as one "
            "independent row in intervals."
            + (f" {left_out:,} rows of weight 0 are left out." if left_out else "")
        )
    if group is not None and group not in table.columns:
        yield (
            f"There is no column '{group}' here, so rows count as independent. Intervals are too short "
            "where they are not."
        )
    yield from group_notes(group, groups, lambda row: table[group or ""][row])


def table_or_own(model: Model, data: TableLike | None) -> TableLike:
    """A table that is given or, for None, the table that the model was trained on. Of prepared rows it is the
    raw table.

    Raises:
        DataError: prepared rows have another version of the features than the model; or none is given, and
            the model was trained on a table in memory or elsewhere.
    """
    if data is not None:
        # Here, and not above: with the configs of all models comes torch.
        from ctrkit.api.models.stored_rows import raw_files

        return raw_files(model.encoder, data)
    source: TableLike | None = model.artifact.data["file"]
    if source is None:
        where = "on a table in memory" if model.network.trained_here else "elsewhere, and was imported"
        raise DataError(f"the model was trained {where}", hint="Give a table as DATA")
    return source


def labelled_rows(model: Model, data: TableLike | None) -> LabelledTable:
    """Read and encode a labelled table.

    Args:
        model: the model.
        data: the table; None for the table that the model was trained on.

    Raises:
        DataError: the table is faulty, or none is given and the model was trained on a table in memory.
    """
    # Here, and not above: with the configs of all models comes torch, and whoever has a model has it.
    from ctrkit.api.models.training_config import TrainConfig, read_training_table

    config = TrainConfig.model_validate(model.artifact.config)
    table, file = read_training_table(config, table_or_own(model, data))
    if config.sampling.negatives is not None and (log := _with_negatives(model, config, table, file)):
        return log
    encoded = model.encoder.encode(table, file)
    known = model.artifact.data
    # The times decide which rows were held out; an artifact of an earlier version has no digest of them.
    times = known.get("times", "") in ("", times_digest(times_of(config.features, table)))
    late = LateLabels.read(config.delays, config.features, table, file)
    if late is None:
        if encoded.fingerprint() != known["fingerprint"] or not times:
            return LabelledTable(table, file, encoded, config, None, model.encoder.unlike(table))
        split = split_rows(config.features, config.split, table, config.seed, file)
        return LabelledTable(table, file, encoded, config, split)
    until = late.settled_until
    if times:
        split = split_rows(config.features, config.split, table, config.seed, file, until)
        outcomes = late.outcomes(split)
        if (found := outcomes.of(encoded)).fingerprint() == known["fingerprint"]:
            return LabelledTable(table, file, found, config, split, (), outcomes.maturity, until)
    outcomes, unlike = late.outcomes(None), model.encoder.unlike(table)
    return LabelledTable(table, file, outcomes.of(encoded), config, None, unlike, outcomes.maturity, until)


def _with_negatives(
    model: Model, config: TrainConfig, table: pl.DataFrame, file: str | None
) -> LabelledTable | None:
    """The training log with its sampled negatives; None for any other table."""
    from ctrkit.api.models.negative_rows import SAMPLED_METRICS, sampled_log

    try:
        split = split_rows(config.features, config.split, table, config.seed, file)
        sampled = sampled_log(config, RawTable(config.features, table, file), split, table)
        split = sampled.split(split)
    except InputError:  # it need not be a log of positives
        return None
    if sampled.sources.size != model.artifact.data["rows"]:
        return None
    rows = sampled.whole()
    encoded = counting(model.encoder.encode(rows.table, rows.file), rows.counts)
    if encoded.fingerprint() != model.artifact.data["fingerprint"]:
        return None
    return LabelledTable(rows.table, rows.file, encoded, config, split, (SAMPLED_METRICS,))


def need_base_rate(opened: LabelledTable) -> None:
    """Check that rows tell how frequent the first task is, to a model that was trained on sampled negatives.

    Raises:
        DataError: its negatives are sampled, or it has none.
    """
    if opened.config.sampling.negatives is None:
        return
    if opened.split is not None or bool((opened.encoded.labels[:, 0] == 1.0).all()):
        task, column = next(iter(opened.config.features.labels.items()))
        raise DataError(
            f"a log of positives does not tell how frequent {task} is, so nothing can be calibrated on it",
            file=opened.file,
            column=column,
            hint=f"Give a log of impressions with and without {task}",
        )


def seen_in_training(
    model: Model, table: pl.DataFrame, encoded: EncodedTable, least: float = SEEN
) -> float | None:
    """The share of rows that the model was trained on, minus the share expected by chance.

    Args:
        model: the model.
        table: the raw rows.
        encoded: the same rows, encoded by the model's encoder.
        least: the share from which on it matters.

    Returns:
        The share; None where it is too small to matter or is not known.
    """
    seen = model.artifact.data.get("seen")
    share = None if seen is None else share_of_seen(seen, model.spec, table, _lasting(model, encoded))
    return share if share is not None and share > least else None


def training_overlap(model: Model, table: pl.DataFrame, encoded: EncodedTable) -> TrainingOverlap | None:
    """Which rows the model was trained on or chosen by, and how many of them; the arguments are the same.

    Returns:
        What is known; None where their share is too small to matter or is not known.
    """
    share = seen_in_training(model, table, encoded)
    if share is None:
        return None
    rows = rows_seen(model.artifact.data["seen"], model.spec, table, _lasting(model, encoded))
    return TrainingOverlap(share, rows)


def _lasting(model: Model, encoded: EncodedTable) -> EncodedTable:
    """The rows with the labels by which a model recognises them."""
    return settled(model.artifact.config.get("delays", {}), encoded, model.tasks)


@dataclass(frozen=True)
class TrainingOverlap:
    """The rows of a table that a model was trained on or chosen by.

    Attributes:
        share: the share of training rows.
        rows: which rows they are, [N]; None where it is not known.
    """

    share: float
    rows: Booleans | None

    @property
    def left_out(self) -> str:
        """A sentence on the rows that are left out."""
        count = 0 if self.rows is None else int(self.rows.sum())
        return f"The {count:,} rows that the model was trained on or chosen by are left out."

    def others(self, what: str, file: str | None) -> Booleans:
        """The rows that the model has not seen, [N].

        Args:
            what: what is done with them, for the message.
            file: the name of the table.

        Raises:
            DataError: it is not known which they are, or they are too few.
        """
        left = None if self.rows is None else ~self.rows
        if left is not None and left.sum() >= LEAST_UNSEEN:
            return left
        why = "it is not known which" if left is None else f"only {left.sum():,} are others"
        raise DataError(
            f"the model was trained on about {self.share:.0%} of these rows, and {why}: {what} needs rows "
            "that it has not seen",
            file=file,
            hint="Give later rows, or the whole training table, of which the held-out rows are taken",
        )


def columns_of(model: Model) -> dict[str, str | None]:
    """The table's columns for the arguments `weight` and `groups` of metrics and calibrators."""
    return {"weight": model.spec.weight, "groups": model.spec.group}
