"""Reads a table of scores: labels, probabilities, weights and users as arrays, every value checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.special import expit

from ctrkit.api.models.labelled import remarks
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.arrays import Floats, Integers
from ctrkit.calibration import logits_of
from ctrkit.data.labels import read_groups, read_labels, read_weights
from ctrkit.errors import DataError
from ctrkit.evaluation.profile import values_as_text
from ctrkit.schema import LogSchema, require_columns
from ctrkit.schema.scores import FUNNEL
from ctrkit.tables import TableLike

USER, TIME = "user_id", "timestamp"
# Number of columns that an error lists.
_LISTED = 12


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores with N rows and T tasks.

    Attributes:
        table: the rows of weight above 0, under the names of `ctrkit.schema.SCORES`.
        file: the table's name, for messages.
        names: name in the schema -> the table's name.
        tasks: the tasks that are predicted, in funnel order.
        labels: their labels, [N, T]; T is 0 where none were asked for.
        logits: the log-odds of each task given the one before it, [N, T].
        probabilities: the probabilities, as given, [N, T].
        weight: the weight of each row, above 0, [N].
        groups: the user of each row, [N]; None without users.
        kept: the row index of each of these rows in the whole table, [N].
        rows: number of rows of the whole table.
        notes: sentences about the rows.
    """

    table: pl.DataFrame
    file: str | None
    names: dict[str, str]
    tasks: tuple[str, ...]
    labels: Floats
    logits: Floats
    probabilities: Floats
    weight: Floats
    groups: Integers | None
    kept: Integers
    rows: int
    notes: tuple[str, ...]

    @property
    def label_columns(self) -> dict[str, str]:
        """Task -> the table's column of its labels."""
        return {task: self.names.get(task, task) for task in self.tasks}

    def segments(self, name: str) -> pl.Series:
        """The values of a column by the table's own name of it, as text; a missing one is null."""
        renamed = next((new for new, old in self.names.items() if old == name), name)
        return values_as_text(self.table[renamed])

    @property
    def columns(self) -> dict[str, str | None]:
        """The table's columns for the arguments of metrics and calibrators."""
        return {"weight": self.names.get("weight"), "groups": self.names.get(USER)}


def read_scores(
    source: TableLike,
    columns: ScoreColumns,
    segments: Sequence[str] = (),
    *,
    labelled: bool = True,
    timed: bool = False,
    tasks: Sequence[str] | None = None,
    file: str | None = None,
) -> ScoreTable:
    """Read a table of scores.

    Args:
        source: a table in any format, or in memory.
        columns: the names of its columns.
        segments: other columns of it that are needed, as ids.
        labelled: whether to read labels, weights and users; without them no row is left out.
        timed: whether to read the times of rows, if there are any.
        tasks: the tasks that must be predicted; by default those that the table predicts and, if labels are
            needed, has labels of.
        file: the table's name for messages; by default that of its file.

    Raises:
        DataError: the table cannot be read, or lacks a column; two columns may hold the label or the
            prediction; a prediction is no probability, a label is not 0 or 1, or a value is missing.
    """
    schema = columns.schema_of_scores
    raw, own = schema.read_unchecked(source, lambda name: name in segments)
    file = file or own
    if tasks is not None or not labelled:
        schema = schema.within(raw.columns)  # names of labels may be absent
    names = {new: old for old, new in schema.renames(raw.columns).items()}
    there = schema.names(raw.columns)
    found = tuple(tasks) if tasks is not None else _tasks(there, columns, labelled=labelled)
    needed = [name for task in found for name in ((task, FUNNEL[task]) if labelled else (FUNNEL[task],))]
    for name in needed:
        _need_one(schema, name, raw.columns, there, columns, file)
    require_columns(raw, segments, file)
    held = [name for name in ("weight", USER) if name in there and labelled]
    held += [TIME] if timed and TIME in there else []
    # A column that is not needed may hold anything.
    table = _only(schema, [*needed, *held]).apply(raw, file)
    weight = read_weights("weight" if "weight" in held else None, table, file)
    if not weight.any():
        raise DataError("every weight is 0", file=file, column=names.get("weight", "weight"))
    labels = np.empty((table.height, 0))
    if labelled:
        labels = read_labels({task: task for task in found}, table, file).astype(np.float64)
    given = np.stack([table[FUNNEL[task]].to_numpy() for task in found], axis=1).astype(np.float64)
    groups = read_groups(USER, table) if labelled else None
    weighted = names.get("weight", "weight") if "weight" in held else None
    notes = _notes([*needed, *held], found, names, there, given, columns, labelled=labelled)
    notes += tuple(remarks(weighted, weight, USER, table, groups)) if labelled else ()
    kept = np.flatnonzero(weight > 0)
    whole = kept.size == len(weight)
    rows = slice(None) if whole else kept
    given = given[rows]
    return ScoreTable(
        table if whole else table[kept],
        file,
        {name: names.get(name, name) for name in there if name in (*needed, *held)},
        found,
        labels[rows],
        given if columns.logits else logits_of(given),
        expit(given) if columns.logits else given,
        weight[rows],
        None if groups is None else groups[rows],
        kept,
        table.height,
        notes,
    )


def _only(schema: LogSchema, names: Sequence[str]) -> LogSchema:
    """The schema without the other columns."""
    return replace(schema, columns=tuple(column for column in schema.columns if column.name in names))


def _tasks(there: Collection[str], columns: ScoreColumns, *, labelled: bool) -> tuple[str, ...]:
    """The tasks of a table with these columns."""
    whole = [
        task for task, prediction in FUNNEL.items() if prediction in there and (task in there or not labelled)
    ]
    if columns.label is not None and columns.task != "click":
        return (columns.task,)
    return ("click", *whole[1:]) if "click" in whole else tuple(whole) or ("click",)


def _need_one(
    schema: LogSchema,
    name: str,
    columns: Sequence[str],
    there: Collection[str],
    given: ScoreColumns,
    file: str | None,
) -> None:
    """Check that exactly one column may be meant by a name of the schema."""
    column = next(one for one in schema.columns if one.name == name)
    prediction = name in FUNNEL.values()
    option = "probability" if prediction else "label"
    mend = option if name in ("click", "pctr") or given.task == "conversion" else f"map {name}=YOURS"
    if name not in there:
        listed = ", ".join(columns[:_LISTED]) + (", …" if len(columns) > _LISTED else "")
        raise DataError(
            f"no column is known as {column.meaning} ({', '.join((name, *column.aliases[:6]))}, …); there are"
            f" {listed}",
            file=file,
            hint=f"Name yours with `{mend}`",
        )
    names = [one for one in (name, *column.aliases) if one in columns and not schema.roles.hides(one)]
    if name not in dict(schema.roles.names) and len(names) > 1:
        raise DataError(
            f"this column and '{names[1]}' may both hold {column.meaning}",
            file=file,
            column=names[0],
            hint=f"Name the one to read with `{mend}`",
        )


def _notes(
    read: Sequence[str],
    tasks: Sequence[str],
    names: dict[str, str],
    there: Collection[str],
    given: Floats,
    columns: ScoreColumns,
    *,
    labelled: bool,
) -> tuple[str, ...]:
    """What was read as what, and predictions that no log-odds stand for."""
    own = [f"{name} from '{names[name]}'" for name in read if name in names]
    notes = [f"Columns read: {', '.join(own)}."] if own else []
    for task, prediction in FUNNEL.items():
        if labelled and task not in tasks and (prediction in there) != (task in there):
            has, lacks = (prediction, task) if prediction in there else (task, prediction)
            notes.append(f"Not judged: {has}, as there is no column '{lacks}'.")
    ends = 0 if columns.logits else int(np.count_nonzero((given <= 0) | (given >= 1)))
    if ends:
        notes.append(
            f"{ends:,} predictions are exactly 0 or 1, which no log-odds stand for: calibrators read them as"
            " 1e-30 and 1 - 2e-16. If they were rounded, write more digits."
        )
    return tuple(notes)
