"""The two passes of Mamba over a sequence: causal convolution, and selective scan.

On a CPU they are compiled kernels (`ctrkit.nn.kernels`). On CUDA they are the kernels of `causal_conv1d` and
`mamba_ssm` where these are installed. Otherwise, in float64 and in exported programs, they are the plain
formulas below.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan
from torch.nn import functional as F

from ctrkit.nn.kernels.operators import SCAN_SHAPES, by_kernel, convolution_operator, scan_operator
from ctrkit.shapes import Shapes

# Functions of optional packages, each with the compiled extension that it calls.
_MAMBA_SSM = ("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn", "selective_scan_cuda")
_CONVOLUTION_SHAPES = Shapes("weight: D 1 T+1; bias: D; x: B L D; mask: B L")
_SCAN_SHAPES = Shapes(SCAN_SHAPES)
_by_doubling = False
_CAUSAL_CONV1D = ("causal_conv1d", "causal_conv1d_fn", "causal_conv1d_cuda")


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor | None = None) -> Tensor:
    """silu of a causal depthwise convolution over the events; 0 at padding.

    Args:
        x: `[B, L, D]`; values at padding are not read.
        weight: `[D, 1, d_conv]`, the newest event last.
        bias: `[D]`.
        mask: bool `[B, L]`, True at events.

    Returns:
        `[B, L, D]`.
    """
    check_shapes("causal_convolution", _CONVOLUTION_SHAPES, x=x, weight=weight, bias=bias, mask=mask)
    if by_kernel(x, weight):
        weights = torch.cat([weight.squeeze(1), bias.unsqueeze(1)], dim=1)
        convolved: Tensor = convolution_operator(x, weights, mask)
        return convolved
    # The convolution has a bias, which would make padding nonzero: so x is masked before and after.
    x, taps = _masked(x, mask), weight.shape[2]
    by_cuda = _cuda_kernel(x, *_CAUSAL_CONV1D)
    if by_cuda is not None and 2 <= taps <= 4:
        steps_last = x.transpose(1, 2).contiguous()
        y = by_cuda(steps_last, weight.squeeze(1), bias, activation="silu").transpose(1, 2)
    else:
        padded = F.pad(x, (0, 0, taps - 1, 0))
        shifted = (padded[:, tap : tap + x.shape[1]] * weight[:, 0, tap] for tap in range(taps))
        y = F.silu(sum(shifted, start=bias))
    return _masked(y, mask)


def selective_scan(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None = None,
) -> Tensor:
    """The selective scan of "Mamba" (Gu and Dao, arXiv 2312.00752), algorithm 2, with the skip and the gate.

    Each of D channels keeps a state h of N numbers, which every event changes and reads:

        delta_t = softplus(dt_weight dt_t + dt_bias)
        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,    h_0 = 0
        y_t = (C_t h_t + D u_t) silu(z_t)

    Args:
        u: input, `[B, L, D]`, 0 at padding.
        selection: dt, B and C side by side, `[B, L, R + 2 N]`, with dt of the low rank R.
        z: the gate, `[B, L, D]`.
        dt_weight: `[D, R]`.
        dt_bias: `[D]`.
        A: decay rates, `[D, N]`, negative.
        D: weights of the skip connection, `[D]`.
        mask: bool `[B, L]`, True at events. Padding to the left of the events is skipped; y is 0 there.

    Returns:
        y, `[B, L, D]`.
    """
    if _cuda_kernel(u, *_MAMBA_SSM) is not None:
        _check_scan(u, selection, z, dt_weight, dt_bias, A, D, mask, None)
        return _scan_by_cuda(u, selection, z, dt_weight, dt_bias, A, D)[0]
    return selective_scan_with_state(u, selection, z, dt_weight, dt_bias, A, D, mask)[0]


def selective_scan_with_state(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    mask: Tensor | None = None,
    h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`selective_scan` from a given state to the last state. Gradients pass through both states.

    Args:
        mask: bool `[B, L]`, True at events; not allowed together with `h`, because padding would decay it.
        h: `[B, N, D]`, the initial state; zero if None.

    Returns:
        y, `[B, L, D]`, and the state after the last step, `[B, N, D]`.
    """
    if mask is not None and h is not None:
        raise ValueError("a scan that continues from a state takes no mask")
    _check_scan(u, selection, z, dt_weight, dt_bias, A, D, mask, h)
    if by_kernel(u, selection, z, A):
        scanned: tuple[Tensor, Tensor] = scan_operator(u, selection, z, dt_weight, dt_bias, A, D, mask, h)
        return scanned
    # The state that mamba_ssm returns has no gradient, and it cannot begin with one.
    if h is None and not torch.is_grad_enabled() and _cuda_kernel(u, *_MAMBA_SSM) is not None:
        return _scan_by_cuda(u, selection, z, dt_weight, dt_bias, A, D)
    return scan_by_steps(u, selection, z, dt_weight, dt_bias, A, D, h)


def scan_by_steps(
    u: Tensor,
    selection: Tensor,
    z: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`selective_scan_with_state` by its formula, one step after the other, in ordinary operations.

    It is many times slower than the kernels and needs more memory. It explains and checks them.
    """
    rank, states = dt_weight.shape[1], A.shape[1]
    dt, B, C = torch.split(selection, [rank, states, states], dim=-1)
    delta = F.softplus(F.linear(dt, dt_weight, dt_bias))
    decays = torch.exp(delta.unsqueeze(2) * A.t())  # [B, L, N, D]
    inputs = (delta * u).unsqueeze(2) * B.unsqueeze(3)
    h = u.new_zeros(u.shape[0], states, u.shape[2]) if h is None else h
    if torch.compiler.is_exporting():
        h, hidden = _scanned(h, decays, inputs)
        read = (C.unsqueeze(2) @ hidden).squeeze(2)
    else:
        y = []
        for decay, entering, c in zip(decays.unbind(1), inputs.unbind(1), C.unbind(1), strict=True):
            h = decay * h + entering
            y.append((c.unsqueeze(1) @ h).squeeze(1))
        read = torch.stack(y, dim=1) if y else torch.zeros_like(u)
    return (read + D * u) * F.silu(z), h


@contextmanager
def scans_by_doubling() -> Iterator[None]:
    """Programs that are exported meanwhile have no scan operator, for runtimes that do not compute it."""
    global _by_doubling
    before, _by_doubling = _by_doubling, True
    try:
        yield
    finally:
        _by_doubling = before


def _scanned(h: Tensor, decays: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = decay_t h_{t-1} + input_t in an exported program: the last state, and all states `[B, L, N, D]`.

    It is one operator: a graph with a node for each step takes longer to run, and at 1,000 steps minutes to
    export (`benchmarks/serving.py scan`). By doubling, it is log2(L) additions of states that are 1, 2, 4,
    ... steps apart ("Data parallel algorithms", Hillis and Steele, CACM 1986).
    """
    if _by_doubling:
        inputs = torch.cat([inputs[:, :1] + decays[:, :1] * h.unsqueeze(1), inputs[:, 1:]], dim=1)
        apart = 1
        while apart < decays.shape[1]:
            inputs = torch.cat(
                [inputs[:, :apart], inputs[:, apart:] + decays[:, apart:] * inputs[:, :-apart]], dim=1
            )
            decays = torch.cat([decays[:, :apart], decays[:, apart:] * decays[:, :-apart]], dim=1)
            apart *= 2
        return inputs[:, -1], inputs

    def step(h: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h = at[0] * h + at[1]
        return h, h.clone()

    last, states = scan(step, h, (decays.transpose(0, 1), inputs.transpose(0, 1)))
    return last, states.transpose(0, 1)


def check_shapes(called: str, shapes: Shapes, **inputs: Tensor | None) -> None:
    """Check the sizes of inputs and the type of a mask, with the same message in every mode.

    Nothing is checked while torch compiles or exports: operators and ordinary operations then check their own
    inputs.

    Raises:
        ValueError: an input has a wrong size or type; the message names it and says what is needed.
    """
    if torch.compiler.is_compiling():
        return
    mask = inputs.get("mask")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"{called}: `mask` is {mask.dtype}, but must be torch.bool (True at events)")
    shapes.check(called, inputs)


def _check_scan(*inputs: Tensor | None) -> None:
    names = ("u", "selection", "z", "dt_weight", "dt_bias", "A", "D", "mask", "h")
    check_shapes("selective_scan", _SCAN_SHAPES, **dict(zip(names, inputs, strict=True)))


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.unsqueeze(-1)


def _cuda_kernel(x: Tensor, *kernel: str) -> Callable[..., Any] | None:
    """A function of an optional package, for tensors on CUDA."""
    return _optional(*kernel) if x.is_cuda and not torch.compiler.is_exporting() else None


@functools.cache
def _optional(module: str, name: str, extension: str) -> Callable[..., Any] | None:
    # mamba_ssm without its extension raises when it is imported, or, of July 2026, when it is called.
    try:
        importlib.import_module(extension)
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    return function


def _scan_by_cuda(
    u: Tensor, selection: Tensor, z: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, D: Tensor
) -> tuple[Tensor, Tensor]:
    """The scan of mamba_ssm, which takes the steps as the last dimension."""
    scan = _optional(*_MAMBA_SSM)
    assert scan is not None
    dt, B, C = torch.split(selection, [dt_weight.shape[1], A.shape[1], A.shape[1]], dim=-1)
    u, delta, z, B, C = (x.transpose(1, 2).contiguous() for x in (u, F.linear(dt, dt_weight), z, B, C))
    y, h = scan(
        u, delta, A.float(), B, C, D.float(), z,
        delta_bias=dt_bias.float(), delta_softplus=True, return_last_state=True,
    )  # fmt: skip
    return y.transpose(1, 2), h.transpose(1, 2)
