"""A model's outputs for many rows, batch by batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoder import EncodedTable, RowIndex
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch

Outputs = tuple[Floats, NDArray[np.float32]]


@torch.no_grad()
def predict(
    model: CtrModel, data: EncodedTable, rows: Integers | None = None, batch_size: int = 4096
) -> Outputs:
    """Logits [n, T] and `hidden` [n, D] of the given rows (None for all rows), in evaluation mode."""
    model.eval()
    chosen = np.arange(len(data)) if rows is None else rows
    device = next(model.parameters()).device
    logits, hidden = [], []
    for start in range(0, max(chosen.size, 1), batch_size):  # without rows, one empty batch gives the widths
        output = model(Batch.of(data, _contiguous(chosen[start : start + batch_size])).to(device))
        logits.append(output.logits.double().cpu().numpy())
        hidden.append(output.hidden.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(hidden)


@torch.no_grad()
def predict_candidates(
    model: CtrModel,
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
    device = next(model.parameters()).device
    first = np.cumsum(counts) - counts
    logits, hidden = [], []
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
        logits.append(output.logits.double().cpu().numpy()[present.ravel()])
        hidden.append(output.hidden.float().cpu().numpy()[present.ravel()])
    if not logits:
        history = Batch.of(histories, slice(0)).to(device)
        state = model.encode_history(history) if model.reads_history else None
        output = model(Batch.of(candidates, slice(0)).to(device), state)
        return output.logits.double().cpu().numpy(), output.hidden.float().cpu().numpy()
    return np.concatenate(logits), np.concatenate(hidden)


def _contiguous(rows: Integers) -> RowIndex:
    """Consecutive rows as a slice, which copies no data."""
    if rows.size and rows[-1] - rows[0] == rows.size - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
