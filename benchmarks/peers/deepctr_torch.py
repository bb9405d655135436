"""DeepCTR-Torch 0.3.0 (https://github.com/shenweichen/DeepCTR-Torch): `fit` and `predict` on arrays.

Its ids travel as float32, so that those above 2^24 collide; no field of this comparison has as many.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat
from deepctr_torch.layers import CrossNet, InteractingLayer
from deepctr_torch.models import DCN, DIN, AutoInt, DeepFM, xDeepFM
from numpy.typing import NDArray

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import PADDING_ID
from peers.tables import Settings, Start, Task

LENGTH = "history_length"


class DeepCTRTorch:
    """One of its models."""

    def __init__(self, model: str, task: Task, settings: Settings, start: Start, scratch: Path) -> None:
        self.task, self.batch_size = task, settings.batch_size
        self.model = _build(model, task, settings)
        start.apply(self.model, _in_other_pieces(start, settings))
        start.output(self.model.out)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=settings.learning_rate)
        self.model.compile(optimizer, "binary_crossentropy")
        self.train_rows, self.test_rows = self._inputs(task.train), self._inputs(task.test)

    def train(self) -> None:
        """See `Library`."""
        labels = self.task.train.labels[:, 0]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.model.fit(dict(self.train_rows), labels, self.batch_size, epochs=1, verbose=0)

    def predict(self) -> NDArray[np.float64]:
        """See `Library`."""
        scores: NDArray[np.float64] = self.model.predict(dict(self.test_rows), self.batch_size)
        return scores[:, 0]

    def _inputs(self, rows: EncodedTable) -> dict[str, NDArray[np.int32]]:
        """Its DIN counts events from the front, so padding goes behind them."""
        columns = self.task.columns(rows, newest_last=False)
        if self.task.sequence is None:
            return columns
        history = columns.pop(self.task.sequence)
        length = (history != PADDING_ID).sum(axis=1).astype(np.int32)
        return {**columns, f"hist_{self.task.target}": history, LENGTH: length}


def _build(model: str, task: Task, settings: Settings) -> Any:
    """Its constructors, with every L2 off and no linear part where the others have none."""
    fields = [SparseFeat(name, size, settings.embedding) for name, size in task.vocabularies.items()]
    common = {"l2_reg_embedding": 0}
    tower = {**common, "dnn_hidden_units": settings.dnn}
    if model == "deepfm":
        return DeepFM(fields, fields, l2_reg_linear=0, **tower)
    if model == "xdeepfm":
        cin = {"cin_layer_size": settings.cin, "cin_split_half": False, "cin_activation": "linear"}
        return xDeepFM(fields, fields, l2_reg_linear=0, **cin, **tower)
    if model == "dcnv2":
        cross = {"cross_num": settings.cross_layers, "cross_parameterization": "matrix", "l2_reg_cross": 0}
        return DCN([], fields, l2_reg_linear=0, **cross, **tower)
    if model == "autoint":
        heads = {"att_layer_num": settings.attention_layers, "att_head_num": settings.heads}
        return AutoInt([], fields, **heads, **tower)
    target = next(field for field in fields if field.name == task.target)
    history = SparseFeat(
        f"hist_{target.name}", target.vocabulary_size, settings.embedding, embedding_name=target.name
    )
    events = VarLenSparseFeat(history, task.feature_map.max_length, length_name=LENGTH)
    attention = {"att_hidden_size": settings.attention, "att_activation": "relu"}
    return DIN([*fields, events], [target.name], **attention, **tower)


def _in_other_pieces(start: Start, settings: Settings) -> dict[type, Callable[[Any], None]]:
    """How the common start is set of what is no layer here, or is one layer for several."""

    def cross(module: CrossNet) -> None:
        """All matrices in one."""
        for kernel in module.kernels:
            kernel.copy_(start.matrix(*kernel.shape))

    def interacting(module: InteractingLayer) -> None:
        """Transposed."""
        for weight in (module.W_Query, module.W_key, module.W_Value, module.W_Res):
            weight.copy_(start.matrix(*weight.shape[::-1]).T)

    def autoint(module: AutoInt) -> None:
        """One output layer reads attention and tower."""
        for child in module.children():
            start.apply(child, pieces)
        tower = settings.dnn[-1]
        parts = start.matrix(1, module.dnn_linear.in_features - tower), start.matrix(1, tower)
        module.dnn_linear.weight.copy_(torch.cat(parts, dim=1))

    pieces = {CrossNet: cross, InteractingLayer: interacting, AutoInt: autoint}
    return pieces
