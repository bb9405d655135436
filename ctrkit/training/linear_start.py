"""The start of a network with linear terms: they are fitted to all training rows before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID, UNKNOWN_ID
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch, batches_of
from ctrkit.nn.field_ids import FieldIds
from ctrkit.nn.linear_terms import LinearTerms
from ctrkit.training.evidence import LinearColumns, faded, fit_by_evidence
from ctrkit.training.item_vectors import fit_item_vectors
from ctrkit.training.unknown_ids import hidden_ids

# Rows that are looked at together.
_AT_ONCE = 1 << 16


def start_linear_terms(model: CtrModel, data: EncodedTable, rows: Integers, valid: Integers) -> None:
    """Fit the linear terms of each task, and start the tasks at them.

    Each column of ids is a group of weights with a prior variance of its own; all numbers are one group, and
    so are the match terms and the co-occurrence terms of each sequence (see `ctrkit.training.evidence`). Then
    each group is multiplied by the factor that the validation rows find most probable, as effects of ids fade
    with time. A task is fitted to the rows where it can happen. A task without rows of both kinds keeps its
    base rate. Where validation rows have more unknown ids, some are hidden (see `hidden_ids`).

    Args:
        model: a model with linear terms and new weights.
        data: the encoded rows.
        rows: the training rows.
        valid: the validation rows.
    """
    assert model.linear is not None
    if model.linear.items is not None:
        fit_item_vectors(model.linear.items, data, rows)
    training = linear_columns(model.linear, data, rows, hidden_ids(data, rows, valid))
    held_out = linear_columns(model.linear, data, valid)
    cells = sum(model.linear.sizes)
    for task in range(data.labels.shape[1]):
        mine, others = possible_rows(data, rows, task), possible_rows(data, valid, task)
        labels = data.labels[rows[mine], task].astype(np.float64)
        if np.unique(labels).size < 2:  # the linear logit stays 0
            continue
        found = fit_by_evidence(
            training.of(mine), labels, data.weight[rows[mine]].astype(np.float64), counted=data.counted
        )
        later, weight = (of[valid[others]].astype(np.float64) for of in (data.labels[:, task], data.weight))
        found = faded(found, held_out.of(others), later, weight, counted=data.counted)
        with torch.no_grad():
            model.linear.cells[:, task] = _tensor(found.weights[:cells])
            model.linear.slopes[:, task] = _tensor(found.weights[cells:])
            model.linear.bias[task] = found.bias
        model.heads.task_towers[task].start_at_linear()


def possible_rows(data: EncodedTable, rows: Integers, task: int) -> Integers:
    """Positions of the rows with a weight where a task can happen, and whose label is known."""
    possible = (data.weight[rows] > 0.0) & ~np.isnan(data.labels[rows, task])
    return np.flatnonzero(possible & (data.labels[rows, task - 1] == 1.0) if task else possible)


@torch.no_grad()
def linear_columns(
    linear: LinearTerms, data: EncodedTable, rows: Integers, hidden: Booleans | None = None
) -> LinearColumns:
    """The features that linear terms read, of some rows; without the places of bags that no row fills.

    Args:
        linear: the terms.
        data: the encoded rows.
        rows: which rows, `[n]`.
        hidden: ids of fields that are read as unknown ids, `[n, F]`, except by match and co-occurrence terms.
    """
    filled = [place for name in linear.bags for place in _filled(data.bags[name])]
    of_bags = np.flatnonzero(np.array(filled, dtype=np.bool_))
    once = np.arange(linear.columns - linear.bag_columns)
    kept = np.concatenate([once, once.size + of_bags])
    cells = np.empty((rows.size, kept.size), dtype=np.int32)
    amounts = np.empty((rows.size, of_bags.size), dtype=np.float32)
    numbers = np.empty((rows.size, linear.numbers), dtype=np.float32)
    for part, batch, seen in _batches(data, rows, hidden):
        cells[part] = linear.positions(seen, batch.sequences).numpy()[:, kept]
        amounts[part] = linear.amounts(batch).numpy()[:, of_bags]
        numbers[part] = linear.number_columns(batch, batch.sequences).numpy()
    sizes = [*linear.sizes, *linear.number_groups]
    return LinearColumns(cells, numbers, np.repeat(np.arange(len(sizes)), sizes), amounts)


@torch.no_grad()
def field_ids(
    fields: FieldIds, data: EncodedTable, rows: Integers, hidden: Booleans | None = None
) -> Integers:
    """Ids, bins and quarters of the fields that crosses may join, `[n, columns]`; `hidden` as above."""
    return np.concatenate([fields(seen).numpy() for _, _, seen in _batches(data, rows, hidden)])


def _batches(
    data: EncodedTable, rows: Integers, hidden: Booleans | None
) -> Iterator[tuple[slice, Batch, Batch]]:
    """Parts of the rows: as they are, and with hidden ids."""
    for part, batch in batches_of(data, rows):
        seen = batch
        if hidden is not None:
            mask = torch.from_numpy(hidden[part])
            seen = replace(batch, categorical=batch.categorical.masked_fill(mask, UNKNOWN_ID))
        yield part, batch, seen


def _filled(bag: NDArray[np.int32]) -> Booleans:
    """Which places of a bag hold an id in some row, `[L]`."""
    found = np.zeros(bag.shape[1], dtype=np.bool_)
    for first in range(0, len(bag), _AT_ONCE):
        found |= (bag[first : first + _AT_ONCE] != PADDING_ID).any(axis=0)
    return found


def _tensor(values: Floats) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
