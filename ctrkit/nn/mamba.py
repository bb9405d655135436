"""Mamba: the selective state space model, with a scan in plain PyTorch that is quick on a CPU.

From "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (Gu and Dao, arXiv 2312.00752).
Parameters are named, shaped and initialised as those of `mamba_ssm.Mamba`: weights go both ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Elements of the state history [L, chunk, N, D] that are worked on at a time. At four bytes each, the three
# such tensors of the backward pass stay in the last cache; measured best at 1 to 2 million.
_CHUNK_ELEMENTS = 1 << 21


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The selective scan, with h_0 = 0 and a state of N numbers for each of D channels:

        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,    y_t = C_t h_t

    Args:
        u, delta: input and step size, `[batch, L, D]`.
        A: decay rates, `[D, N]`, negative.
        B, C: input and output vectors, `[batch, L, N]`.

    Returns:
        y, `[batch, L, D]`.
    """
    if torch.compiler.is_compiling():  # torch.compile and torch.export trace operations, not Functions
        return scan_by_steps(u, delta, A, B, C)
    y: Tensor = _SelectiveScan.apply(u, delta, A, B, C)  # type: ignore[no-untyped-call]
    return y


def scan_by_steps(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """`selective_scan` as its formula reads, one step after the other, differentiated by autograd.

    Several times slower and hungrier than `selective_scan`, but made of ordinary operations only.
    """
    decays = torch.exp(delta.unsqueeze(-1) * A).unbind(1)
    inputs = ((delta * u).unsqueeze(-1) * B.unsqueeze(2)).unbind(1)
    h = torch.zeros_like(inputs[0])
    y = []
    for decay, entering, c in zip(decays, inputs, C.unbind(1), strict=True):
        h = decay * h + entering
        y.append((h @ c.unsqueeze(-1)).squeeze(-1))
    return torch.stack(y, dim=1)


class _SelectiveScan(torch.autograd.Function):
    """The scan with its gradient written out, over chunks of the batch that fit the cache.

    Within a chunk everything but the recurrence itself is one operation over all steps, and the recurrence
    is one operation a step. The states are not kept for the backward pass but computed again: that costs
    less than the memory traffic, and memory does not grow with batch x length x N. For the same reason all
    chunks share their buffers.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        ctx.save_for_backward(u, delta, A, B, C)
        y = torch.empty_like(u)
        rates = A.t().contiguous()
        for rows, (decay, h) in _chunks(u, A, buffers=2):
            u_, delta_, B_, C_ = (_steps_first(x[rows]) for x in (u, delta, B, C))
            _states(delta_ * u_, delta_, rates, B_, decay, h)
            y[rows] = (C_.unsqueeze(2) @ h).squeeze(2).transpose(0, 1)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C = ctx.saved_tensors
        rates = A.t().contiguous()
        grad_u, grad_delta, grad_B, grad_C = (torch.empty_like(x) for x in (u, delta, B, C))
        grad_rates = torch.zeros_like(rates)
        for rows, (decay, h, g) in _chunks(u, A, buffers=3):
            u_, delta_, B_, C_, grad_y = (_steps_first(x[rows]) for x in (u, delta, B, C, grads[0]))
            v = delta_ * u_
            _states(v, delta_, rates, B_, decay, h)

            # g_t = dLoss/dh_t = C_t grad_y_t + decay_{t+1} g_{t+1}
            torch.mul(grad_y.unsqueeze(2), C_.unsqueeze(3), out=g)
            _recur(g.unbind()[::-1], decay.unbind()[:0:-1])

            grad_C[rows] = (grad_y.unsqueeze(2) @ h.transpose(2, 3)).squeeze(2).transpose(0, 1)
            grad_B[rows] = (v.unsqueeze(2) @ g.transpose(2, 3)).squeeze(2).transpose(0, 1)
            grad_v = (B_.unsqueeze(2) @ g).squeeze(2)
            grad_u[rows] = (grad_v * delta_).transpose(0, 1)

            # The exponent delta_t A enters h_t as decay_t h_{t-1}.
            exponent = g[1:].mul_(decay[1:]).mul_(h[:-1])
            grad_step = grad_v * u_
            grad_step[1:] += torch.mul(exponent, rates, out=h[1:]).sum(dim=2)
            grad_delta[rows] = grad_step.transpose(0, 1)
            grad_rates += exponent.mul_(delta_[1:].unsqueeze(2)).sum(dim=(0, 1))
        return grad_u, grad_delta, grad_rates.t(), grad_B, grad_C


def _chunks(u: Tensor, A: Tensor, buffers: int) -> Iterator[tuple[slice, list[Tensor]]]:
    """Slices of the batch with state histories of about `_CHUNK_ELEMENTS` elements, and buffers for these.

    Buffers are `[L, chunk, N, D]`; their content is whatever the chunk before left in them.
    """
    batch, length, _ = u.shape
    size = max(1, min(batch, _CHUNK_ELEMENTS // max(1, length * A.numel())))
    space = [u.new_empty(length, size, *A.t().shape) for _ in range(buffers)]
    for start in range(0, batch, size):
        rows = slice(start, min(start + size, batch))
        yield rows, [buffer[:, : rows.stop - start] for buffer in space]


def _steps_first(x: Tensor) -> Tensor:
    """`[batch, L, ...] -> [L, batch, ...]`, so that one step lies in one piece."""
    return x.transpose(0, 1).contiguous()


def _states(v: Tensor, delta: Tensor, rates: Tensor, B: Tensor, decay: Tensor, h: Tensor) -> None:
    """Fill in the decays and states of all steps from v = delta u and rates `[N, D]`."""
    torch.mul(delta.unsqueeze(2), rates, out=decay).exp_()
    torch.mul(v.unsqueeze(2), B.unsqueeze(3), out=h)
    _recur(h.unbind(), decay.unbind()[1:])


def _recur(x: Sequence[Tensor], decays: Sequence[Tensor]) -> None:
    """x_i += decays_{i-1} x_{i-1}, in place and in order."""
    for before, decay, now in zip(x, decays, x[1:], strict=False):
        now.addcmul_(decay, before)


class Mamba(nn.Module):
    """The Mamba mixer: `[B, L, d_model] -> [B, L, d_model]`, causal.

    Args:
        d_model: width of the sequence.
        d_state: N, numbers of state a channel.
        d_conv: kernel of the causal convolution.
        expand: the inner width D is `expand * d_model`.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner = expand * d_model
        dt_rank = math.ceil(d_model / 16)
        self.widths = (dt_rank, d_state, d_state)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(inner, sum(self.widths), bias=False)
        self.dt_proj = nn.Linear(dt_rank, inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self._initialise_steps(dt_rank**-0.5)

    def _initialise_steps(self, bound: float, low: float = 1e-3, high: float = 0.1) -> None:
        """Step sizes at initialisation: log-uniform in [low, high], as softplus of the bias."""
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        step = torch.empty_like(self.dt_proj.bias).uniform_(math.log(low), math.log(high)).exp()
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix a sequence.

        Args:
            x: `[B, L, d_model]`.
            mask: bool `[B, L]`, True at events. Padding to the left of the events, however much, then
                changes no output: it enters neither the convolution nor the state. Outputs at padding are 0.
        """
        length = x.shape[1]
        u, z = self.in_proj(x).chunk(2, dim=-1)
        # The convolution has a bias, which would make an event out of padding: masked before and after.
        u = _masked(u, mask)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., :length].transpose(1, 2))
        u = _masked(u, mask)
        dt, B, C = self.x_proj(u).split(self.widths, dim=-1)
        delta = F.softplus(self.dt_proj(dt))
        y = selective_scan(u, delta, -torch.exp(self.A_log), B, C) + self.D * u
        mixed: Tensor = self.out_proj(y * F.silu(z))
        return mixed


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.unsqueeze(-1)


class MambaBlock(nn.Module):
    """A mixer with its residual: `x + dropout(mix(norm(x)))` (pre) or `norm(x + dropout(mix(x)))` (post)."""

    def __init__(self, mixer: Mamba, width: int, norm: Literal["pre", "post"], dropout: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.norm = nn.LayerNorm(width)
        self.pre = norm == "pre"
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, L, width] -> [B, L, width]`."""
        if self.pre:
            pre: Tensor = x + self.dropout(self.mixer(self.norm(x), mask))
            return pre
        post: Tensor = self.norm(x + self.dropout(self.mixer(x, mask)))
        return post


class MambaEncoder(nn.Module):
    """A stack of Mamba blocks: the states of a behaviour sequence.

    Args:
        width: of events and states.
        blocks: number of blocks.
        norm: "pre" (with one more normalisation at the end) or "post", as in Mamba4Rec (arXiv 2403.03900).
        dropout: share of each mixer's output that is dropped.
        d_state, d_conv, expand: of each `Mamba`.
    """

    def __init__(
        self,
        width: int,
        blocks: int = 2,
        norm: Literal["pre", "post"] = "pre",
        dropout: float = 0.0,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            MambaBlock(Mamba(width, d_state, d_conv, expand), width, norm, dropout) for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, L, width] -> states [B, L, width]`; what stands at padding is meaningless."""
        for block in self.blocks:
            x = block(x, mask)
        states: Tensor = self.norm(x)
        return states
