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
    outer: Sequence[Tensor],
    b: Sequence[Tensor],
    norm: Sequence[Tensor],
    exponential: bool,
    epsilon: float,
) -> Tensor:
    """The last state of `ctrkit.nn.cross.CrossNetwork`, for float32 on a CPU.

    Args:
        x0: `[B, H, D]`.
        w: the matrix of each layer, `[D / 2, D]`, or the first of its two factors, `[R, D]`.
        outer: the second factor of each layer, `[D / 2, R]`; empty for none.
        b: of each layer, `[D]`.
        norm: weight and bias of each gate's normalisation, `[2, D / 2]`; empty for none.
        exponential: whether the cross vector multiplies the state, and not the input.
    """
    from ctrkit.nn.kernels.cross import cross_network

    state, layers = x0.new_empty(x0.shape), len(b)
    if not (layers == len(w) and len(outer) in (0, layers) and len(norm) in (0, layers)):
        raise ValueError(
            f"ctrkit::cross_network: {len(w)}, {len(outer)}, {layers} and {len(norm)} of a layer each"
        )
    if layers and not outer and 2 * len(w[0]) != x0.shape[2]:
        raise ValueError(f"ctrkit::cross_network: `w` has {len(w[0])} rows for a width of {x0.shape[2]}")
    inner = _blocks(w)
    factors = _blocks(outer) if outer else torch.zeros(0, 0, 0, 0)
    norms = torch.stack(list(norm)).view(layers, 2, -1) if norm else torch.zeros(layers, 0, 0)
    on_rows(
        cross_network, x0.numel() * inner[..., 0, :].numel(), x0.flatten(0, 1), inner, factors,
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


cross_operator = operator(
    "cross_network", "b: 2N; w: R 2N; outer: N R; norm: 2 N; x0: B H 2N", _cross_network, _cross_network_fake
)
