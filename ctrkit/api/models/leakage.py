"""Which features of encoded rows leak a label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID
from ctrkit.evaluation.leaks import Leak, find_leaks, only_with, telling_rows
from ctrkit.schema import FeatureSpec

# Joins the names of a funnel's tasks: the leaks of all tasks together, on all rows.
BOTH = "·"


def leaks_by_task(
    spec: FeatureSpec, data: EncodedTable, rows: Integers, seed: int = 0
) -> dict[str, tuple[Leak, ...]]:
    """The leaks of each task where it can happen and, with several tasks, of the whole funnel on all rows.

    Three properties of a history are tested: its length, its newest event, and whether this event is the
    row's own id. A history that was recorded after the click ends with the clicked ad. Of a bag its length
    and its first id are tested, and of a vector each number or the id that is looked up.

    Args:
        spec: what the columns mean.
        data: the encoded rows.
        rows: indices of the rows to test.
        seed: random seed.
    """
    known = ~np.isnan(data.labels[rows])
    labels = (data.labels[rows] > 0).astype(np.float32)
    found: dict[str, tuple[Leak, ...]] = {}
    for index, task in enumerate(spec.tasks):
        possible = np.flatnonzero(known[:, index] & (labels[:, index - 1] == 1 if index else True))
        found[task] = _leaks(task, spec, data, rows[possible], labels[possible, index], seed)
    if len(spec.tasks) > 1:
        name = BOTH.join(spec.tasks)
        found[name] = _leaks(name, spec, data, rows[known[:, -1]], labels[known[:, -1], -1], seed)
    return found


def _leaks(
    task: str,
    spec: FeatureSpec,
    data: EncodedTable,
    rows: Integers,
    labels: NDArray[np.float32],
    seed: int,
) -> tuple[Leak, ...]:
    chosen = telling_rows(labels, seed)
    found = find_leaks(task, _columns(spec, data, rows[chosen]), labels[chosen], seed)
    if chosen.size < rows.size and any(leak.only for leak in found):
        # Only a sample of the negative rows was tested.
        every = _columns(spec, data, rows)
        found = tuple(leak for leak in found if not leak.only or only_with(every[leak.feature], labels))
    return found


def _columns(spec: FeatureSpec, data: EncodedTable, rows: Integers) -> dict[str, NDArray[Any]]:
    """The values of the rows, by feature: integers for ids, floats for numbers."""
    ids = {one.name: data.categorical[rows, at] for at, one in enumerate(spec.categorical)}
    columns: dict[str, NDArray[Any]] = {**ids}
    columns |= {one.name: data.numeric[rows, at] for at, one in enumerate(spec.numeric)}
    for bag in spec.bags:
        ids_of_bag = data.bags[bag.name][rows]
        columns[f"the length of {bag.name}"] = (ids_of_bag != PADDING_ID).sum(axis=1).astype(np.float64)
        columns[f"the first of {bag.name}"] = ids_of_bag[:, 0]
    for name, vectors in data.vectors.items():
        for at, found in enumerate(vectors.by_row[rows].reshape(rows.size, -1).T):
            columns[f"{name}[{at}]" if vectors.rows is None else name] = found
    for sequence in spec.sequences:
        events = data.sequences[sequence.name][rows]
        newest = events[:, -1]
        columns[f"the length of {sequence.name}"] = (events != PADDING_ID).sum(axis=1).astype(np.float64)
        columns[f"the newest of {sequence.name}"] = newest
        if sequence.shares is not None:
            own = (newest == ids[sequence.shares]).astype(np.int32)
            columns[f"{sequence.shares} as the newest of {sequence.name}"] = own
    return columns
