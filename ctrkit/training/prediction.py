"""A model's outputs for many rows, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.histories import RowIndex
from ctrkit.models import Output, Scorer
from ctrkit.nn.batches import Batch
from ctrkit.nn.history import HistoryState


class Outputs(NamedTuple):
    """A model's outputs for n rows, as arrays.

    Attributes:
        logits: [n, T], each task given the task before it.
        hidden: [n, D], the input of the first task's last layer.
        value: [n, 3], the distribution of the value given the last task, as in `ctrkit.models.Output`; None
            where rows have no value.
    """

    logits: Floats
    hidden: NDArray[np.float32]
    value: Floats | None = None

    @classmethod
    def of(cls, output: Output, *, hidden: bool = True) -> Outputs:
        """The outputs for a batch; without `hidden` they have none, D = 0."""
        return cls(
            output.logits.double().cpu().numpy(),
            (output.hidden if hidden else output.hidden[:, :0]).float().cpu().numpy(),
            None if output.value is None else output.value.double().cpu().numpy(),
        )

    @classmethod
    def joined(cls, parts: Sequence[Outputs]) -> Outputs:
        """The outputs of several batches, in their order."""
        values = [part.value for part in parts if part.value is not None]
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.hidden for part in parts]),
            np.concatenate(values) if values else None,
        )

    def of_rows(self, rows: Booleans) -> Outputs:
        """The outputs for some of the rows."""
        return Outputs(self.logits[rows], self.hidden[rows], None if self.value is None else self.value[rows])

    @property
    def expected_value(self) -> Floats | None:
        """The mean of the value given the last task, p(value > 0) exp(μ + σ²/2), [n]."""
        if self.value is None:
            return None
        positive, mean, deviation = self.value.T
        expected: Floats = expit(positive) * np.exp(mean + deviation**2 / 2.0)
        return expected


@torch.no_grad()
def predict(
    model: Scorer,
    data: EncodedTable,
    rows: Integers | None = None,
    batch_size: int = 4096,
    *,
    hidden: bool = True,
) -> Outputs:
    """The outputs for the given rows (None for all rows), in evaluation mode.

    Where neighbours share a history, as the candidates of a page do, each history is encoded once.
    Without `hidden` they have none, D = 0: of many rows it takes most of the memory.
    """
    model.eval()
    chosen = np.arange(len(data)) if rows is None else rows
    device = model.device
    starts = range(0, max(chosen.size, 1), batch_size)  # without rows, one empty batch gives the widths
    batches = (Batch.of(data, _contiguous(chosen[start : start + batch_size])) for start in starts)
    found = []
    for batch in (batch.to(device) for batch in batches):
        found.append(Outputs.of(model(batch, _shared_histories(model, batch)), hidden=hidden))
    return Outputs.joined(found)


@torch.no_grad()
def predict_candidates(
    model: Scorer,
    histories: EncodedTable,
    candidates: EncodedTable,
    counts: Integers,
    batch_size: int = 4096,
) -> Outputs:
    """`predict` for candidates that share histories: each history is encoded once.

    Args:
        model: the model.
        histories: n rows; only their sequences are read.
        candidates: the rows to score, without sequences, in the order of the histories.
        counts: [n], number of candidates of each history.
        batch_size: approximate number of candidates scored at a time.
    """
    model.eval()
    device = model.device
    first = np.cumsum(counts) - counts
    parts = []
    step = max(1, batch_size // max(1, int(counts.max(initial=1))))
    for start in range(0, counts.size, step):
        shared = slice(start, min(start + step, counts.size))
        places = np.arange(counts[shared].max())
        present = places < counts[shared, None]
        if not present.any():
            continue
        # A model needs the same number of candidates for every history: short lists repeat some row.
        rows = np.where(present, first[shared, None] + places, first[shared].min()).ravel()
        history = Batch.of(histories, shared).to(device)
        state = model.encode_history(history) if model.reads_history else None
        output = model(Batch.of(candidates, _contiguous(rows)).to(device), state)
        parts.append(Outputs.of(output).of_rows(present.ravel()))
    if not parts:
        history = Batch.of(histories, slice(0)).to(device)
        state = model.encode_history(history) if model.reads_history else None
        parts.append(Outputs.of(model(Batch.of(candidates, slice(0)).to(device), state)))
    return Outputs.joined(parts)


def _shared_histories(model: Scorer, batch: Batch) -> HistoryState | None:
    """The encoded histories of rows of which at most half have another history than the row before.

    None for other rows: a model then encodes the history of each. Histories are compared, and not where they
    are stored, so that the same rows have the same outputs to the last bit wherever they lie.
    """
    if not model.encodes_history or not len(batch):
        return None
    ids = torch.cat([*batch.sequences.values()], dim=1)
    other = torch.cat([ids.new_ones(1, dtype=torch.bool), (ids[1:] != ids[:-1]).any(dim=1)])
    if 2 * int(other.sum()) > len(batch):
        return None
    first = other.nonzero().squeeze(1)
    histories = replace(batch, sequences={name: ids[first] for name, ids in batch.sequences.items()})
    return model.encode_history(histories).of_rows(other.cumsum(0) - 1)


def _contiguous(rows: Integers) -> RowIndex:
    """Consecutive rows as a slice, which copies no data."""
    if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
