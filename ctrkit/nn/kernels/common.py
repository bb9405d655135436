"""What all kernels share: how they are compiled, elementary functions, and the layout of their own arrays.

A kernel works on the rows `first` to `last` of a batch, one after the other, so that the data of a row stay
in cache, and on sixteen channels at a time, so that they stay in registers. The caller manages threads.

Letters are those of the Mamba paper: L steps, D channels, N the state size of each channel, R the rank of the
step size. Internal arrays of kernels are blocked: `[blocks, ..., LANES]`, channels last and padded.
"""

# mypy: ignore-errors
# The language of kernels is numba's: types are those of the signatures.

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ctrkit.compiled import kernel as compiled_on_use
from ctrkit.nn.kernels.lanes import (
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
)

LN_2 = math.log(2.0)
LOG2_E = 1.0 / LN_2
# Added to a small float32 and taken away again, 1.5 * 2**23 rounds it to the nearest integer.
_ROUND = 12582912.0

# numba takes a kernel from its cache, beside the kernel's file or in the user's folder, as long as that one
# file is the same. Kernels are made of functions of other files too: their names tell the state of them all.
_SOURCES = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
_VERSION = hashlib.sha256(_SOURCES).hexdigest()[:12]


def kernel(signature: str) -> Callable[[Any], Any]:
    """`ctrkit.compiled.kernel` without shapes: the operators that call these kernels check them."""
    return compiled_on_use(signature, shapes="", version=_VERSION)


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
    """Zeros aligned to a cache line: a vector that crosses two lines takes twice the time."""
    space = np.zeros(size + LANES, np.float32)
    start = (-space.ctypes.data % 64) // 4
    return space[start : start + size]


@compiled
def blocked(x, scale):
    """`[D, K] -> [blocks, K, LANES]`, scaled, with zeros after the last channel."""
    channels, inner = x.shape
    blocks = (channels + LANES - 1) // LANES
    y = zeros(blocks * inner * LANES).reshape(blocks, inner, LANES)
    for block in range(blocks):
        for lane in range(min(LANES, channels - block * LANES)):
            for k in range(inner):
                y[block, k, lane] = x[block * LANES + lane, k] * scale
    return y


@compiled
def add(array, index, value):
    store(array, index, load(array, index) + value)


@compiled
def is_event(mask, row, t):
    return mask.shape[0] == 0 or mask[row, t]


@compiled
def first_event(mask, row, length):
    """The amount of padding to the left of a row. An empty mask, `[0, 0]`, hides nothing."""
    t = 0
    while t < length and not is_event(mask, row, t):
        t += 1
    return t


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
def project(source, weights, target, steps):
    """target = source @ weights: `[steps, K]`, `[blocks, K, LANES]`, `[steps, blocks * LANES]`.

    Four steps and two blocks make eight sums, which is as many as a processor has under way at once. Up to
    three steps more than asked for are computed from what happens to stand there.
    """
    for block in range(0, weights.shape[0], 2):
        other = min(block + 1, weights.shape[0] - 1)
        for t in range(0, steps, 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(0.0)
            for k in range(weights.shape[1]):
                a, b = load(weights, (block, k, 0)), load(weights, (other, k, 0))
                x = load_repeated(source, (t, k))
                a0, b0 = a0 + x * a, b0 + x * b
                x = load_repeated(source, (t + 1, k))
                a1, b1 = a1 + x * a, b1 + x * b
                x = load_repeated(source, (t + 2, k))
                a2, b2 = a2 + x * a, b2 + x * b
                x = load_repeated(source, (t + 3, k))
                a3, b3 = a3 + x * a, b3 + x * b
            for column, s0, s1, s2, s3 in ((block, a0, a1, a2, a3), (other, b0, b1, b2, b3)):
                store(target, (t, column * LANES), s0)
                store(target, (t + 1, column * LANES), s1)
                store(target, (t + 2, column * LANES), s2)
                store(target, (t + 3, column * LANES), s3)


@compiled
def normalise(x, step, norm, epsilon):
    """Layer normalisation of x[step], in place, by weight and bias `[2, width]`; by `[0, 0]`, nothing."""
    width = norm.shape[1]
    added = spread(0.0)
    for column in range(0, width, LANES):
        added = added + load(x, (step, column))
    mean = total(added) / max(width, 1)
    squares = spread(0.0)
    for column in range(0, width, LANES):
        # What fills up the last vector is 0 and stays so.
        store_first(x, (step, column), load(x, (step, column)) - mean, width - column)
        centred = load(x, (step, column))
        squares = squares + centred * centred
    scale = 1.0 / math.sqrt(total(squares) / max(width, 1) + epsilon)
    for column in range(0, width, LANES):
        weight = load_first(norm, (0, column), width - column)
        bias = load_first(norm, (1, column), width - column)
        store(x, (step, column), load(x, (step, column)) * scale * weight + bias)


@compiled
def room(steps, width):
    """Zeros `[steps, width]`, the width filled up to whole vectors."""
    padded = (width + LANES - 1) // LANES * LANES
    return zeros(steps * padded).reshape(steps, padded)
