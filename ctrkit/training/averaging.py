"""Exponential moving averages of all weights, which are often better than the weights of any one step.

Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM J. Control Optim. 1992,
with exponential weights. After step n, an average A of a weight x becomes

    A = d(n) A + (1 - d(n)) x,    d(n) = min(decay, (1 + n) / (10 + n))

The smaller decay of the first steps lets the averages forget the initial weights. It is that of
`tf.train.ExponentialMovingAverage`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from ctrkit.compiled import kernel
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.training.optimizers import coalesced


class AveragedWeights:
    """Averages of a model's weights over the steps of training.

    Embedding matrices with sparse gradients are averaged lazily, so that a step costs O(rows of the batch).
    While a row is constant, k steps have one formula:

        A = x + (A - x) d(n + 1) ... d(n + k)

    A row keeps the sum of log d(n) up to the last step that its average knows. The steps since then are
    applied before the row changes, and those of all rows before the averages are used.

    The running statistics of batch normalisation are averaged too. They are statistics of layers with the
    weights of their time. A mean is linear in the weights of its layer, so the average of means belongs to
    the averaged weights; the newest one would belong to the newest weights. Other buffers are constant.

    Args:
        model: the model, after `build_optimizer`, which decides whose gradients are sparse.
        decay: largest decay of a step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.step_count, self.log_decay = decay, 0, 0.0
        matrices = (module for module in model.modules() if isinstance(module, RowMatrix))
        self.rows: list[Tensor] = [matrix.weight for matrix in matrices if matrix.sparse]
        lazy = {id(weight) for weight in self.rows}
        statistics = (one for name, one in model.named_buffers() if ".running_" in name)
        numbers = [*model.parameters(), *statistics]
        self.dense: list[Tensor] = [one.detach() for one in numbers if id(one) not in lazy]
        self.row_averages = [one.detach().clone() for one in self.rows]
        self.dense_averages = [one.clone() for one in self.dense]
        # log_decay at the last step that the average of each row knows.
        self.known = [one.new_zeros(len(one), dtype=torch.float64) for one in self.rows]

    @torch.no_grad()
    def step(self, optimizer: Optimizer) -> None:
        """A step of the optimizer, with the gradients that the weights have, and then of the averages."""
        for weight, average, known in zip(self.rows, self.row_averages, self.known, strict=True):
            if weight.grad is not None:
                rows = coalesced(weight.grad).indices()[0]
                catch_up(weight.detach(), average, known, rows, self.log_decay)
        optimizer.step()
        self.step_count += 1
        decay = min(self.decay, (1 + self.step_count) / (10 + self.step_count))
        self.log_decay += math.log(decay)
        if self.dense:
            torch._foreach_lerp_(self.dense_averages, self.dense, 1.0 - decay)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Inside the `with` block, the model has the averages as its weights, and must not be trained."""
        for weight, average, known in zip(self.rows, self.row_averages, self.known, strict=True):
            every = torch.arange(len(weight), device=weight.device)
            catch_up(weight.detach(), average, known, every, self.log_decay)
        weights, averages = [*self.rows, *self.dense], [*self.row_averages, *self.dense_averages]
        own = [weight.clone() for weight in weights]
        torch._foreach_copy_(weights, averages)
        try:
            yield
        finally:
            torch._foreach_copy_(weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {
            "step_count": self.step_count,
            "log_decay": self.log_decay,
            "averages": [*self.row_averages, *self.dense_averages],
            "known": self.known,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` gave."""
        self.step_count, self.log_decay = state["step_count"], state["log_decay"]
        own = [*self.row_averages, *self.dense_averages, *self.known]
        for mine, kept in zip(own, [*state["averages"], *state["known"]], strict=True):
            mine.copy_(kept)


def catch_up(weight: Tensor, average: Tensor, known: Tensor, rows: Tensor, log_decay: float) -> None:
    """Apply to the averages of some rows all steps that they do not know yet.

    Args:
        weight: the matrix, `[R, D]`; the rows were constant in these steps.
        average: its averages, `[R, D]`, changed in place.
        known: float64 `[R]`, sum of log d(n) up to the last step that each average knows, changed in place.
        rows: which rows, each once, `[N]`.
        log_decay: sum of log d(n) up to the newest step.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        _catch_up(weight.numpy(), average.numpy(), known.numpy(), rows.numpy(), log_decay)
        return
    share = (log_decay - known.index_select(0, rows)).exp_().to(average.dtype)
    constant = weight.index_select(0, rows)
    average.index_copy_(0, rows, constant.lerp_(average.index_select(0, rows), share[:, None]))
    known.index_fill_(0, rows, log_decay)


# One pass over the rows takes less than half the time of torch's operators, which each read them again.
@kernel("void(f4[:,::1], f4[:,::1], f8[::1], i8[::1], f8)", "weight: R D; average: R D; known: R; rows: N")
def _catch_up(
    weight: NDArray[np.float32],
    average: NDArray[np.float32],
    known: NDArray[np.float64],
    rows: NDArray[np.int64],
    log_decay: float,
) -> None:
    """`catch_up` for single precision on a CPU."""
    for row in rows:
        share = np.float32(math.exp(log_decay - known[row]))
        known[row] = log_decay
        for column in range(weight.shape[1]):
            constant = weight[row, column]
            average[row, column] = constant + share * (average[row, column] - constant)
