"""A whole cross network of DCNv3 in one pass for where no gradient is wanted.

Some rows go through all layers before the next ones enter, so that their states stay in cache.
"""

# mypy: ignore-errors

from __future__ import annotations

from ctrkit.nn.kernels.common import kernel, normalise, project, room
from ctrkit.nn.kernels.lanes import LANES, compiled, load, load_first, maximum, store, store_first

# Rows that go through the layers together: the more, the less often weights are read; a multiple of four.
ROWS = 32


@compiled
def cross(x0, x, h, gate, row, bias, norm, epsilon, exponential):
    """x[row] = (x or x0) * ([h | h * m] + bias) + x with m = relu(LN(h))."""
    half = bias.shape[1]
    for column in range(0, half, LANES):
        store(gate, (0, column), load(h, (row, column)))
    normalise(gate, 0, norm, epsilon)
    for column in range(0, half, LANES):
        left = half - column
        c = load(h, (row, column))
        gated = c * maximum(load(gate, (0, column)), 0.0)
        c, gated = c + load_first(bias, (0, column), left), gated + load_first(bias, (1, column), left)
        for start, value in ((column, c), (half + column, gated)):
            state = load_first(x, (row, start), left)
            factor = state if exponential else load_first(x0, (row, start), left)
            store_first(x, (row, start), factor * value + state, left)


@kernel("void(f4[:,:], f4[:,:,:,:], f4[:,:,:,:], f4[:,:,:], f4[:,:,:], b1, f8, f4[:,::1], i8, i8)")
def cross_network(x0, w, outer, bias, norm, exponential, epsilon, crossed, first, last):
    """crossed = the last state of the rows `first` to `last`.

    x0 and crossed `[B, D]`; w `[layers, blocks, D, LANES]`, or the inner factor of each matrix, and then
    outer `[layers, blocks, rank, LANES]`, else `[0, 0, 0, 0]`; bias `[layers, 2, D / 2]`; norm: weight and
    bias of LN, `[layers, 2, D / 2]`, `[layers, 0, 0]` for none.
    """
    width, half = x0.shape[1], bias.shape[2]
    start, x, h = room(ROWS, width), room(ROWS, width), room(ROWS, half)
    inner, gate = room(ROWS, outer.shape[2]), room(1, half)
    for begin in range(first, last, ROWS):
        count = min(ROWS, last - begin)
        start[:count, :width] = x0[begin : begin + count]
        x[:count, :width] = x0[begin : begin + count]
        for layer in range(w.shape[0]):
            if outer.shape[0]:
                project(x, w[layer], inner, count)
                project(inner, outer[layer], h, count)
            else:
                project(x, w[layer], h, count)
            for row in range(count):
                cross(start, x, h, gate, row, bias[layer], norm[layer], epsilon, exponential)
        crossed[begin : begin + count] = x[:count, :width]
