"""The rows that an evaluation is made on, what training saw of them, and how they are divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.api.labelled import LabelledRows, labelled_rows, seen_in_training
from ctrkit.api.leakage import BOTH, leaks_by_task
from ctrkit.api.model import Model
from ctrkit.api.profile import profiled_columns, profiles_from, training_profile
from ctrkit.errors import InputError
from ctrkit.evaluation.drift import Drift, drift
from ctrkit.evaluation.leaks import Leak
from ctrkit.evaluation.profile import as_text
from ctrkit.evaluation.slices import Division, by_count, occurrences
from ctrkit.evaluation.task import Rows
from ctrkit.tables import TableLike


@dataclass(frozen=True)
class HeldOut:
    """Labelled rows to evaluate.

    Attributes:
        table: the raw rows; file: the name of their table.
        labels: float64 [N, T]. groups: [N], where the spec names them.
        training: the raw rows that the model was trained on, where they can be read again.
        leaks: by the name of a task, features that tell its label by themselves.
        notes: what to tell of all this.
    """

    table: pl.DataFrame
    file: str | None
    labels: NDArray[np.float64]
    groups: NDArray[np.int64] | None
    training: pl.DataFrame | None
    leaks: Mapping[str, tuple[Leak, ...]]
    notes: tuple[str, ...]


def held_out_rows(model: Model, data: TableLike | None) -> HeldOut:
    """The test rows of the training table, or all rows of any other."""
    opened = labelled_rows(model, data)
    encoded, split = opened.encoded, opened.split
    labels = encoded.labels.astype(np.float64)
    if split is not None:
        rows = split.test
        groups = encoded.groups[rows] if encoded.groups is not None else None
        notes = [f"Evaluated on {rows.size:,} test rows of the table that the model was trained on."]
        return HeldOut(
            opened.table[rows],
            opened.file,
            labels[rows],
            groups,
            opened.table[split.train],
            leaks_by_task(model.spec, encoded, rows),
            tuple(notes),
        )
    notes = [f"Not the training table: evaluated on all of its {len(encoded):,} rows.", *opened.remarks]
    seen = seen_in_training(model, opened.table, encoded)
    if seen is not None:
        notes.append(
            f"The model was trained on about {seen:.0%} of these rows, so it looks better than it is."
        )
    training = _training_rows(model)
    leaks = leaks_by_task(model.spec, encoded, np.arange(len(encoded)))
    return HeldOut(opened.table, opened.file, labels, encoded.groups, training, leaks, tuple(notes))


def _training_rows(model: Model) -> pl.DataFrame | None:
    """The rows that a model was trained on, where their table is still there and unchanged."""
    if model.artifact.data["file"] is None:
        return None
    try:
        opened: LabelledRows = labelled_rows(model, None)
    except InputError:
        return None
    return opened.table[opened.split.train] if opened.split is not None else None


def seen_by_other(other: Model, table: pl.DataFrame, file: str | None) -> tuple[str, ...]:
    """A remark where the model to compare with was trained on the rows it is compared on."""
    if not set(other.spec.labels.values()) <= set(table.columns):
        return ()
    seen = seen_in_training(other, table, other.encoder.encode(table, file))
    if seen is None:
        return ()
    return (f"The other model was trained on about {seen:.0%} of these rows: the comparison favours it.",)


def drift_since_training(model: Model, rows: HeldOut) -> tuple[tuple[Drift, ...] | None, tuple[str, ...]]:
    """Drift by column, largest first, or None and why."""
    spec = model.spec
    content = model.artifact.data.get("profile")
    if content is None and rows.training is not None:
        content = training_profile(spec, rows.training)
    if content is None:
        why = "Drift is not known: the artifact has no profile of its training rows, and they are not there."
        return None, (why,)
    return drift(profiles_from(content), profiled_columns(spec, rows.table)), ()


def divisions_of(model: Model, rows: HeldOut, parts: int) -> tuple[dict[str, Division], tuple[str, ...]]:
    """Rows by how often their item and their group stand in the training rows, or else in these rows."""
    spec = model.spec
    shared = [sequence.shares for sequence in spec.sequences if sequence.shares is not None]
    item = spec.candidate.id if spec.candidate is not None else next(iter(shared), None)
    among = rows.table if rows.training is None else rows.training
    columns = {"item popularity": item, "user activity": spec.group}
    found = {
        name: by_count(occurrences(rows.table[column], among[column]), parts)
        for name, column in columns.items()
        if column is not None and column in rows.table.columns and column in among.columns
    }
    notes = []
    if found and rows.training is None:
        notes.append("Popularity and activity are counted in the evaluated rows: the training rows are gone.")
    notes += [f"No {name}: the feature spec names no {'candidate' if name[0] == 'i' else 'group'}."
              for name, column in columns.items() if column is None]  # fmt: skip
    return found, tuple(notes)


def by_task(
    model: Model, other: Model | None, rows: HeldOut, fields: Sequence[str], divisions: dict[str, Division]
) -> Iterator[tuple[str, Rows]]:
    """The rows of each task, which are those where it can happen, and last those of the whole funnel."""
    values = {name: as_text(rows.table[name]).fill_null("missing").to_numpy() for name in fields}
    first = model.predict(rows.table)
    second = None if other is None else other.predict(rows.table)

    def column(predicted: pl.DataFrame, task: str) -> NDArray[np.float64]:
        return np.array(predicted[task], dtype=np.float64)

    def of(label: int, p: NDArray[np.float64], q: NDArray[np.float64] | None) -> Rows:
        return Rows(np.ascontiguousarray(rows.labels[:, label]), p, q, rows.groups, values, divisions)

    for index, task in enumerate(model.tasks):
        of_task = of(index, column(first, task), None if second is None else column(second, task))
        yield task, of_task[rows.labels[:, index - 1] == 1] if index else of_task
    if len(model.tasks) > 1:
        p = np.prod([column(first, task) for task in model.tasks], axis=0)
        q = None if second is None else np.prod([column(second, task) for task in model.tasks], axis=0)
        yield BOTH.join(model.tasks), of(len(model.tasks) - 1, p, q)
