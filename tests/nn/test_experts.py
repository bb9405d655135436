from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctrkit.nn.experts import ExpertGate, ExtractionGates, ExtractionLayer, InformationTransfer, mixture


def array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().numpy()


def test_a_gate_is_a_softmax_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    gate, x = ExpertGate(5, 3), torch.randn(7, 5) * 4
    assert gate.scores is not None
    expected = scipy.special.softmax(array(x) @ array(gate.scores.weight).T, axis=1)
    np.testing.assert_allclose(array(gate(x)), expected, rtol=1e-5)


def test_one_expert_needs_no_gate() -> None:
    gate = ExpertGate(5, 1)
    assert not list(gate.parameters())
    assert gate(torch.randn(4, 5)).tolist() == [[1.0]] * 4


@pytest.mark.parametrize("width", [0, 1, 4])
def test_mixture_by_loops(width: int) -> None:
    torch.manual_seed(0)
    shares, values = torch.rand(6, 3), torch.randn(3, 6, width)
    expected = [
        [sum(shares[b, e] * values[e, b, d] for e in range(3)) for d in range(width)] for b in range(6)
    ]
    torch.testing.assert_close(mixture(shares, list(values)), torch.tensor(expected).reshape(6, width))


def test_members_of_each_mixture() -> None:
    layer = ExtractionGates(4, tasks=3, task_experts=2, shared_experts=2, last=False)
    states = [torch.randn(5, 4) for _ in range(4)]
    names = ["a0", "a1", "b0", "b1", "c0", "c1", "s0", "s1"]
    members = [mixed for _, mixed in layer(states, names)]
    assert members == [
        ["a0", "a1", "s0", "s1"],
        ["b0", "b1", "s0", "s1"],
        ["c0", "c1", "s0", "s1"],
        names,
    ]
    for (shares, of), gate, state in zip(layer(states, names), layer.gates, states, strict=True):
        assert shares.shape == (5, len(of))
        assert torch.equal(shares, gate(state))
    for last, shared in ((True, 2), (False, 0), (True, 0)):
        layer = ExtractionGates(4, 3, task_experts=2, shared_experts=shared, last=last)
        assert [len(shares[0]) for shares, _ in layer(states, names)] == [2 + shared] * 3


def test_extraction_layer_by_loops() -> None:
    torch.manual_seed(0)
    gates = ExtractionGates(3, tasks=2, task_experts=2, shared_experts=1, last=False)
    layer = ExtractionLayer(gates, 3, (5, 4), dropout=0.0).double()
    states = [torch.randn(4, 3, dtype=torch.float64) for _ in range(3)]
    reads = [0, 0, 1, 1, 2]  # which state each expert reads
    members = [[0, 1, 4], [2, 3, 4], [0, 1, 2, 3, 4]]
    after = layer(states)
    assert len(after) == 3
    for number, state in enumerate(after):
        for b in range(4):
            scores = array(gates.gates[number].scores.weight) @ array(states[number][b])
            shares = np.exp(scores) / np.exp(scores).sum()
            expected = np.zeros(4)
            for share, e in zip(shares, members[number], strict=True):
                first, second = layer.experts[e][0], layer.experts[e][3]
                x = np.maximum(array(first.weight) @ array(states[reads[e]][b]) + array(first.bias), 0)
                expected += share * np.maximum(array(second.weight) @ x + array(second.bias), 0)
            np.testing.assert_allclose(array(state[b]), expected, rtol=1e-10)


def test_information_transfer_by_loops() -> None:
    torch.manual_seed(0)
    transfer = InformationTransfer(4).double()
    previous, own = torch.randn(2, 5, 4, dtype=torch.float64) * 3
    handed, value, query, key = (
        array(layer.weight)
        for layer in (transfer.information[0], transfer.value, transfer.query, transfer.key)
    )
    z = transfer(previous, own)
    for b in range(5):
        p = np.maximum(handed @ array(previous[b]) + array(transfer.information[0].bias), 0)
        q = array(own[b])
        weights = [np.exp((query @ u) @ (key @ u) / 4**0.5) for u in (p, q)]
        expected = (weights[0] * (value @ p) + weights[1] * (value @ q)) / sum(weights)
        np.testing.assert_allclose(array(z[b]), expected, rtol=1e-10)


def test_what_is_handed_on_can_be_dropped() -> None:
    torch.manual_seed(0)
    transfer, vectors = InformationTransfer(8, dropout=0.5), torch.randn(2, 6, 8)
    assert not torch.equal(transfer(*vectors), transfer(*vectors))
    transfer.eval()
    assert torch.equal(transfer(*vectors), transfer(*vectors))
