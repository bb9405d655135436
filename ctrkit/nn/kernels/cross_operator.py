"""A cross network of DCNv3 without gradients as an operator of torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ctrkit.nn.kernels.operators import on_rows, operator


def _cross_network(
    x0: Tensor,
    w: Sequence[Tensor],
    b: Sequence[Tensor],
    norm: Sequence[Tensor],
    exponential: bool,
    epsilon: float,
) -> Tensor:
    """The last state of `ctrkit.nn.cross.CrossNetwork`, for float32 on a CPU.

    Args:
        x0: `[B, H, D]`.
        w: the matrix of each layer, or its two factors one after the other, in the order of their use.
        b: of each layer, `[D]`.
        norm: weight and bias of each gate's normalisation, `[D / 2]`, one after the other; empty for none.
        exponential: whether the cross vector multiplies the state, and not the input.
    """
    from ctrkit.nn.kernels.cross import cross_network

    state = x0.new_empty(x0.shape)
    layers, low_rank = len(b), len(w) > len(b)
    inner = _blocks(w[::2] if low_rank else w)
    outer = _blocks(w[1::2]) if low_rank else torch.zeros(0, 0, 0, 0)
    norms = torch.stack(list(norm)).view(layers, 2, -1) if norm else torch.zeros(layers, 0, 0)
    on_rows(
        cross_network, x0.numel() * inner[..., 0, :].numel(), x0.flatten(0, 1), inner, outer,
        torch.stack(list(b)).view(layers, 2, -1), norms, exponential, epsilon, state.flatten(0, 1),
    )  # fmt: skip
    return state


def _blocks(matrices: Sequence[Tensor]) -> Tensor:
    """`[outputs, inputs]` each, as `[layers, blocks, inputs, LANES]`, with zeros after the last output."""
    from ctrkit.nn.kernels.lanes import LANES

    stacked = torch.stack(list(matrices))
    layers, outputs, inputs = stacked.shape
    padded = F.pad(stacked, (0, 0, 0, -outputs % LANES))
    return padded.view(layers, -1, LANES, inputs).transpose(2, 3).contiguous()


def _cross_network_fake(x0: Tensor, *others: object) -> Tensor:
    return x0.new_empty(x0.shape)


cross_operator = operator("cross_network", _cross_network, _cross_network_fake)
