"""Checks before the first epoch, so that faults are found at once and not after hours of training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import polars as pl

from ctrkit.api.models.leakage import leaks_by_task
from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.split import Split
from ctrkit.errors import DataError, TrainingWarning, attempt
from ctrkit.schema import FeatureSpec

T = TypeVar("T")

# With fewer values a note says so: the mean of 100 values with a deviation as large as their mean is known to
# 10 %.
_FEW_VALUES = 100
# A group has a note if there are at least this many groups, and it has this many times the rows of any other
# and this share of all rows: its value may mean "no group".
_FEW_GROUPS, _OUTSTANDING, _NOTABLE = 20, 5, 0.05


class Notes(list[str]):
    """Notes for the user, shown as warnings at once and kept in the result."""

    def tell(self, note: str) -> None:
        """Add a note, and show it as a warning."""
        self.append(note)
        warnings.warn(note, TrainingWarning, stacklevel=3)

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """The result of secondary work. If it fails, the result is None with a note, and training goes on."""
        return attempt(what, work, self.tell)


def check_sample_columns(
    spec: FeatureSpec, sample: FeatureSpec, table: pl.DataFrame, file: str | None
) -> str:
    """A note for a table that came without a config and is read with the config of the sample logs.

    Args:
        spec: the feature spec of the sample logs with the user's settings.
        sample: the feature spec of the sample logs.
        table: the table.
        file: name of the table, for messages.

    Raises:
        DataError: the table lacks a column of the sample logs. Columns that the user has set are checked
            elsewhere.
    """
    for name in (one for one in spec.columns if one in sample.columns):
        if name not in table.columns:
            raise DataError(
                "no config says what the columns of this table mean, and this column of the sample logs is"
                " missing",
                file=file,
                column=name,
                hint="Write a config with `features: {labels: …, categorical: …, numeric: …}` and give it as"
                " --config; configs/sample.yaml is an example",
            )
    rest = [name for name in table.columns if name not in spec.columns]
    without = f" Not read: {', '.join(rest[:10])}{', …' if len(rest) > 10 else ''}." if rest else ""
    return f"No config was given: the columns are read as those of the sample logs.{without}"


def group_notes(group: str | None, groups: Integers | None, named: Callable[[int], object]) -> Iterator[str]:
    """Notes on rows without a group, and on a group whose value may mean "no group".

    Args:
        group: the column of groups; None if there is none.
        groups: the group of each row, as `read_groups` gives it.
        named: the group of a row, as the table has it.
    """
    if group is None or groups is None:
        return
    alone, rows = int(np.count_nonzero(groups < 0)), len(groups)
    if alone:
        yield (
            f"{alone:,} of {rows:,} rows have no '{group}'. Each counts as a group of its own, "
            "and metrics within groups, such as GAUC, leave them out."
        )
    found, counts = np.unique(groups[groups >= 0], return_counts=True)
    if found.size < _FEW_GROUPS:
        return
    second, first = np.sort(counts)[-2:]
    if first > _OUTSTANDING * second and first > _NOTABLE * rows:
        value = named(int(np.argmax(groups == found[counts.argmax()])))
        yield (
            f"'{value}' is the '{group}' of {first / rows:.0%} of the rows, and every other has at"
            f" most {second / rows:.1%}. If it means that the {group} is unknown, leave the cell"
            " empty: otherwise these rows count as one group."
        )


def check_labels(spec: FeatureSpec, data: EncodedTable, split: Split, notes: Notes, file: str | None) -> None:
    """Check that there is something to learn, and find features that leak labels.

    Args:
        spec: what the columns mean.
        data: the encoded rows.
        split: which rows are for training.
        notes: receives the notes.
        file: name of the table, for messages.

    Raises:
        DataError: all training rows with a positive weight have the same label of the first task, or none of
            them has a value above 0.
    """
    rows = split.train[data.weight[split.train] > 0.0]
    labels = data.labels[rows]
    for index, (task, column) in enumerate(spec.labels.items()):
        possible = labels[labels[:, index - 1] == 1, index] if index else labels[:, 0]
        possible = possible[~np.isnan(possible)]
        positives = int(np.count_nonzero(possible))
        if 0 < positives < possible.size:
            continue
        which = "none" if positives == 0 else "every one"
        where = "training rows" if spec.weight is None else "training rows with a weight above 0"
        where = f"{where} with {spec.tasks[index - 1]}" if index else where
        problem = f"{which} of the {possible.size:,} {where} has a {task}"
        if index == 0:
            raise DataError(
                f"{problem}, so there is nothing to learn",
                file=file,
                column=column,
                hint="Check the labels, or choose other training rows with `split`",
            )
        notes.tell(f"{column}: {problem}, so its probabilities are not reliable.")
    if data.value is not None:
        of_value = data.value[rows][labels[:, -1] > 0]
        told = f"{of_value.size:,} training rows have a {spec.tasks[-1]}"
        if not of_value.any():
            raise DataError(
                f"{told}, and none of them has a value above 0, so there is no value to learn",
                file=file,
                column=spec.value,
                hint="Leave out features.value, or choose other training rows with `split`",
            )
        if of_value.size < _FEW_VALUES:
            notes.tell(f"{spec.value}: only {told}, so expected values are not reliable.")
    for leaks in leaks_by_task(spec, data, rows).values():
        for leak in leaks:
            notes.tell(leak.sentence)
