"""The attention of Deep Interest Network with one hidden layer, forward and backward.

Target t gives event h the weight a = score . relu(W_t t + b + (W_h + W_p diag(t)) h) + score_bias. The matrix
in brackets and W_t t + b are folded once a target into one matrix `[width + 1, hidden]`, and events get a
column of ones. All that is left are products of matrices that fit the first or second cache, three of them
on the way back: activations are computed again, so that nothing of the size of pairs x hidden is in memory.
"""

# mypy: ignore-errors

from __future__ import annotations

from ctrkit.nn.kernels.common import add, blocked, kernel, project, room, zeros
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
    total,
)  # fmt: skip

# Times this, every positive activation is 1 or more, but for those that are all but 0.
_HUGE = 3e38


@compiled
def gather(events, mask, row, present):
    """Write the events of a row, without padding, to present `[L, width + 1]`, ones last: how many."""
    count, width = 0, events.shape[2]
    for t in range(events.shape[1]):
        if mask[row, t]:
            for column in range(0, width, LANES):
                store(present, (count, column), load_first(events, (row, t, column), width - column))
            present[count, width] = 1.0
            count += 1
    return count


@compiled
def fold(target, base, index, of_event, of_pair, folded):
    """The matrix of a target, by channel of the hidden layer: `[blocks, width + 1, LANES]`."""
    width = target.shape[1]
    for block in range(of_event.shape[0]):
        for i in range(width):
            t = load_repeated(target, (index, i))
            store(folded, (block, i, 0), load(of_event, (block, i, 0)) + load(of_pair, (block, i, 0)) * t)
        channel = block * LANES
        store(folded, (block, width, 0), load_first(base, (index, channel), base.shape[1] - channel))


@compiled
def fold_by_width(target, index, of_event, of_pair, folded):
    """The same without W_t t + b, by channel of the events: `[blocks, hidden, LANES]`."""
    for block in range(of_event.shape[0]):
        t = load_first(target, (index, block * LANES), target.shape[1] - block * LANES)
        for j in range(of_event.shape[1]):
            store(folded, (block, j, 0), load(of_event, (block, j, 0)) + load(of_pair, (block, j, 0)) * t)


_WEIGHTS = "f4[:,:], f4[:,:], f4[:,:], f4[:]"


@kernel(f"void(f4[:,:], f4[:,:], f4[:,:,:], b1[:,:], {_WEIGHTS}, f4[:,::1], i8, i8)")
def attend(target, base, events, mask, of_event, of_pair, score, score_bias, reading, first, last):
    """Read histories for the targets `first` to `last`.

    target `[U * K, width]`, the K of a history side by side; base `[U * K, hidden]`: W_t t + b; events
    `[U, L, width]`, mask `[U, L]`; of_event and of_pair `[hidden, width]`: W_h and W_p; score `[hidden, 1]`,
    score_bias `[1]`; reading `[U * K, width]`.
    """
    length, width = events.shape[1:]
    candidates = target.shape[0] // events.shape[0]
    of_event, of_pair, score = blocked(of_event, 1.0), blocked(of_pair, 1.0), blocked(score, 1.0)
    blocks = of_event.shape[0]
    folded = zeros(blocks * (width + 1) * LANES).reshape(blocks, width + 1, LANES)
    present = room(length + 3, width + 1)
    hidden = room(length + 3, blocks * LANES)
    weights = zeros(length)

    row = count = -1
    for index in range(first, last):
        if index // candidates != row:
            row = index // candidates
            count = gather(events, mask, row, present)
        fold(target, base, index, of_event, of_pair, folded)
        project(present, folded, hidden, count)
        for t in range(count):
            weight = spread(0.0)
            for block in range(blocks):
                active = maximum(load(hidden, (t, block * LANES)), 0.0)
                weight = weight + active * load(score, (block, 0, 0))
            weights[t] = total(weight) + score_bias[0]
        for column in range(0, width, LANES):
            value = spread(0.0)
            for t in range(count):
                value = value + load_repeated(weights, (t,)) * load(present, (t, column))
            store_first(reading, (index, column), value, width - column)


@kernel(
    f"void(f4[:,:,:], b1[:,:], f4[:,:], f4[:,:], {_WEIGHTS}, f4[:,:], f4[:,:,::1], f4[:,::1], f4[:,::1],"
    " f4[:,:,::1], i8, i8, i8)"
)
def attend_backward(
    events, mask, target, base, of_event, of_pair, score, score_bias, grad_reading,
    grad_events, grad_target, grad_base, grad_weights, per_sum, first, last,
):  # fmt: skip
    """Gradients of `attend`, of the histories `first` to `last` and all their targets.

    The gradients of the weights are added to grad_weights `[sums, 2 width + 2, blocks * LANES]`: W_h and W_p,
    both transposed, the score, and its bias in the first column. Each sum is over `per_sum` histories.
    """
    length, width = events.shape[1:]
    candidates = target.shape[0] // events.shape[0]
    event_by_width, pair_by_width = blocked(of_event.T, 1.0), blocked(of_pair.T, 1.0)
    of_event, of_pair, score = blocked(of_event, 1.0), blocked(of_pair, 1.0), blocked(score, 1.0)
    blocks, inner = of_event.shape[0], base.shape[1]
    folded = zeros(blocks * (width + 1) * LANES).reshape(blocks, width + 1, LANES)
    folded_by_width = zeros(event_by_width.size).reshape(event_by_width.shape)
    present = room(length + 3, width + 1)
    hidden = room(length + 3, blocks * LANES)  # activations, and then their gradients
    hidden_by_block = hidden.reshape(length + 3, blocks, LANES).transpose(1, 0, 2)
    grad_folded = room(width + 4, blocks * LANES)
    grad_present, grad_row = room(length + 3, width), room(length, width)
    grad_read = room(1, width)
    weights = zeros(length)

    for row in range(first, last):
        sums = grad_weights[row // per_sum]
        count = gather(events, mask, row, present)
        grad_row[:] = 0.0
        for index in range(row * candidates, (row + 1) * candidates):
            for column in range(0, width, LANES):
                store(grad_read, (0, column), load_first(grad_reading, (index, column), width - column))
            fold(target, base, index, of_event, of_pair, folded)
            project(present, folded, hidden, count)
            for t in range(count):
                product = spread(0.0)
                for column in range(0, width, LANES):
                    product = product + load(grad_read, (0, column)) * load(present, (t, column))
                grad_weight = total(product)
                sums[2 * width + 1, 0] += grad_weight
                weight = spread(0.0)
                for block in range(blocks):
                    channel = block * LANES
                    active = maximum(load(hidden, (t, channel)), 0.0)
                    of_active = load(score, (block, 0, 0))
                    weight = weight + active * of_active
                    add(sums, (2 * width, channel), active * grad_weight)
                    slope = minimum(active * _HUGE, 1.0)
                    store(hidden, (t, channel), slope * of_active * grad_weight)
                weights[t] = total(weight) + score_bias[0]

            # Of the folded matrix, and from there of what it was folded from.
            project(present.T, hidden_by_block[:, :count], grad_folded, width + 1)
            for i in range(width):
                grad_t = spread(0.0)
                t = load_repeated(target, (index, i))
                for block in range(blocks):
                    channel = block * LANES
                    grad = load(grad_folded, (i, channel))
                    add(sums, (i, channel), grad)
                    add(sums, (width + i, channel), grad * t)
                    grad_t = grad_t + grad * load(of_pair, (block, i, 0))
                grad_target[index, i] = total(grad_t)
            for channel in range(0, inner, LANES):
                store_first(grad_base, (index, channel), load(grad_folded, (width, channel)), inner - channel)

            fold_by_width(target, index, event_by_width, pair_by_width, folded_by_width)
            project(hidden, folded_by_width, grad_present, count)
            for t in range(count):
                weight = load_repeated(weights, (t,))
                for column in range(0, width, LANES):
                    grad = load(grad_present, (t, column)) + weight * load(grad_read, (0, column))
                    add(grad_row, (t, column), grad)

        count = 0
        for t in range(length):
            if mask[row, t]:
                for column in range(0, width, LANES):
                    store_first(
                        grad_events, (row, t, column), load(grad_row, (count, column)), width - column
                    )
                count += 1
            else:
                grad_events[row, t] = 0.0
