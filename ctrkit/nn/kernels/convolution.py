"""The causal depthwise convolution of Mamba with its SiLU, forward and backward, in one pass each."""

# mypy: ignore-errors

from __future__ import annotations

from ctrkit.nn.kernels.common import add, blocked, first_event, is_event, kernel, sigmoid, zeros
from ctrkit.nn.kernels.lanes import LANES, compiled, load, load_first, spread, store, store_first


@compiled
def convolve_at(x, mask, weight, start, row, t, block):
    """One step of the convolution in one block of channels, of the events in its window."""
    taps = weight.shape[1] - 1
    channel = block * LANES
    value = load(weight, (block, taps, 0))
    for tap in range(taps):
        source = t - (taps - 1) + tap
        if source >= start and is_event(mask, row, source):
            entering = load_first(x, (row, source, channel), x.shape[2] - channel)
            value = value + load(weight, (block, tap, 0)) * entering
    return value


@kernel("void(f4[:,:,:], f4[:,:], b1[:,:], f4[:,:,::1], i8, i8)")
def convolve(x, weight, mask, y, first, last):
    """y = silu(causal depthwise convolution of x), 0 at padding.

    x, y `[B, L, D]`; weight `[D, taps + 1]`, the bias last.
    """
    length, width = x.shape[1:]
    weight = blocked(weight, 1.0)
    for row in range(first, last):
        start = first_event(mask, row, length)
        y[row, :start] = 0.0
        for t in range(start, length):
            for block in range(weight.shape[0]):
                value = convolve_at(x, mask, weight, start, row, t, block)
                value = value * sigmoid(value)
                if not is_event(mask, row, t):
                    value = spread(0.0)
                store_first(y, (row, t, block * LANES), value, width - block * LANES)


@kernel("void(f4[:,:,:], f4[:,:], b1[:,:], f4[:,:,::1], f4[:,:,::1], f4[:,:,:,::1], i8, i8, i8)")
def convolve_backward(x, weight, mask, grad_y, grad_x, grad_weights, per_sum, first, last):
    """Gradients of `convolve`.

    The gradients of the weights are added to `[sums, blocks, taps + 1, LANES]`, with `per_sum` rows in each
    sum. So the order of additions depends only on the batch.
    """
    length, width = x.shape[1:]
    weight = blocked(weight, 1.0)
    blocks, taps = weight.shape[0], weight.shape[1] - 1
    # dLoss/d(before silu), with zeros after the last step, where no event looks back from.
    slopes = zeros((length + taps) * blocks * LANES).reshape(length + taps, blocks, LANES)
    for row in range(first, last):
        start = first_event(mask, row, length)
        grad_weight = grad_weights[row // per_sum]
        grad_x[row, :start] = 0.0
        for t in range(start, length):
            for block in range(blocks):
                channel = block * LANES
                count = width - channel
                slope = spread(0.0)
                if is_event(mask, row, t):
                    value = convolve_at(x, mask, weight, start, row, t, block)
                    s = sigmoid(value)
                    slope = load_first(grad_y, (row, t, channel), count) * s * (1.0 + value * (1.0 - s))
                store(slopes, (t, block, 0), slope)
                add(grad_weight, (block, taps, 0), slope)
                for tap in range(taps):
                    source = t - (taps - 1) + tap
                    if source >= start and is_event(mask, row, source):
                        entering = load_first(x, (row, source, channel), count)
                        add(grad_weight, (block, tap, 0), slope * entering)
        for t in range(start, length):
            for block in range(blocks):
                grad = spread(0.0)
                if is_event(mask, row, t):
                    for tap in range(taps):
                        slope = load(slopes, (t + taps - 1 - tap, block, 0))
                        grad = grad + load(weight, (block, tap, 0)) * slope
                store_first(grad_x, (row, t, block * LANES), grad, width - block * LANES)
