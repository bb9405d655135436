"""The whole Mamba mixer, with the norms and the residual of its block, in one pass without gradients.

Only the input and the output are in memory: everything between the projections stays in cache.
"""

# mypy: ignore-errors

from __future__ import annotations

from ctrkit.nn.kernels.common import (
    LOG2_E,
    add,
    blocked,
    first_event,
    is_event,
    kernel,
    normalise,
    project,
    read_state,
    room,
    sigmoid,
    softplus,
    write_state,
    zeros,
)
from ctrkit.nn.kernels.lanes import (
    LANES,
    compiled,
    load,
    load_first,
    spread,
    store,
    store_first,
)
from ctrkit.nn.kernels.scan import advance, step_size

# Steps that go from one projection to the next: what they need fits the first cache, and weights are read
# from the second one not too often. A multiple of four.
STEPS = 16


@compiled
def convolve_steps(entering, weight, mask, row, begin, steps, u):
    """u = silu(convolution) of some steps of a row; the window before them comes first in `entering`."""
    taps = weight.shape[1] - 1
    for i in range(steps):
        if not is_event(mask, row, begin + i):
            entering[taps - 1 + i] = 0.0
    for i in range(steps):
        for block in range(weight.shape[0]):
            channel = block * LANES
            value = load(weight, (block, taps, 0))
            for tap in range(taps):
                value = value + load(weight, (block, tap, 0)) * load(entering, (i + tap, channel))
            value = value * sigmoid(value)
            if not is_event(mask, row, begin + i):
                value = spread(0.0)
            store(u, (i, channel), value)


@compiled
def scan_steps(u, selection, gates, rates, low_rank, skip, steps, deltas, h, y):
    """`ctrkit.nn.kernels.scan.scan` for some steps of a row."""
    rank = low_rank.shape[1] - 1
    for i in range(steps):
        for block in range(h.shape[0]):
            store(deltas, (0, block * LANES), softplus(step_size(selection, low_rank, i, block)))
        for block in range(h.shape[0]):
            channel = block * LANES
            delta, x, gate = load(deltas, (0, channel)), load(u, (i, channel)), load(gates, (i, channel))
            out = advance(h, rates, selection, rank, i, block, delta, delta * x)
            out = out + x * load(skip, (block, 0, 0))
            store(y, (i, channel), out * gate * sigmoid(gate))


@compiled
def read_window(initial, row, window):
    """Fill the rows of `window` with a row of `[B, d_conv - 1, D]`; of `[0, 0, 0]`, with zeros."""
    for i in range(window.shape[0]):
        for channel in range(0, window.shape[1], LANES):
            value = spread(0.0)
            if initial.shape[0] > 0:
                value = load_first(initial, (row, i, channel), initial.shape[2] - channel)
            store(window, (i, channel), value)


@kernel(
    "void(f4[:,:,:], f4[:,:], f4[:,:], f4[:,:], f4[:,:], f4[:,:], f4[:,:], f4[:,:], f4[:,::1], f4[:,::1],"
    " b1[:,:], f4[:,:,:], f4[:,:,:], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], b1, f8, i8, i8)"
)
def mix(
    x, into, convolution, select, low_rank, A, D, out_of, before, after, mask, window, initial,
    y, last_window, final, residual, epsilon, first, last,
):  # fmt: skip
    """y = norm_after(mix(norm_before(x)) + x), for rows of x `[B, L, d_model]`.

    into `[2 D, d_model]`, select `[R + 2 N, D]`, out_of `[d_model, D]`: the projections. convolution
    `[D, d_conv + 1]`, low_rank `[D, R + 1]` and D `[D, 1]` as in the kernels for each pass.

    before and after `[2, d_model]`: weight and bias of the normalisations. residual: whether x is added.

    window `[B, d_conv - 1, D]` and initial `[B, N, D]`: the initial state. last_window and final: the state
    at the end, with the same shapes.

    An empty array means no normalisation, an initial state of zero, or a final state that is not needed.
    """
    length, width = x.shape[1:]
    inner, past = A.shape[0], convolution.shape[1] - 2
    into_convolution, into_gate = blocked(into[:inner], 1.0), blocked(into[inner:], 1.0)
    convolution, select, out_of = blocked(convolution, 1.0), blocked(select, 1.0), blocked(out_of, 1.0)
    rates, low_rank, skip = blocked(A, LOG2_E), blocked(low_rank, 1.0), blocked(D, 1.0)

    events, mixed = room(STEPS, width), room(STEPS, width)
    entering = room(past + STEPS, inner)  # the convolution's window comes before the steps at hand
    gates, u, read = room(STEPS, inner), room(STEPS, inner), room(STEPS, inner)
    selection = room(STEPS, select.shape[0] * LANES)
    deltas = room(1, inner)
    h = zeros(rates.size).reshape(rates.shape)

    for row in range(first, last):
        read_state(initial, row, h)
        read_window(window, row, entering[:past])
        start = first_event(mask, row, length)
        y[row, :start] = 0.0
        for begin in range(start, length, STEPS):
            steps = min(STEPS, length - begin)
            for i in range(steps):
                for column in range(0, width, LANES):
                    store(events, (i, column), load_first(x, (row, begin + i, column), width - column))
                normalise(events, i, before, epsilon)
            project(events, into_convolution, entering[past:], steps)
            project(events, into_gate, gates, steps)
            convolve_steps(entering, convolution, mask, row, begin, steps, u)
            project(u, select, selection, steps)
            scan_steps(u, selection, gates, rates, low_rank, skip, steps, deltas, h, read)
            project(read, out_of, mixed, steps)
            for i in range(steps):
                if residual:
                    for column in range(0, width, LANES):
                        add(mixed, (i, column), load_first(x, (row, begin + i, column), width - column))
                normalise(mixed, i, after, epsilon)
                for column in range(0, width, LANES):
                    store_first(y, (row, begin + i, column), load(mixed, (i, column)), width - column)
            for i in range(past):
                for channel in range(0, inner, LANES):
                    store(entering, (i, channel), load(entering, (steps + i, channel)))
        if last_window.shape[0] > 0:
            for i in range(past):
                for channel in range(0, inner, LANES):
                    store_first(last_window, (row, i, channel), load(entering, (i, channel)), inner - channel)
        if final.shape[0] > 0:
            write_state(h, row, final)
