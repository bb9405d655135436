from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from ctrkit.nn.augru import AUGRU
from ctrkit.nn.pooling import expand_shared, interleave
from ctrkit.nn.pooling.states import LastState, MeanState


def histories(rows: int, length: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States of histories of 0, 1, 2, ... events, with numbers at padding too."""
    mask = torch.arange(length - 1, -1, -1) < (torch.arange(rows) % (length + 1))[:, None]
    return torch.randn(rows, length, width, dtype=torch.float64), mask


def test_last_state_and_mean() -> None:
    states, mask = histories(6, 5, 4)
    rows = zip(states.numpy(), mask.numpy(), strict=True)
    expected = np.array([s[m].mean(0) if m.any() else np.zeros(4) for s, m in rows])
    mean, last = (pool(states[:, :2], states, mask) for pool in (MeanState(), LastState()))
    assert mean.shape == last.shape == (6, 2, 4)  # of two targets
    for target in range(2):
        np.testing.assert_allclose(mean[:, target].numpy(), expected, atol=1e-12)
        assert torch.equal(last[1:, target], states[1:, 4])
        assert torch.equal(last[0, target], torch.zeros(4, dtype=torch.float64))


def test_rows_of_candidates() -> None:
    shared, own = torch.randn(2, 4), torch.randn(2, 3, 4)
    rows = interleave([expand_shared(shared, 3), own])
    for user, candidate in np.ndindex(2, 3):
        assert torch.equal(rows[3 * user + candidate], torch.stack([shared[user], own[user, candidate]]))


def brute_force(augru: AUGRU, target: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The formulas of the paper for one history and one target."""
    weights = {name: p.detach().numpy() for name, p in augru.named_parameters()}
    W_r, W_u, W_n = np.split(weights["of_state.weight"], 3)
    b_r, b_u, b_n = np.split(weights["of_state.bias"], 3)
    U_r, U_u, U_n = np.split(weights["of_interest.weight"], 3)
    h = np.zeros_like(target)
    if not len(states):
        return h
    attention = scipy.special.softmax([target @ weights["attention.weight"] @ i for i in states])
    for a, i in zip(attention, states, strict=True):
        reset = scipy.special.expit(W_r @ i + U_r @ h + b_r)
        update = a * scipy.special.expit(W_u @ i + U_u @ h + b_u)
        h = (1 - update) * h + update * np.tanh(W_n @ i + reset * (U_n @ h) + b_n)
    return h


def test_augru_equals_its_formulas() -> None:
    torch.manual_seed(0)
    augru, (states, mask) = AUGRU(4).double(), histories(6, 5, 4)
    targets = torch.randn(6, 3, 4, dtype=torch.float64)
    interests = augru(targets, states, mask)
    assert torch.equal(interests[0], torch.zeros_like(interests[0]))
    for row, k in np.ndindex(6, 3):
        expected = brute_force(augru, targets[row, k].numpy(), states[row][mask[row]].numpy())
        np.testing.assert_allclose(interests[row, k].detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    shares = augru.weights(targets, states, mask).sum(-1)
    torch.testing.assert_close(shares, mask.any(1, keepdim=True).double().expand(-1, 3))


def test_augru_with_one_event_is_a_step_of_torch() -> None:
    """One event gets all attention. torch's update gate is the share kept, the paper's the share renewed."""
    torch.manual_seed(0)
    augru, cell = AUGRU(4).double(), torch.nn.GRUCell(4, 4).double()
    sign = torch.tensor([1.0, -1.0, 1.0]).repeat_interleave(4).double()
    with torch.no_grad():
        cell.weight_ih.copy_(sign[:, None] * augru.of_state.weight)
        cell.bias_ih.copy_(sign * augru.of_state.bias)
        cell.weight_hh.copy_(sign[:, None] * augru.of_interest.weight)
        cell.bias_hh.zero_()
    states, target = torch.randn(3, 1, 4, dtype=torch.float64), torch.randn(3, 1, 4, dtype=torch.float64)
    mask = torch.ones(3, 1, dtype=torch.bool)
    torch.testing.assert_close(augru(target, states, mask).squeeze(1), cell(states.squeeze(1)))


def test_augru_equals_deepctr() -> None:
    sequence = pytest.importorskip("deepctr_torch.layers.sequence")
    torch.manual_seed(0)
    augru, theirs = AUGRU(4), sequence.DynamicGRU(4, 4, gru_type="AUGRU")
    with torch.no_grad():
        augru.of_state.bias.zero_()  # theirs registers one bias under both names, and so adds it twice
        theirs.rnn.weight_ih.copy_(augru.of_state.weight)
        theirs.rnn.weight_hh.copy_(augru.of_interest.weight)
    states, target = torch.randn(3, 5, 4), torch.randn(3, 1, 4)
    mask = torch.ones(3, 5, dtype=torch.bool)
    attention = augru.weights(target, states, mask).squeeze(1)

    def packed(x: torch.Tensor) -> torch.nn.utils.rnn.PackedSequence:
        return torch.nn.utils.rnn.pack_padded_sequence(x, torch.full((3,), 5), batch_first=True)

    states_of = torch.nn.utils.rnn.pad_packed_sequence(
        theirs(packed(states), packed(attention)), batch_first=True
    )
    torch.testing.assert_close(augru(target, states, mask).squeeze(1), states_of[0][:, -1])


def test_augru_of_no_events_has_finite_gradients() -> None:
    augru = AUGRU(4)
    states, target = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 1, 4, requires_grad=True)
    augru(target, states, torch.zeros(2, 5, dtype=torch.bool)).sum().backward()
    for tensor in (states, target, *augru.parameters()):
        assert tensor.grad is None or bool(tensor.grad.isfinite().all())
