"""The two passes of Mamba over a sequence, forward and backward, compiled by numba for the CPU.

A kernel works on the rows `first` to `last` of a batch, one after the other, so that what a row needs stays
in cache, and on sixteen channels at a time, so that it stays in registers (`ctrkit.nn.lanes`). Nothing of the
size batch x length x width x N is ever in memory: the way back computes the states again. Threads are the
business of the caller.

Letters are those of the paper: L steps, D channels, N numbers of state a channel, R the rank of the step
size. Arrays that kernels keep for themselves are blocked: `[blocks, ..., LANES]`, channels last and padded.

numba compiles on first use, which takes some seconds, and keeps the result beside this file or in the user's
cache. It is thrown away when this file changes; after a change of `lanes.py` alone, touch this one.
"""

# mypy: ignore-errors
# The language of this file is numba's: types are those of the signatures.

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from ctrkit.nn.lanes import (
    LANES,
    compiled,
    load,
    load_first,
    load_repeated,
    maximum,
    minimum,
    spread,
    store,
    store_first,
    times_power_of_two,
    total,
)  # fmt: skip

LN_2 = math.log(2.0)
LOG2_E = 1.0 / LN_2
# Added to a small float32 and taken away again, 1.5 * 2**23 rounds it to the nearest integer.
_ROUND = 12582912.0

_compiling = threading.Lock()


def _kernel(signature: str) -> Callable[[Any], Any]:
    """Compile for arguments of the given types on first use, from the cache where that is possible."""

    def lazily(function: Any) -> Any:
        ready = []

        @functools.wraps(function)
        def kernel(*arguments: Any) -> None:
            with _compiling:
                if not ready:
                    ready.append(_compile(signature, function))
            ready[0](*arguments)

        return kernel

    return lazily


def _compile(signature: str, function: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(signature, cache=True, **options)(function)
    except Exception:  # no folder can be written, or what lies there is damaged; an error of ours comes again
        return njit(signature, **options)(function)


@compiled
def exp2(x):
    """2**x for x <= 126, to about 2e-7; 2**-126 instead of what is smaller."""
    x = maximum(x, -126.0)
    shifted = x + _ROUND
    x = x - (shifted - _ROUND)
    # The polynomial of degree 5 with the least relative error on [-1/2, 1/2], 7.5e-8.
    p = x * 0.0013276471992602875 + 0.009675541334451691
    p = p * x + 0.055507132734977614
    p = p * x + 0.24022119723840046
    p = p * x + 0.6931469670647605
    p = p * x + 1.0000000716546849
    return times_power_of_two(p, shifted)


@compiled
def sigmoid(x):
    return 1.0 / (1.0 + exp2(minimum(x * -LOG2_E, 126.0)))


@compiled
def softplus(x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + e), with e = exp(-|x|)."""
    e = exp2(maximum(x, -x) * -LOG2_E)
    # log(1 + e) / e by the polynomial with the least relative error on [0, 1], 3e-8.
    p = e * 0.0052326942849555405 - 0.02950523885451967
    p = p * e + 0.07822595199033099
    p = p * e - 0.13663245802604831
    p = p * e + 0.19106006763128416
    p = p * e - 0.24842982213737488
    p = p * e + 0.33319096807425724
    p = p * e - 0.4999949314045984
    p = p * e + 0.999999969879556
    return maximum(x, 0.0) + e * p


@compiled
def zeros(size):
    """Zeros that begin where a line of the cache does: a vector that lies across two takes twice the time."""
    space = np.zeros(size + LANES, np.float32)
    start = (-space.ctypes.data % 64) // 4
    return space[start : start + size]


@compiled
def blocked(x, scale):
    """`[D, K] -> [blocks, K, LANES]`, scaled, with zeros after the last channel."""
    channels, inner = x.shape
    blocks = (channels + LANES - 1) // LANES
    y = zeros(blocks * inner * LANES).reshape(blocks, inner, LANES)
    for d in range(channels):
        for k in range(inner):
            y[d // LANES, k, d % LANES] = x[d, k] * scale
    return y


@compiled
def add(array, index, value):
    store(array, index, load(array, index) + value)


@compiled
def is_event(mask, row, t):
    return mask.shape[0] == 0 or mask[row, t]


@compiled
def first_event(mask, row, length):
    """How much padding stands to the left of a row. An empty mask, `[0, 0]`, hides nothing."""
    t = 0
    while t < length and not is_event(mask, row, t):
        t += 1
    return t


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


@_kernel("void(f4[:,:,:], f4[:,:], b1[:,:], f4[:,:,::1], i8, i8)")
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


@_kernel("void(f4[:,:,:], f4[:,:], b1[:,:], f4[:,:,::1], f4[:,:,::1], f4[:,:,:,::1], i8, i8, i8)")
def convolve_backward(x, weight, mask, grad_y, grad_x, grad_weights, per_sum, first, last):
    """Gradients of `convolve`.

    Those of the weights, `[sums, blocks, taps + 1, LANES]`, are added to what is there, those of `per_sum`
    rows to one sum: which numbers are added in which order depends on the batch alone.
    """
    length, width = x.shape[1:]
    weight = blocked(weight, 1.0)
    taps = weight.shape[1] - 1
    # dLoss/d(before silu), with zeros after the last step, where no event looks back from.
    slopes = zeros((length + taps) * LANES).reshape(length + taps, LANES)
    for row in range(first, last):
        start = first_event(mask, row, length)
        grad_weight = grad_weights[row // per_sum]
        grad_x[row, :start] = 0.0
        for block in range(weight.shape[0]):
            channel = block * LANES
            count = width - channel
            for t in range(start, length):
                slope = spread(0.0)
                if is_event(mask, row, t):
                    value = convolve_at(x, mask, weight, start, row, t, block)
                    s = sigmoid(value)
                    slope = load_first(grad_y, (row, t, channel), count) * s * (1.0 + value * (1.0 - s))
                store(slopes, (t, 0), slope)
                add(grad_weight, (block, taps, 0), slope)
                for tap in range(taps):
                    source = t - (taps - 1) + tap
                    if source >= start and is_event(mask, row, source):
                        entering = load_first(x, (row, source, channel), count)
                        add(grad_weight, (block, tap, 0), slope * entering)
            for t in range(start, length):
                grad = spread(0.0)
                if is_event(mask, row, t):
                    for tap in range(taps):
                        grad = grad + load(weight, (block, tap, 0)) * load(slopes, (t + taps - 1 - tap, 0))
                store_first(grad_x, (row, t, channel), grad, count)


@compiled
def step_size(selection, low_rank, row, t, block):
    """What softplus makes the step size of: low_rank holds the weights `[D, R]` and then the bias."""
    rank = low_rank.shape[1] - 1
    x = load(low_rank, (block, rank, 0))
    for r in range(rank):
        x = x + load(low_rank, (block, r, 0)) * load_repeated(selection, (row, t, r))
    return x


@compiled
def read_state(initial, row, h):
    """Fill h `[blocks, N, LANES]` with a row of the initial states `[B, N, D]`; of `[0, 0, 0]`, zeros."""
    for block in range(h.shape[0]):
        for n in range(h.shape[1]):
            value = spread(0.0)
            if initial.shape[0] > 0:
                value = load_first(initial, (row, n, block * LANES), initial.shape[2] - block * LANES)
            store(h, (block, n, 0), value)


@compiled
def write_state(h, row, final):
    for block in range(h.shape[0]):
        for n in range(h.shape[1]):
            value = load(h, (block, n, 0))
            store_first(final, (row, n, block * LANES), value, final.shape[2] - block * LANES)


@compiled
def copy(source, target):
    for block in range(source.shape[0]):
        for n in range(source.shape[1]):
            store(target, (block, n, 0), load(source, (block, n, 0)))


@compiled
def replay(u, selection, low_rank, rates, row, begin, end, history, decays, steps):
    """The scan of a row from step `begin` to `end`, from the state history[0] on, remembering everything.

    history[i + 1] is the state after step begin + i, decays[i] its decays, and steps[i] the size of the step
    and its slope over what softplus was taken of.
    """
    rank, states = low_rank.shape[1] - 1, rates.shape[1]
    for t in range(begin, end):
        i = t - begin
        for block in range(rates.shape[0]):
            step = step_size(selection, low_rank, row, t, block)
            delta = softplus(step)
            store(steps, (i, block, 0, 0), delta)
            store(steps, (i, block, 1, 0), sigmoid(step))
            entering = delta * load_first(u, (row, t, block * LANES), u.shape[2] - block * LANES)
            for n in range(states):
                decay = exp2(delta * load(rates, (block, n, 0)))
                b = load_repeated(selection, (row, t, rank + n))
                state = decay * load(history, (i, block, n, 0)) + b * entering
                store(decays, (i, block, n, 0), decay)
                store(history, (i + 1, block, n, 0), state)


_SCAN_INPUTS = "f4[:,:,::1], f4[:,:,::1], f4[:,:,:], f4[:,:], f4[:,:], f4[:,:], b1[:,:], f4[:,:,:]"


@_kernel(f"void({_SCAN_INPUTS}, f4[:,:,::1], f4[:,:,::1], i8, i8)")
def scan(u, selection, z, low_rank, A, D, mask, initial, y, final, first, last):
    """The selective scan with its step size, skip and gate; see `ctrkit.nn.scan.selective_scan`.

    low_rank `[D, R + 1]` and D `[D, 1]`: weights and bias of the step size, and of the skip.
    """
    length, width = u.shape[1:]
    states, rank = A.shape[1], low_rank.shape[1] - 1
    rates, low_rank, skip = blocked(A, LOG2_E), blocked(low_rank, 1.0), blocked(D, 1.0)
    h = zeros(rates.size).reshape(rates.shape)
    steps = zeros(h.shape[0] * LANES).reshape(h.shape[0], LANES)
    for row in range(first, last):
        read_state(initial, row, h)
        start = first_event(mask, row, length)
        y[row, :start] = 0.0
        for t in range(start, length):
            # All of them before the first is used: a softplus takes long, but many can be under way at once.
            for block in range(h.shape[0]):
                store(steps, (block, 0), softplus(step_size(selection, low_rank, row, t, block)))
            for block in range(h.shape[0]):
                channel = block * LANES
                count = width - channel
                delta = load(steps, (block, 0))
                entering = load_first(u, (row, t, channel), count)
                out = entering * load(skip, (block, 0, 0))
                entering = entering * delta
                for n in range(states):
                    decay = exp2(delta * load(rates, (block, n, 0)))
                    b = load_repeated(selection, (row, t, rank + n))
                    c = load_repeated(selection, (row, t, rank + states + n))
                    state = decay * load(h, (block, n, 0)) + b * entering
                    store(h, (block, n, 0), state)
                    out = out + c * state
                gate = load_first(z, (row, t, channel), count)
                store_first(y, (row, t, channel), out * gate * sigmoid(gate), count)
        write_state(h, row, final)


@_kernel(
    f"void({_SCAN_INPUTS}, f4[:,:,::1], f4[:,:,:], f4[:,:,::1], f4[:,:,::1], f4[:,:,:], f4[:,:,::1],"
    " f4[:,:,:,::1], i8, i8, i8, i8)"
)
def scan_backward(
    u, selection, z, low_rank, A, D, mask, initial, grad_y, grad_final,
    grad_u, grad_selection, grad_z, grad_initial, grad_weights, per_sum, chunk, first, last,
):  # fmt: skip
    """Gradients of `scan`.

    Those of the weights, `[sums, blocks, N + R + 2, LANES]`, of A, of `low_rank` and of D, are added up as in
    `convolve_backward`. The states of at most `chunk` steps are kept at a time.
    """
    length, width = u.shape[1:]
    states, rank = A.shape[1], low_rank.shape[1] - 1
    rates, low_rank, skip = blocked(A, LOG2_E), blocked(low_rank, 1.0), blocked(D, 1.0)
    blocks = rates.shape[0]

    # The way back needs the states of the way there. They are computed again, in chunks of steps whose
    # history fits the cache: the state before each chunk is kept from a first way through the row.
    chunk = max(1, min(chunk, length))
    before = zeros((length // chunk + 1) * rates.size).reshape(length // chunk + 1, *rates.shape)
    history = zeros((chunk + 1) * rates.size).reshape(chunk + 1, *rates.shape)
    decays = zeros(chunk * rates.size).reshape(chunk, *rates.shape)
    steps = zeros(chunk * blocks * 2 * LANES).reshape(chunk, blocks, 2, LANES)
    grad_h = zeros(rates.size).reshape(rates.shape)
    grad_selected = zeros(selection.shape[2] * LANES).reshape(selection.shape[2], LANES)

    for row in range(first, last):
        start = first_event(mask, row, length)
        grad_u[row, :start] = 0.0
        grad_z[row, :start] = 0.0
        grad_selection[row, :start] = 0.0
        read_state(initial, row, history[0])
        read_state(grad_final, row, grad_h)
        grad_weight = grad_weights[row // per_sum]
        chunks = (length - start + chunk - 1) // chunk
        for number in range(chunks):
            begin = start + number * chunk
            copy(history[0], before[number])
            end = min(begin + chunk, length)
            replay(u, selection, low_rank, rates, row, begin, end, history, decays, steps)
            copy(history[chunk], history[0])
        for number in range(chunks - 1, -1, -1):
            begin = start + number * chunk
            end = min(begin + chunk, length)
            copy(before[number], history[0])
            if number < chunks - 1:
                replay(u, selection, low_rank, rates, row, begin, end, history, decays, steps)
            for t in range(end - 1, begin - 1, -1):
                for column in range(grad_selected.shape[0]):
                    store(grad_selected, (column, 0), spread(0.0))
                for block in range(blocks):
                    channel = block * LANES
                    count = width - channel
                    i = t - begin
                    delta = load(steps, (i, block, 0, 0))
                    x = load_first(u, (row, t, channel), count)
                    gate = load_first(z, (row, t, channel), count)
                    s = sigmoid(gate)
                    grad = load_first(grad_y, (row, t, channel), count)
                    grad_out = grad * gate * s
                    out = x * load(skip, (block, 0, 0))
                    entering = x * delta
                    grad_entering = spread(0.0)
                    grad_exponent = spread(0.0)
                    for n in range(states):
                        b = load_repeated(selection, (row, t, rank + n))
                        c = load_repeated(selection, (row, t, rank + states + n))
                        h = load(history, (i + 1, block, n, 0))
                        h_before = load(history, (i, block, n, 0))
                        decay = load(decays, (i, block, n, 0))
                        rate = load(rates, (block, n, 0))
                        grad_b = load(grad_selected, (rank + n, 0))
                        grad_c = load(grad_selected, (rank + states + n, 0))
                        grad_rate = load(grad_weight, (block, n, 0))
                        g = load(grad_h, (block, n, 0)) + grad_out * c
                        out = out + c * h
                        grad_entering = grad_entering + g * b
                        store(grad_selected, (rank + n, 0), grad_b + g * entering)
                        store(grad_selected, (rank + states + n, 0), grad_c + grad_out * h)
                        # From h_t = decay h_{t-1} + ..., decay = exp(delta A)
                        g = g * decay
                        store(grad_h, (block, n, 0), g)
                        g = g * h_before
                        store(grad_weight, (block, n, 0), grad_rate + g * delta)
                        grad_exponent = grad_exponent + g * rate
                    grad_gate = grad * out * s * (1.0 + gate * (1.0 - s))
                    store_first(grad_z, (row, t, channel), grad_gate, count)
                    grad_x = grad_out * load(skip, (block, 0, 0)) + grad_entering * delta
                    store_first(grad_u, (row, t, channel), grad_x, count)
                    grad_step = grad_entering * x + grad_exponent * LN_2
                    grad_step = grad_step * load(steps, (i, block, 1, 0))
                    for r in range(rank):
                        dt = load_repeated(selection, (row, t, r))
                        add(grad_selected, (r, 0), grad_step * load(low_rank, (block, r, 0)))
                        add(grad_weight, (block, states + r, 0), grad_step * dt)
                    add(grad_weight, (block, states + rank, 0), grad_step)
                    add(grad_weight, (block, states + rank + 1, 0), grad_out * x)
                for column in range(grad_selected.shape[0]):
                    grad_selection[row, t, column] = total(load(grad_selected, (column, 0)))
        if initial.shape[0] > 0:
            write_state(grad_h, row, grad_initial)
