"""What is looked at before the first epoch, so that no hours go into what could be told at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import polars as pl

from ctrkit.api.models.leakage import leaks_by_task
from ctrkit.data.encoder import EncodedTable
from ctrkit.data.split import Split
from ctrkit.errors import DataError, TrainingWarning, attempt
from ctrkit.schema import FeatureSpec

T = TypeVar("T")

# Among so many groups or more, one that has so many times the rows of any other, and this share of all, is
# told of: it may be the sign for none.
_FEW_GROUPS, _OUTSTANDING, _NOTABLE = 20, 5, 0.05


class Notes(list[str]):
    """What to tell of a run: on the terminal as soon as it is known, and in the result."""

    def tell(self, note: str) -> None:
        """Add a note, and warn."""
        self.append(note)
        warnings.warn(note, TrainingWarning, stacklevel=3)

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """What something secondary gives, or None and a note: no trained model is lost to it."""
        return attempt(what, work, self.tell)


def check_sample_columns(
    spec: FeatureSpec, sample: FeatureSpec, table: pl.DataFrame, file: str | None
) -> str:
    """What to tell of a table that came without a config, and is read by that of the sample logs.

    Args:
        spec: that of the sample logs with what was set otherwise.
        sample: theirs as it is.

    Raises:
        DataError: the table lacks a column of the sample logs; one that was set is looked for elsewhere.
    """
    for name in (one for one in spec.columns if one in sample.columns):
        if name not in table.columns:
            raise DataError(
                "no config says what the columns of this table mean, and by the sample's config it lacks this"
                " column",
                file=file,
                column=name,
                hint="Write a config with `features: {labels: …, categorical: …, numeric: …}` and give it as"
                " --config; configs/sample.yaml is an example",
            )
    rest = [name for name in table.columns if name not in spec.columns]
    without = f" Not read: {', '.join(rest[:10])}{', …' if len(rest) > 10 else ''}." if rest else ""
    return f"No config was given: the columns are read as those of the sample logs.{without}"


def group_notes(spec: FeatureSpec, table: pl.DataFrame, data: EncodedTable) -> Iterator[str]:
    """What to tell of rows that have no group, and of one that looks like a sign for none.

    Args:
        table: the raw rows.
        data: the same, encoded.
    """
    if spec.group is None or data.groups is None:
        return
    alone = int(np.count_nonzero(data.groups < 0))
    if alone:
        yield (
            f"{alone:,} of {len(data):,} rows have no '{spec.group}': each counts as one of its own, "
            "and metrics within groups, such as GAUC, leave them out."
        )
    groups, counts = np.unique(data.groups[data.groups >= 0], return_counts=True)
    if groups.size < _FEW_GROUPS:
        return
    second, first = np.sort(counts)[-2:]
    if first > _OUTSTANDING * second and first > _NOTABLE * len(data):
        value = table[spec.group][int(np.argmax(data.groups == groups[counts.argmax()]))]
        yield (
            f"'{value}' is the '{spec.group}' of {first / len(data):.0%} of the rows, and no other of more"
            f" than {second / len(data):.1%}. If it says that none is known, leave it empty: else such rows"
            " count as one."
        )


def check_labels(spec: FeatureSpec, data: EncodedTable, split: Split, notes: Notes, file: str | None) -> None:
    """Look for labels that teach nothing, and for features that give them away.

    Raises:
        DataError: the rows of training and validation that count have one class of the first task.
    """
    rows = split.train[data.weight[split.train] > 0.0]
    labels = data.labels[rows]
    for index, (task, column) in enumerate(spec.labels.items()):
        possible = labels[labels[:, index - 1] == 1, index] if index else labels[:, 0]
        positives = int(possible.sum())
        if 0 < positives < possible.size:
            continue
        which = "none" if positives == 0 else "every one"
        where = "training rows" if spec.weight is None else "training rows of a weight above 0"
        where = f"{where} with {spec.tasks[index - 1]}" if index else where
        problem = f"{which} of the {possible.size:,} {where} has a {task}"
        if index == 0:
            raise DataError(
                f"{problem}, so there is nothing to learn",
                file=file,
                column=column,
                hint="Check the labels, or divide the rows otherwise under split",
            )
        notes.tell(f"{column}: {problem}, so its probabilities say little.")
    for leaks in leaks_by_task(spec, data, rows).values():
        for leak in leaks:
            notes.tell(leak.sentence)
