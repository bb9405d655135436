"""AdamW for the network, and an Adam for embeddings that reads and writes only the rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer

from ctrkit.config import Config
from ctrkit.nn.embedding_tables import RowMatrix

CACHED = 1 << 14  # number of matrix entries updated at a time, so that they stay in the cache


class OptimizerConfig(Config):
    """The optimizer and its settings.

    Attributes:
        name: "adamw" reads and writes every row of every embedding matrix at every step. "rowwise" touches
            only the rows of the batch, so its time does not depend on the number of rows. With a few
            thousand ids there is little difference (`benchmarks/embedding.py`).
        learning_rate: learning rate of all weights.
        weight_decay: weight decay of AdamW (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101). "rowwise"
            does not decay embeddings, because rows that are rarely read would be forgotten.
        embedding_learning_rate: learning rate of embeddings under "rowwise"; None for `learning_rate`.
        embedding_l2: L2 penalty of embeddings under "rowwise": embedding_l2 * row is added to the gradient of
            the rows of the batch.
    """

    name: Literal["adamw", "rowwise"] = "rowwise"
    learning_rate: float = Field(default=1e-3, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    embedding_learning_rate: float | None = Field(default=None, gt=0.0)
    embedding_l2: float = Field(default=0.0, ge=0.0)

    @model_validator(mode="after")
    def _only_rowwise_knows_rows(self) -> OptimizerConfig:
        if self.name != "rowwise" and (self.embedding_l2 or self.embedding_learning_rate):
            raise ValueError(
                "embedding_l2 and embedding_learning_rate need `name: rowwise`: only it knows the rows of a"
                " batch"
            )
        return self


class RowwiseAdamW(AdamW):
    """AdamW for `dense`, and lazy Adam for embedding matrices, whose gradients are sparse.

    It is lazy like `torch.optim.SparseAdam`: the moments of a row decay only at steps that touch the row,
    while the bias correction counts all steps. Where every step touches every row, it is Adam (Kingma and Ba,
    ICLR 2015, arXiv 1412.6980).

    Args:
        dense: parameters of the network.
        matrices: weights of embedding matrices.
        config: settings of the optimizer.
    """

    def __init__(
        self, dense: Iterable[nn.Parameter], matrices: Iterable[nn.Parameter], config: OptimizerConfig
    ) -> None:
        rows = {
            "params": list(matrices),
            "lr": config.embedding_learning_rate or config.learning_rate,
            "weight_decay": 0.0,
            "l2": config.embedding_l2,
        }
        network = {"params": list(dense), "l2": 0.0}
        super().__init__(
            [network, rows], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; a closure is evaluated first, as in every optimizer of torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[1]
        gradients = [matrix.grad for matrix in group["params"]]
        for matrix in group["params"]:
            matrix.grad = None  # AdamW skips parameters without a gradient
        super().step()
        for matrix, gradient in zip(group["params"], gradients, strict=True):
            matrix.grad = gradient
            if gradient is not None:
                self._update_rows(matrix, gradient, group)
        return loss

    def _update_rows(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Adam on the rows of the gradient."""
        state = self.state[matrix]
        if not state:
            state["step"] = torch.zeros((), device=matrix.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(matrix), torch.zeros_like(matrix)
        state["step"] += 1
        step, (beta1, beta2) = state["step"].item(), group["betas"]
        size = group["lr"] / (1 - beta1**step)
        correction = (1 - beta2**step) ** 0.5
        gradient = coalesced(gradient)
        at_once = max(1, CACHED // matrix.shape[1]) if matrix.device.type == "cpu" else len(matrix)
        parts = (torch.split(part, at_once) for part in (gradient.indices()[0], gradient.values()))
        for rows, g in zip(*parts, strict=True):
            row = matrix.index_select(0, rows)
            if group["l2"]:
                g = g.add(row, alpha=group["l2"])
            m = state["exp_avg"].index_select(0, rows).lerp_(g, 1 - beta1)
            v = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(g, g, value=1 - beta2)
            state["exp_avg"].index_copy_(0, rows, m)
            state["exp_avg_sq"].index_copy_(0, rows, v)
            matrix.index_copy_(
                0, rows, row.addcdiv_(m, v.sqrt_().div_(correction).add_(group["eps"]), value=-size)
            )


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimizer of a model. With "rowwise", gradients of its embeddings are sparse from now on."""
    matrices = [module for module in model.modules() if isinstance(module, RowMatrix)]
    for matrix in matrices:
        matrix.sparse = config.name == "rowwise"
    weights = [matrix.weight for matrix in matrices]
    if config.name == "adamw":
        return AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    embedded = {id(weight) for weight in weights}
    dense = [parameter for parameter in model.parameters() if id(parameter) not in embedded]
    return RowwiseAdamW(dense, weights, config)


def coalesced(gradient: Tensor) -> Tensor:
    """A sparse gradient with every row once. A dense gradient is made sparse first.

    `RowMatrix` gives each row once and in ascending order, but autograd loses this information.
    """
    if not gradient.is_sparse:
        gradient = gradient.to_sparse(1)
    if gradient.is_coalesced():
        return gradient
    indices = gradient._indices()
    if bool((indices[0].diff() > 0).all()):
        return torch.sparse_coo_tensor(
            indices, gradient._values(), gradient.shape, is_coalesced=True, check_invariants=False
        )
    return gradient.coalesce()


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients down to a global norm of `max_norm`, as `torch.nn.utils.clip_grad_norm_`, also with
    sparse gradients.

    Returns:
        The norm before scaling, a scalar.
    """
    gradients = []
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = coalesced(parameter.grad)
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    norm = get_total_norm(gradients)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)
    return norm
