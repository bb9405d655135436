"""The compiled attention of targets over a history as an operator of torch, with its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.nn.kernels.operators import SUMS, on_rows, operator


def _attention(
    target: Tensor,
    base: Tensor,
    events: Tensor,
    mask: Tensor,
    of_event: Tensor,
    of_pair: Tensor,
    score: Tensor,
    score_bias: Tensor,
) -> Tensor:
    """`ctrkit.nn.attention.TargetAttention` with one hidden layer, for float32 on a CPU.

    Args:
        target: `[U, K, width]`.
        base: what the target alone adds to the hidden layer, `[U, K, hidden]`.
        events: `[U, L, width]`; values at padding are not read.
        mask: `[U, L]`.
        of_event: `[hidden, width]`.
        of_pair: `[hidden, width]`.
        score: `[1, hidden]`.
        score_bias: `[1]`.

    Returns:
        `[U, K, width]`.
    """
    from ctrkit.nn.kernels.attention import attend

    reading = target.new_empty(target.shape)
    weights = of_event, of_pair, score.t(), score_bias
    pairs = target.flatten(0, 1), base.flatten(0, 1)
    work = pairs[1].numel() * events[0:1].numel()
    on_rows(attend, work, *pairs, events, mask, *weights, reading.flatten(0, 1))
    return reading


def _attention_backward(
    target: Tensor,
    base: Tensor,
    events: Tensor,
    mask: Tensor,
    of_event: Tensor,
    of_pair: Tensor,
    score: Tensor,
    score_bias: Tensor,
    grad_reading: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of all inputs except the mask."""
    from ctrkit.nn.kernels.attention import attend_backward
    from ctrkit.nn.kernels.lanes import LANES

    grad_target, grad_base, grad_events = (x.new_empty(x.shape) for x in (target, base, events))
    hidden, width = of_event.shape
    # Summed in a fixed order (see `SUMS`). Only histories are split: the targets of one share gradients.
    rows = max(1, -(-len(events) // SUMS))
    sums = target.new_zeros(-(-len(events) // rows), 2 * width + 2, -(-hidden // LANES) * LANES)
    pairs = (x.flatten(0, 1) for x in (target, base))
    weights = of_event, of_pair, score.t(), score_bias
    on_rows(
        attend_backward, 3 * base.numel() * events[0:1].numel(),
        events, mask, *pairs, *weights, grad_reading.flatten(0, 1),
        grad_events, grad_target.flatten(0, 1), grad_base.flatten(0, 1), sums, rows, unit=rows,
    )  # fmt: skip
    added = torch.from_numpy(np.add.reduce(sums.numpy(), axis=0))[:, :hidden]
    parts = added[:width].t(), added[width : 2 * width].t(), added[2 * width : -1], added[-1, :1]
    grads = [x.clone(memory_format=torch.contiguous_format) for x in parts]
    return grad_target, grad_base, grad_events, grads[0], grads[1], grads[2], grads[3]


def _attention_fake(target: Tensor, *others: Tensor) -> Tensor:
    return target.new_empty(target.shape)


def _attention_backward_fake(*inputs: Tensor) -> tuple[Tensor, ...]:
    target, base, events, _, *weights, _ = inputs
    return tuple(x.new_empty(x.shape) for x in (target, base, events, *weights))


def _attention_gradients(ctx: Any, grad_reading: Tensor) -> tuple[Tensor | None, ...]:
    grads = _attention_backward_operator(*ctx.saved_tensors, grad_reading)
    target, base, events, *weights = grads
    return target, base, events, None, *weights


_SHAPES = (
    "of_event: H W; of_pair: H W; score: 1 H; score_bias: 1; target: U K W; base: U K H; events: U L W; "
    "mask: U L"
)

attention_operator = operator("target_attention", _SHAPES, _attention, _attention_fake, _attention_gradients)
_attention_backward_operator = operator(
    "target_attention_backward",
    f"{_SHAPES}; grad_reading: U K W",
    _attention_backward,
    _attention_backward_fake,
)
