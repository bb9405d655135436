"""The rows of each task of a funnel, with predictions, whatever made these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.api.models.leakage import BOTH
from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.evaluation.slices import Division
from ctrkit.evaluation.task import LabelledRows, Scored


def funnel(
    tasks: Sequence[str],
    labels: Floats,
    weight: Floats,
    first: Sequence[Scored],
    second: Sequence[Scored] | None,
    groups: Integers | None,
    fields: Mapping[str, NDArray[Any]],
    divisions: Mapping[str, Division],
) -> Iterator[tuple[str, LabelledRows]]:
    """The rows of each task (those where it can happen), and last those of the whole funnel.

    Args:
        tasks: the T tasks, in funnel order.
        labels: their labels, NaN where one is not known, [N, T].
        weight: the weight of each row, above 0, [N].
        first: the predictions of each task given the one before it and, if T > 1, of their product.
        second: the predictions to compare with; None if there are none.
        groups: the group of each row, [N]; None without groups.
        fields: field -> its value on each row, as text, [N].
        divisions: what the rows are sliced by -> their division.
    """

    def of(label: int, prediction: int, possible: Booleans | None = None) -> LabelledRows:
        y = np.ascontiguousarray(labels[:, label])
        compared = None if second is None else second[prediction]
        rows = LabelledRows(y, weight, first[prediction], compared, groups, fields, divisions)
        known = ~np.isnan(y) if possible is None else ~np.isnan(y) & possible
        return rows if known.all() else rows[known]

    for index, task in enumerate(tasks):
        yield task, of(index, index, labels[:, index - 1] == 1 if index else None)
    if len(tasks) > 1:
        yield BOTH.join(tasks), of(len(tasks) - 1, len(tasks))
