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
        possible: True where the task can happen and the row has a positive weight.
        groups: group of each row; None without groups.
        segments: segment of each row; None for a calibrator without segments.
        joint: whether logits and labels are of the task together with all tasks before it.
    """

    logits: Floats
    labels: Floats
    weight: Floats
    possible: Booleans
    groups: Integers | None
    segments: NDArray[np.int32] | None
    joint: bool


def task_rows(
    model: Model,
    opened: LabelledTable,
    logits: Floats,
    index: int,
    *,
    field: str | None,
    entire_space: bool,
) -> TaskRows:
    """The rows of a task. Over the entire space they are of the task together with all tasks before it."""
    labels = opened.encoded.labels.astype(np.float64)
    joint = index > 0 and entire_space
    fields = tuple(model.network.feature_map.categorical)
    weight = opened.weight
    before = labels[:, index - 1] == 1 if index and not joint else np.ones(len(labels), dtype=bool)
    return TaskRows(
        logits=joint_of(logits, index) if joint else logits[:, index],
        labels=labels[:, : index + 1].prod(axis=1) if joint else labels[:, index],
        weight=weight,
        possible=before & (weight > 0),
        groups=opened.encoded.groups,
        segments=None if field is None else segments_of(field, opened.encoded, fields),
        joint=joint,
    )
