"""Loops over rows that NumPy cannot express (see `ctrkit.compiled`)."""

from __future__ import annotations

import math

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.compiled import kernel


@kernel(
    "int64(f8[::1], f8[::1], f8[::1], f8[::1], f8[::1])",
    "positive: P; negative: N; distinct: P+N; positives: P+N; mass: P+N",
)
def merge(positive: Floats, negative: Floats, distinct: Floats, positives: Floats, mass: Floats) -> int:
    """Merge the sorted logits of positives and of negatives, all of weight 1, and pool equal ones.

    Fills `distinct`, `positives` and `mass`, which have room for every row; returns the number filled.
    """
    i, j, k = 0, 0, 0
    while i < positive.shape[0] or j < negative.shape[0]:
        if j == negative.shape[0] or (i < positive.shape[0] and positive[i] <= negative[j]):
            value, label = positive[i], 1.0
            i += 1
        else:
            value, label = negative[j], 0.0
            j += 1
        if k > 0 and distinct[k - 1] == value:
            positives[k - 1] += label
            mass[k - 1] += 1.0
        else:
            distinct[k], positives[k], mass[k] = value, label, 1.0
            k += 1
    return k


@kernel(
    "int64(f8[::1], f8[::1], f8[::1], i8[::1], f8[::1], f8[::1], f8[::1])",
    "z: N; y: N; w: N; order: N; distinct: N; positives: N; mass: N",
)
def gather(
    z: Floats,
    y: Floats,
    w: Floats,
    order: Integers,
    distinct: Floats,
    positives: Floats,
    mass: Floats,
) -> int:
    """Pool rows of equal logit, given their rising `order`; fills and returns the same as `merge`."""
    k = 0
    for row in order:
        if k > 0 and distinct[k - 1] == z[row]:
            positives[k - 1] += w[row] * y[row]
            mass[k - 1] += w[row]
        else:
            distinct[k], positives[k], mass[k] = z[row], w[row] * y[row], w[row]
            k += 1
    return k


@kernel("int64(f8[::1], f8[::1], i8[::1], f8[::1])", "positives: K; mass: K; starts: K; shares: K")
def pool(positives: Floats, mass: Floats, starts: Integers, shares: Floats) -> int:
    """Pool adjacent violators (Ayer et al. 1955): the rising shares nearest to positives / mass.

    Fills the start and the share of each block; returns the number of blocks. O(K).
    """
    sums = np.empty(positives.shape[0])
    masses = np.empty(positives.shape[0])
    k = 0
    for i in range(positives.shape[0]):
        start, total, weight = i, positives[i], mass[i]
        share = total / weight
        while k > 0 and shares[k - 1] >= share:
            k -= 1
            start = starts[k]
            total += sums[k]
            weight += masses[k]
            share = total / weight
        starts[k], sums[k], masses[k], shares[k] = start, total, weight, share
        k += 1
    return k


@kernel("void(f8[::1], f8[::1], f8[::1], f8[::1], f8[:, ::1])", "z: N; y: N; w: N; edges: B; found: B+1 3")
def sum_by_bin(z: Floats, y: Floats, w: Floats, edges: Floats, found: Floats) -> None:
    """Add up weight, weight of positives, and weight times logit by bin: `found` is [B, 3].

    Bin b holds edges[b - 1] < logit <= edges[b], with B - 1 rising edges.
    """
    for i in range(z.shape[0]):
        low, count = 0, edges.shape[0]
        while count > 0:  # the first edge that is not below the logit
            half = count // 2
            if edges[low + half] < z[i]:
                low += half + 1
                count -= half + 1
            else:
                count = half
        found[low, 0] += w[i]
        found[low, 1] += w[i] * y[i]
        found[low, 2] += w[i] * z[i]


@kernel("void(f8[::1], f8[::1], f8[::1])", "positives: K; mass: K; shares: K")
def shares_with_one_more_positive(positives: Floats, mass: Floats, shares: Floats) -> None:
    """The isotonic share at each of K rising places after one positive row of weight 1 is added there. O(K).

    Vovk, Petej & Fedorova (2015, section 3). With P_i the cumulative (mass, positives) of the first i places,
    a row added at place i moves P_0 .. P_{i-1} by (-1, -1), and the share is the slope of the greatest convex
    minorant of all points there: of its edge from a moved point to one that has not moved. From i to i + 1
    only P_i moves. The stack holds the minorant's corners from that edge's left end on, leftmost on top;
    moved points further left have no part in later edges, whose slopes are not smaller.
    """
    count = positives.shape[0]
    x, y = np.empty(count + 1), np.empty(count + 1)
    x[0], y[0] = -1.0, -1.0
    across, up = 0.0, 0.0
    for i in range(count):
        across += mass[i]
        up += positives[i]
        x[i + 1], y[i + 1] = across, up
    stack = np.empty(count + 1, np.int64)
    top = -1
    # The minorant of P_0 (moved) and all others, from the right, so that its leftmost corner is on top.
    for i in range(count, -1, -1):
        while top >= 1:
            a, b = stack[top], stack[top - 1]
            if (y[a] - y[i]) * (x[b] - x[a]) >= (y[b] - y[a]) * (x[a] - x[i]):
                top -= 1
            else:
                break
        top += 1
        stack[top] = i
    for i in range(1, count + 1):
        a, b = stack[top], stack[top - 1]
        slope = (y[b] - y[a]) / (x[b] - x[a])
        shares[i - 1] = slope
        x[i] -= 1.0
        y[i] -= 1.0
        if b != i and y[i] - y[a] >= slope * (x[i] - x[a]):
            continue  # on or above the edge: no corner
        top -= 1
        while top >= 1:
            a, b = stack[top], stack[top - 1]
            if (y[a] - y[i]) * (x[b] - x[a]) >= (y[b] - y[a]) * (x[a] - x[i]):
                top -= 1
            else:
                break
        if top >= 0 and stack[top] <= i:
            top -= 1
        top += 1
        stack[top] = i


@kernel(
    "void(f8[::1], f8[::1], f8[::1], i8[::1], f8[::1], f8[::1], f8, f8, f8[:, ::1])",
    "t: N; y: N; w: N; segment: N; shift: S; tilt: S; found: S 5",
)
def sum_by_segment(
    t: Floats,
    y: Floats,
    w: Floats,
    segment: Integers,
    shift: Floats,
    tilt: Floats,
    middle: float,
    width: float,
    found: Floats,
) -> None:
    """Scores and information of each segment's shift and tilt at log-odds t + shift + tilt · x.

    x = (t - middle) / width. Adds to `found` [S, 5]: Σ d, Σ d·x, Σ v, Σ v·x and Σ v·x², where d = w (y - p)
    and v = w p (1 - p).
    """
    for i in range(t.shape[0]):
        s = segment[i]
        x = (t[i] - middle) / width
        z = t[i] + shift[s] + tilt[s] * x
        fallen = math.exp(-abs(z))
        p = 1.0 / (1.0 + fallen)
        if z < 0.0:
            p = fallen * p
        d = w[i] * (y[i] - p)
        v = w[i] * fallen / ((1.0 + fallen) * (1.0 + fallen))
        found[s, 0] += d
        found[s, 1] += d * x
        found[s, 2] += v
        found[s, 3] += v * x
        found[s, 4] += v * x * x


@kernel(
    "void(f8[::1], f8[::1], f8[::1], f8, f8, f8, f8, f8[::1])",
    "column: N; target: N; w: N; found: 6",
    reorder=True,
)
def sum_logistic(
    column: Floats,
    target: Floats,
    w: Floats,
    scale: float,
    shift: float,
    slope: float,
    intercept: float,
    found: Floats,
) -> None:
    """Loss, gradient and Hessian of a logistic regression on one column, in one pass.

    At x = scale · column - shift and log-odds t = slope · x + intercept, adds to `found` [6]: the loss
    Σ w (log(1 + e^t) - target · t), Σ d·x, Σ d, Σ v·x², Σ v·x and Σ v, where d = w (p - target) and
    v = w p (1 - p). Rows are summed in blocks of 512, so that rounding errors stay small. e^u and log(1 + e)
    are written out as series, to full precision, so that the compiler works on several rows at once.
    """
    for first in range(0, column.shape[0], 512):
        loss, d0, d1, v0, v1, v2 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(first, min(first + 512, column.shape[0])):
            x = column[i] * scale - shift
            t = slope * x + intercept
            # e = e^u at u = -|t|: 2^k e^r with |r| <= ln(2) / 2, and e^r by Taylor's series of degree 13.
            u = max(-abs(t), -700.0)
            k = np.floor(u * 1.4426950408889634 + 0.5)
            r = u - k * 0.6931471803691238 - k * 1.9082149292705877e-10  # ln(2) in two parts
            e = r / 6227020800.0 + 1.0 / 479001600.0
            e = e * r + 1.0 / 39916800.0
            e = e * r + 1.0 / 3628800.0
            e = e * r + 1.0 / 362880.0
            e = e * r + 1.0 / 40320.0
            e = e * r + 1.0 / 5040.0
            e = e * r + 1.0 / 720.0
            e = e * r + 1.0 / 120.0
            e = e * r + 1.0 / 24.0
            e = e * r + 1.0 / 6.0
            e = e * r + 0.5
            e = e * r + 1.0
            e = e * r + 1.0
            e = e * np.int64((np.int64(k) + 1023) << 52).view(np.float64)
            # log(1 + e) = 2 (c + c³/3 + c⁵/5 + ...) at c = e / (2 + e) <= 1/3.
            c = e / (2.0 + e)
            s = c * c
            log = s / 35.0 + 1.0 / 33.0
            log = log * s + 1.0 / 31.0
            log = log * s + 1.0 / 29.0
            log = log * s + 1.0 / 27.0
            log = log * s + 1.0 / 25.0
            log = log * s + 1.0 / 23.0
            log = log * s + 1.0 / 21.0
            log = log * s + 1.0 / 19.0
            log = log * s + 1.0 / 17.0
            log = log * s + 1.0 / 15.0
            log = log * s + 1.0 / 13.0
            log = log * s + 1.0 / 11.0
            log = log * s + 1.0 / 9.0
            log = log * s + 1.0 / 7.0
            log = log * s + 1.0 / 5.0
            log = log * s + 1.0 / 3.0
            log = log * s + 1.0
            share = 1.0 / (1.0 + e)
            p = share if t >= 0.0 else e * share
            d = w[i] * (p - target[i])
            v = w[i] * e * share * share
            loss += w[i] * (max(t, 0.0) - target[i] * t + 2.0 * c * log)
            d0 += d
            d1 += d * x
            v0 += v
            v1 += v * x
            v2 += v * x * x
        found[0] += loss
        found[1] += d1
        found[2] += d0
        found[3] += v2
        found[4] += v1
        found[5] += v0
