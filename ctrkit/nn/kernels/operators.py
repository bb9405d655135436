"""The compiled kernels of `ctrkit.nn.kernels` as operators of torch, with their gradients.

As operators they are opaque to `torch.compile`, which keeps them whole and fuses what is around them.
numba is imported when the first of them runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.nn.kernels.threads import in_parallel

# Gradients of weights are added up in at most this many sums, each of as many rows, and these then in order:
# the result is the same, bit for bit, whatever the number of threads and whichever comes first.
_SUMS = 64
# Bytes of states and decays that one thread of the backward scan keeps, which should fit the second cache.
_HISTORY = 1 << 19
# Parts of a batch a thread: more than one, as rows differ in length and other programs want the cores too.
_PARTS_A_THREAD = 4
# Multiplications below which one thread is done before others have begun.
_SMALL = 1 << 18


@torch.library.custom_op("ctrkit::convolution", mutates_args=(), device_types="cpu")
def convolution_operator(x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    """silu of the causal depthwise convolution of x `[B, L, D]`; weight `[D, d_conv + 1]`, the bias last."""
    from ctrkit.nn.kernels.convolution import convolve

    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    _on_rows(convolve, x.numel() * weight.shape[1], x, weight, _mask(mask), y)
    return y


@torch.library.custom_op("ctrkit::convolution_backward", mutates_args=(), device_types="cpu")
def _convolution_backward(
    x: Tensor, weight: Tensor, mask: Tensor | None, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    from ctrkit.nn.kernels.convolution import convolve_backward

    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums, rows = _sums(x, weight.shape[1])
    inputs = x, weight, _mask(mask), grad_y.contiguous()
    work = x.numel() * weight.shape[1]
    _on_rows(convolve_backward, work, *inputs, grad_x, sums, rows, unit=rows)
    return grad_x, _added(sums, weight.shape[0])


@torch.library.custom_op("ctrkit::selective_scan", mutates_args=(), device_types="cpu")
def scan_operator(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None,
    h: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`ctrkit.nn.scan.selective_scan_with_state` for float32 on a CPU."""
    from ctrkit.nn.kernels.scan import scan

    y = torch.empty_like(u, memory_format=torch.contiguous_format)
    last = u.new_empty(u.shape[0], A.shape[1], A.shape[0])
    inputs = u.contiguous(), selection.contiguous(), z, _low_rank(dt_weight, dt_bias), A, D.unsqueeze(1)
    _on_rows(scan, u.numel() * A.shape[1], *inputs, _mask(mask), _state(h), y, last)
    return y, last


@torch.library.custom_op("ctrkit::selective_scan_backward", mutates_args=(), device_types="cpu")
def _scan_backward(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None,
    h: Tensor | None,
    grad_y: Tensor,
    grad_last: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the first seven inputs and of h, that one empty without h."""
    from ctrkit.nn.kernels.scan import scan_backward

    (channels, states), rank = A.shape, dt_weight.shape[1]
    inputs = u.contiguous(), selection.contiguous(), z, _low_rank(dt_weight, dt_bias), A, D.unsqueeze(1)
    grad_u, grad_selection, grad_z, grad_h = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u, selection, z, _state(h))
    )
    sums, rows = _sums(u, states + rank + 2)
    chunk = _HISTORY // (8 * sums.shape[1] * sums.shape[3] * states)
    _on_rows(
        scan_backward, 4 * u.numel() * states,
        *inputs, _mask(mask), _state(h), grad_y.contiguous(), _state(grad_last),
        grad_u, grad_selection, grad_z, grad_h, sums, rows, chunk, unit=rows,
    )  # fmt: skip
    grad_A, grad_weight, grad_bias, grad_D = torch.split(_added(sums, channels), [states, rank, 1, 1], dim=1)
    weights = [x.clone() for x in (grad_weight, grad_bias.squeeze(1), grad_A, grad_D.squeeze(1))]
    return grad_u, grad_selection, grad_z, weights[0], weights[1], weights[2], weights[3], grad_h


def _on_rows(kernel: Callable[..., None], work: int, *arguments: Tensor | int, unit: int = 1) -> None:
    """Call a kernel for all rows of a batch, by parts, on torch's threads.

    Args:
        work: multiplications in all.
        arguments: of the kernel, before the rows to work on; the first is a tensor `[B, ...]`.
        unit: parts hold a multiple of this many rows.
    """
    memory: list[Any] = [_memory(x) if isinstance(x, Tensor) else x for x in arguments]
    batch = len(memory[0])
    parts = 1 if work < _SMALL else _PARTS_A_THREAD * torch.get_num_threads()
    size = -(-batch // (parts * unit)) * unit

    def on_part(part: int) -> None:
        kernel(*memory, part * size, min(batch, (part + 1) * size))

    if batch:
        in_parallel(on_part, -(-batch // size))


def _memory(x: Tensor) -> Any:
    """The array in which a tensor lies: its channels side by side, its rows and steps perhaps apart."""
    return (x if x.stride(-1) == 1 else x.contiguous()).detach().numpy()


def _sums(x: Tensor, columns: int) -> tuple[Tensor, int]:
    """Room for sums of the gradients of weights `[D, columns]`, and how many rows go into each."""
    from ctrkit.nn.kernels.lanes import LANES

    batch, _, channels = x.shape
    rows = max(1, -(-batch // _SUMS))
    return x.new_zeros(-(-batch // rows), -(-channels // LANES), columns, LANES), rows


def _added(sums: Tensor, channels: int) -> Tensor:
    """`[sums, blocks, columns, LANES] -> [D, columns]`. numpy adds in order, torch by threads."""
    added = torch.from_numpy(np.add.reduce(sums.numpy(), axis=0))
    return added.transpose(1, 2).flatten(0, 1)[:channels].contiguous()


def _low_rank(weight: Tensor, bias: Tensor) -> Tensor:
    return torch.cat([weight, bias.unsqueeze(1)], dim=1)


def _mask(mask: Tensor | None) -> Tensor:
    return torch.zeros(0, 0, dtype=torch.bool) if mask is None else mask


def _state(h: Tensor | None) -> Tensor:
    return torch.zeros(0, 0, 0) if h is None else h


@convolution_operator.register_fake
def _(x: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_convolution_backward.register_fake
def _(x: Tensor, weight: Tensor, mask: Tensor | None, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), torch.empty_like(weight)


@scan_operator.register_fake
def _(u: Tensor, selection: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    A = others[3]
    return torch.empty_like(u, memory_format=torch.contiguous_format), u.new_empty(u.shape[0], *A.t().shape)


@_scan_backward.register_fake
def _(*inputs: Any) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(x, memory_format=torch.contiguous_format) for x in (*inputs[:7], _state(inputs[8]))
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _convolution_gradients(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return *_convolution_backward(*ctx.saved_tensors, grad_y), None


def _scan_gradients(ctx: Any, grad_y: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
    u, *_, h = ctx.saved_tensors
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    *grads, grad_h = _scan_backward(*ctx.saved_tensors, grad_y, grad_last)
    return *grads, None, None if h is None else grad_h


convolution_operator.register_autograd(_convolution_gradients, setup_context=_keep)
scan_operator.register_autograd(_scan_gradients, setup_context=_keep)
