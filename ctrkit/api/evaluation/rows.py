"""The rows that a model is evaluated on, their overlap with training, and their division into slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ctrkit.api.evaluation.funnel import funnel
from ctrkit.api.models.labelled import LabelledTable, labelled_rows, seen_in_training
from ctrkit.api.models.leakage import leaks_by_task
from ctrkit.api.models.model import Model
from ctrkit.api.models.profile import profiled_columns, profiles_from, training_profile
from ctrkit.api.models.task_calibrators import joint_of
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import ranking_key
from ctrkit.data.ids import LEAST, advice_on_new_ids
from ctrkit.data.unlike import min_count_of, unknown_ids
from ctrkit.errors import InputError
from ctrkit.evaluation.drift import Drift, drift
from ctrkit.evaluation.leaks import Leak
from ctrkit.evaluation.profile import values_as_text
from ctrkit.evaluation.slices import Division, by_count, occurrences
from ctrkit.evaluation.task import LabelledRows, Scored
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.tables import TableLike


@dataclass(frozen=True)
class HeldOut:
    """Labelled rows to evaluate.

    Attributes:
        table: the raw rows.
        file: the name of their file.
        labels: the labels of T tasks, float64 [N, T].
        weight: the weight of each row, above 0, [N].
        groups: the group of each row, [N]; None if the spec names none. A row without a group has a number
            below 0 of its own.
        training: the raw rows that the model was trained on and their weights, if they can be read again.
        leaks: task -> features that give its label away.
        notes: sentences about the rows, for the report.
        seen: the share of the rows that the model was trained on; None where it does not matter.
        values: the value of each row, 0 where the last label is 0, [N]; None if the spec names none.
        sampled: whether their negatives are sampled.
    """

    table: pl.DataFrame
    file: str | None
    labels: Floats
    weight: Floats
    groups: Integers | None
    training: tuple[pl.DataFrame, Floats] | None
    leaks: Mapping[str, tuple[Leak, ...]]
    notes: tuple[str, ...]
    seen: float | None = None
    values: Floats | None = None
    sampled: bool = False


def held_out_rows(model: Model, data: TableLike | None) -> HeldOut:
    """The test rows of the training table, or all rows of any other."""
    opened, seen = labelled_rows(model, data), None
    split = opened.split
    if split is not None:
        rows, training = opened.counted(split.test), _training_of(opened)
        notes = [f"Evaluated on {rows.size:,} test rows of the table that the model was trained on."]
    else:
        rows, training = opened.counted(np.arange(len(opened.encoded))), _training_rows(model)
        notes = [f"This is not the training table: all of its {rows.size:,} rows are evaluated."]
        seen = seen_in_training(model, opened.table, opened.encoded)
        if seen is not None:
            notes.append(
                f"The model was trained on about {seen:.0%} of these rows, so it looks better than it is."
            )
    return HeldOut(
        opened.table[rows],
        opened.file,
        opened.encoded.labels[rows].astype(np.float64),
        opened.weight[rows],
        None if opened.encoded.groups is None else opened.encoded.groups[rows],
        training,
        leaks_by_task(model.spec, opened.encoded, rows),
        (*notes, *opened.remarks, *model.warnings_of_use),
        seen,
        None if opened.encoded.value is None else opened.encoded.value[rows].astype(np.float64),
        split is not None and opened.config.sampling.negatives is not None,
    )


def _training_rows(model: Model) -> tuple[pl.DataFrame, Floats] | None:
    """The rows that a model was trained on; None if their table is gone or has changed."""
    if model.artifact.data["file"] is None:
        return None
    try:
        return _training_of(labelled_rows(model, None))
    except InputError:
        return None


def _training_of(opened: LabelledTable) -> tuple[pl.DataFrame, Floats] | None:
    """The training rows of a training table, with their weights."""
    return (
        None
        if opened.split is None
        else (opened.table[opened.split.train], opened.weight[opened.split.train])
    )


def seen_by_other(other: Model, table: pl.DataFrame, file: str | None) -> tuple[str, ...]:
    """A note if the model to compare with was trained on the evaluated rows."""
    try:
        seen = seen_in_training(other, table, other.encoder.encode(table, file))
    except InputError:  # it needs other labels or weights, which this table need not have
        return ()
    if seen is None:
        return ()
    return (f"The other model was trained on about {seen:.0%} of these rows: the comparison favours it.",)


def drift_since_training(model: Model, rows: HeldOut) -> tuple[tuple[Drift, ...] | None, tuple[str, ...]]:
    """Drift by column, largest first, or None and why."""
    spec = model.spec
    content = model.artifact.data.get("profile")
    if content is None and rows.training is not None:
        content = training_profile(spec, *rows.training)
    if content is None:
        gone = "the artifact has no profile of its training rows, and these are gone"
        elsewhere = "the model was trained elsewhere, so its training rows are not known"
        why = f"Drift is not known: {gone if model.network.trained_here else elsewhere}."
        return None, (why,)
    return drift(profiles_from(content), profiled_columns(spec, rows.table), rows.weight), ()


def unknown_since_training(model: Model, rows: HeldOut) -> tuple[UnknownShare, ...]:
    """The share of unknown ids of each field and sequence, in training and now."""
    encoder, before = model.encoder, model.artifact.data.get("unknown")
    usual = {} if before is None else {name: shares["train"] for name, shares in before.items()}
    if before is None and rows.training is not None:
        usual = {name: found.share for name, found in unknown_ids(encoder, rows.training[0]).items()}
    items = _item_ids(model)
    return tuple(
        UnknownShare(
            name,
            usual.get(name),
            found.share,
            name in items and found.values >= LEAST,
            advice_on_new_ids(min_count_of(encoder, name)),
        )
        for name, found in unknown_ids(encoder, rows.table).items()
    )


def _item_ids(model: Model) -> tuple[str, ...]:
    """The fields with ids of what a bid is for: the candidates' id, or else the ids of the target."""
    spec, features = model.spec, model.network.feature_map
    if spec.candidate is not None and spec.candidate.id in features.categorical:
        return (spec.candidate.id,)
    others = (spec.group, *spec.profile)
    return tuple(name for name in features.target if name in features.categorical and name not in others)


def divisions_of(model: Model, rows: HeldOut, parts: int) -> tuple[dict[str, Division], tuple[str, ...]]:
    """The rows divided by how often their item, and their group, occur in training.

    If the training rows cannot be read again, items and groups are counted in the evaluated rows.
    """
    spec = model.spec
    shared = [sequence.shares for sequence in spec.sequences if sequence.shares is not None]
    item = spec.candidate.id if spec.candidate is not None else next(iter(shared), None)
    reference, mass = (rows.table, rows.weight) if rows.training is None else rows.training
    columns = {"item popularity": item, "user activity": spec.group}
    found = {
        name: by_count(occurrences(rows.table[column], reference[column], mass), parts, rows.weight)
        for name, column in columns.items()
        if column is not None and column in rows.table.columns and column in reference.columns
    }
    notes = []
    if found and rows.training is None:
        notes.append(
            "Popularity and activity are counted in the evaluated rows, as the training rows cannot be read."
        )
    notes += [f"No {name}: the feature spec names no {'candidate' if name[0] == 'i' else 'group'}."
              for name, column in columns.items() if column is None]  # fmt: skip
    return found, tuple(notes)


def by_task(
    model: Model, other: Model | None, rows: HeldOut, fields: Sequence[str], divisions: dict[str, Division]
) -> Iterator[tuple[str, LabelledRows]]:
    """The rows of each task, and last those of the whole funnel (see `funnel`)."""
    values = {name: values_as_text(rows.table[name]).fill_null("missing").to_numpy() for name in fields}
    first = _scored(model, rows.table, rows.file)
    second = None if other is None else _scored(other, rows.table, rows.file)
    yield from funnel(model.tasks, rows.labels, rows.weight, first, second, rows.groups, values, divisions)


def _scored(model: Model, table: pl.DataFrame, file: str | None) -> list[Scored]:
    """A model's predictions of each task and, if there are several tasks, last of their product."""
    rows = model.encoder.encode(table, file, labels=False)
    logits = model.outputs_of(rows).logits
    predicted = list(model.probabilities(logits, rows).values())
    raw = list(logits.T)
    if len(predicted) > 1:
        predicted.append(np.prod(predicted, axis=0))
        raw.append(joint_of(logits, len(model.tasks) - 1))
    return [Scored(p, ranking_key(p, z)) for p, z in zip(predicted, raw, strict=True)]
