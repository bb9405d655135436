"""The rows of one task, for its calibrator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrkit.api.models.labelled import LabelledTable
from ctrkit.api.models.model import Model
from ctrkit.api.models.task_calibrators import joint_of, segments_of
from ctrkit.arrays import Booleans, Floats, Integers


@dataclass(frozen=True)
class TaskRows:
    """The rows that a task is calibrated on, arrays [n].

    Attributes:
        logits: uncalibrated logits.
        labels: 0 or 1.
        weight: weights, at least 0.
        possible: True where the task can happen, its label is known and the row has a positive weight.
        groups: group of each row; None without groups.
        segments: segment of each row; None for a calibrator without segments.
        joint: whether logits and labels are of the task together with all tasks before it.
    """

    logits: Floats
    labels: Floats
    weight: Floats
    possible: Booleans
    groups: Integers | None
    segments: NDArray[np.integer] | None
    joint: bool

    @classmethod
    def of(
        cls,
        index: int,
        logits: Floats,
        labels: Floats,
        weight: Floats,
        groups: Integers | None,
        segments: NDArray[np.integer] | None,
        *,
        entire_space: bool,
    ) -> TaskRows:
        """The rows of a task, from those of all T tasks.

        Over the entire space they are of the task together with all tasks before it.

        Args:
            index: the task's place in the funnel.
            logits: uncalibrated logits of each task given the task before it, [n, T].
            labels: 0 or 1, NaN where it is not known, [n, T].
            weight: weights, at least 0, [n].
            groups: group of each row; None without groups.
            segments: segment of each row; None for a calibrator without segments.
            entire_space: whether tasks after the first are calibrated on all rows.
        """
        joint = index > 0 and entire_space
        before = labels[:, index - 1] == 1 if index and not joint else np.ones(len(labels), dtype=bool)
        return cls(
            logits=joint_of(logits, index) if joint else logits[:, index],
            labels=labels[:, : index + 1].prod(axis=1) if joint else labels[:, index],
            weight=weight,
            possible=before & ~np.isnan(labels[:, index]) & (weight > 0),
            groups=groups,
            segments=segments,
            joint=joint,
        )


def task_rows(
    model: Model,
    opened: LabelledTable,
    logits: Floats,
    index: int,
    *,
    field: str | None,
    entire_space: bool,
) -> TaskRows:
    """The rows of a model's task, from a labelled table and its logits [n, T]."""
    fields = tuple(model.network.feature_map.categorical)
    return TaskRows.of(
        index,
        logits,
        opened.encoded.labels.astype(np.float64),
        opened.weight,
        opened.encoded.groups,
        None if field is None else segments_of(field, opened.encoded, fields),
        entire_space=entire_space,
    )
