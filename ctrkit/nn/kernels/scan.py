"""The selective scan of Mamba with its step size, skip and gate, forward and backward, in one pass each.

Nothing of the size batch x length x width x N is ever in memory: the way back computes the states again.
"""

# mypy: ignore-errors

from __future__ import annotations

from ctrkit.nn.kernels.common import (
    LN_2,
    LOG2_E,
    add,
    blocked,
    copy,
    exp2,
    first_event,
    kernel,
    read_state,
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
    load_repeated,
    spread,
    store,
    store_first,
    total,
)


@compiled
def step_size(selection, low_rank, t, block):
    """The input of softplus, which gives the step size.

    selection `[L, R + 2 N]` is of one row; low_rank `[blocks, R + 1, LANES]` has the bias last.
    """
    rank = low_rank.shape[1] - 1
    x = load(low_rank, (block, rank, 0))
    for r in range(rank):
        x = x + load(low_rank, (block, r, 0)) * load_repeated(selection, (t, r))
    return x


@compiled
def advance(h, rates, selection, rank, t, block, delta, entering):
    """Advance the state of a block of channels by one step, and read it: C h."""
    states = rates.shape[1]
    out = spread(0.0)
    for n in range(states):
        decay = exp2(delta * load(rates, (block, n, 0)))
        b = load_repeated(selection, (t, rank + n))
        c = load_repeated(selection, (t, rank + states + n))
        state = decay * load(h, (block, n, 0)) + b * entering
        store(h, (block, n, 0), state)
        out = out + c * state
    return out


@compiled
def retreat(
    history, decays, i, rates, selection, rank, t, block, delta, entering, grad_out,
    grad_h, grad_rates, grad_selection,
):  # fmt: skip
    """The backward pass of `advance` for step i of `replay`, given the gradient of its output.

    It takes grad_h one step back, and adds to the gradients of the rates and, lane by lane, of the selection.

    Returns:
        The output of `advance`, the gradient of `entering`, and the gradient of delta log2(e) in the decays.
    """
    states = rates.shape[1]
    out, grad_entering, grad_exponent = spread(0.0), spread(0.0), spread(0.0)
    for n in range(states):
        b = load_repeated(selection, (t, rank + n))
        c = load_repeated(selection, (t, rank + states + n))
        # All loads come before all stores: the processor would mistake one for the other where both have the
        # same offset in a page.
        before, after = load(history, (i, block, n, 0)), load(history, (i + 1, block, n, 0))
        decay, rate = load(decays, (i, block, n, 0)), load(rates, (block, n, 0))
        grad_b, grad_c = load(grad_selection, (rank + n, 0)), load(grad_selection, (rank + states + n, 0))
        grad_rate = load(grad_rates, (block, n, 0))
        grad = load(grad_h, (block, n, 0)) + grad_out * c
        out = out + c * after
        grad_entering = grad_entering + grad * b
        store(grad_selection, (rank + n, 0), grad_b + grad * entering)
        store(grad_selection, (rank + states + n, 0), grad_c + grad_out * after)
        grad = grad * decay
        store(grad_h, (block, n, 0), grad)
        grad = grad * before
        store(grad_rates, (block, n, 0), grad_rate + grad * delta)
        grad_exponent = grad_exponent + grad * rate
    return out, grad_entering, grad_exponent


@compiled
def replay(u, selection, low_rank, rates, row, begin, end, history, decays, steps):
    """The scan of a row from step `begin` to `end`, starting at the state history[0], with all states stored.

    history[i + 1] is the state after step begin + i, decays[i] its decays, and steps[i] the size of the step
    and its slope over what softplus was taken of.
    """
    rank, states = low_rank.shape[1] - 1, rates.shape[1]
    for t in range(begin, end):
        i = t - begin
        for block in range(rates.shape[0]):
            step = step_size(selection, low_rank, t, block)
            delta = softplus(step)
            store(steps, (i, block, 0, 0), delta)
            store(steps, (i, block, 1, 0), sigmoid(step))
            entering = delta * load_first(u, (row, t, block * LANES), u.shape[2] - block * LANES)
            for n in range(states):
                decay = exp2(delta * load(rates, (block, n, 0)))
                b = load_repeated(selection, (t, rank + n))
                state = decay * load(history, (i, block, n, 0)) + b * entering
                store(decays, (i, block, n, 0), decay)
                store(history, (i + 1, block, n, 0), state)


_SCAN_INPUTS = "f4[:,:,::1], f4[:,:,::1], f4[:,:,:], f4[:,:], f4[:,:], f4[:,:], b1[:,:], f4[:,:,:]"


@kernel(f"void({_SCAN_INPUTS}, f4[:,:,::1], f4[:,:,::1], i8, i8)")
def scan(u, selection, z, low_rank, A, D, mask, initial, y, final, first, last):
    """The selective scan with its step size, skip and gate (see `ctrkit.nn.scan.selective_scan`).

    low_rank `[D, R + 1]` and D `[D, 1]`: weights and bias of the step size, and of the skip.
    """
    length, width = u.shape[1:]
    rank = low_rank.shape[1] - 1
    rates, low_rank, skip = blocked(A, LOG2_E), blocked(low_rank, 1.0), blocked(D, 1.0)
    h = zeros(rates.size).reshape(rates.shape)
    steps = zeros(h.shape[0] * LANES).reshape(h.shape[0], LANES)
    for row in range(first, last):
        read_state(initial, row, h)
        start = first_event(mask, row, length)
        y[row, :start] = 0.0
        selected = selection[row]
        for t in range(start, length):
            # All of them before the first is used: a softplus takes long, but many can be under way at once.
            for block in range(h.shape[0]):
                store(steps, (block, 0), softplus(step_size(selected, low_rank, t, block)))
            for block in range(h.shape[0]):
                channel = block * LANES
                count = width - channel
                delta = load(steps, (block, 0))
                x = load_first(u, (row, t, channel), count)
                out = advance(h, rates, selected, rank, t, block, delta, delta * x)
                out = out + x * load(skip, (block, 0, 0))
                gate = load_first(z, (row, t, channel), count)
                store_first(y, (row, t, channel), out * gate * sigmoid(gate), count)
        write_state(h, row, final)


@kernel(
    f"void({_SCAN_INPUTS}, f4[:,:,::1], f4[:,:,:], f4[:,:,::1], f4[:,:,::1], f4[:,:,:], f4[:,:,::1],"
    " f4[:,:,:,::1], i8, i8, i8, i8)"
)
def scan_backward(
    u, selection, z, low_rank, A, D, mask, initial, grad_y, grad_final,
    grad_u, grad_selection, grad_z, grad_initial, grad_weights, per_sum, chunk, first, last,
):  # fmt: skip
    """Gradients of `scan`.

    The gradients of the weights A, `low_rank` and D, `[sums, blocks, N + R + 2, LANES]`, are summed as in
    `convolve_backward`. The states of at most `chunk` steps are kept at a time.
    """
    length, width = u.shape[1:]
    states, rank = A.shape[1], low_rank.shape[1] - 1
    rates, low_rank, skip = blocked(A, LOG2_E), blocked(low_rank, 1.0), blocked(D, 1.0)
    blocks = rates.shape[0]

    # The backward pass needs the states of the forward pass. They are computed again, in chunks of steps
    # whose history fits the cache. A first pass through the row keeps the state before each chunk.
    chunk = max(1, min(chunk, length))
    before = zeros((length // chunk + 1) * rates.size).reshape(length // chunk + 1, *rates.shape)
    history = zeros((chunk + 1) * rates.size).reshape(chunk + 1, *rates.shape)
    decays = zeros(chunk * rates.size).reshape(chunk, *rates.shape)
    steps = zeros(chunk * blocks * 2 * LANES).reshape(chunk, blocks, 2, LANES)
    grad_h = zeros(rates.size).reshape(rates.shape)
    grad_selected = zeros(selection.shape[2] * LANES).reshape(selection.shape[2], LANES)

    for row in range(first, last):
        start = first_event(mask, row, length)
        selected = selection[row]
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
            replay(u, selected, low_rank, rates, row, begin, end, history, decays, steps)
            copy(history[chunk], history[0])
        for number in range(chunks - 1, -1, -1):
            begin = start + number * chunk
            end = min(begin + chunk, length)
            copy(before[number], history[0])
            if number < chunks - 1:
                replay(u, selected, low_rank, rates, row, begin, end, history, decays, steps)
            for t in range(end - 1, begin - 1, -1):
                i = t - begin
                for column in range(grad_selected.shape[0]):
                    store(grad_selected, (column, 0), spread(0.0))
                for block in range(blocks):
                    channel = block * LANES
                    count = width - channel
                    delta, slope = load(steps, (i, block, 0, 0)), load(steps, (i, block, 1, 0))
                    x = load_first(u, (row, t, channel), count)
                    gate = load_first(z, (row, t, channel), count)
                    grad = load_first(grad_y, (row, t, channel), count)
                    s = sigmoid(gate)
                    grad_out = grad * gate * s
                    out, grad_entering, grad_exponent = retreat(
                        history, decays, i, rates, selected, rank, t, block,
                        delta, x * delta, grad_out, grad_h, grad_weight, grad_selected,
                    )  # fmt: skip
                    scale = load(skip, (block, 0, 0))
                    grad = grad * (out + x * scale) * s * (1.0 + gate * (1.0 - s))
                    store_first(grad_z, (row, t, channel), grad, count)
                    grad = grad_out * scale + grad_entering * delta
                    store_first(grad_u, (row, t, channel), grad, count)
                    grad = (grad_entering * x + grad_exponent * LN_2) * slope
                    for r in range(rank):
                        add(grad_selected, (r, 0), grad * load(low_rank, (block, r, 0)))
                        add(grad_weight, (block, states + r, 0), grad * load_repeated(selected, (t, r)))
                    add(grad_weight, (block, states + rank, 0), grad)
                    add(grad_weight, (block, states + rank + 1, 0), grad_out * x)
                for column in range(grad_selected.shape[0]):
                    grad_selection[row, t, column] = total(load(grad_selected, (column, 0)))
        if initial.shape[0] > 0:
            write_state(grad_h, row, grad_initial)
