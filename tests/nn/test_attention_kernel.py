from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from ctrkit.nn import attention as attention_module
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.kernels.attention_operator import attention_operator

pytest.importorskip("numba")


def drawn(histories: int, candidates: int, length: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, events and a mask with holes and with empty histories."""
    mask = torch.rand(histories, length) > 0.4
    mask[::3] = False
    targets = torch.randn(histories, candidates, width, requires_grad=True)
    return targets, torch.randn(histories, length, width, requires_grad=True), mask


def reading_and_gradients(attention: TargetAttention, *inputs: Tensor) -> list[Tensor]:
    targets, events, mask = inputs
    reading = attention(targets, events, mask)
    probe = torch.linspace(-1, 1, reading.numel(), dtype=reading.dtype).reshape(reading.shape)
    leaves = targets, events, *attention.parameters()
    return [reading.detach(), *torch.autograd.grad(reading, leaves, probe)]


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("histories", "candidates", "length", "width", "hidden"),
    [(3, 1, 5, 4, 6), (2, 4, 7, 32, 64), (2, 5, 9, 20, 33), (131, 2, 6, 17, 100), (2, 3, 4, 1, 1),
     (1, 2, 0, 5, 5)],
)  # fmt: skip
def test_equals_ordinary_operations(
    histories: int, candidates: int, length: int, width: int, hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    attention = TargetAttention(width, (hidden,))
    inputs = drawn(histories, candidates, length, width)
    ours = reading_and_gradients(attention, *inputs)
    monkeypatch.setattr(attention_module, "by_kernel", lambda *_: False)
    doubles = [x.detach().double().requires_grad_() for x in inputs[:2]]
    theirs = reading_and_gradients(attention.double(), *doubles, inputs[2])
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our.double(), their, rtol=1e-4, atol=1e-5)


def test_equals_the_formula_by_hand() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(3, (5,))
    targets, events, mask = drawn(2, 2, 4, 3)
    readings = attention(targets, events, mask).detach()
    t, h = (x.detach().numpy().astype(np.float64) for x in (targets, events))
    named = {name: p.detach().numpy().astype(np.float64) for name, p in attention.named_parameters()}
    for row, k in np.ndindex(2, 2):
        expected = np.zeros(3)
        for event in h[row][mask[row].numpy()]:
            first = named["of_target.weight"] @ t[row, k] + named["of_target.bias"]
            first += named["of_event.weight"] @ event + named["of_pair.weight"] @ (t[row, k] * event)
            weight = named["score.weight"][0] @ np.maximum(first, 0) + named["score.bias"][0]
            expected += weight * event
        np.testing.assert_allclose(readings[row, k].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_padding_is_not_read() -> None:
    torch.manual_seed(0)
    attention, (targets, events, mask) = TargetAttention(20), drawn(4, 2, 6, 20)
    expected = reading_and_gradients(attention, targets, events, mask)
    spoilt = events.detach().masked_fill(~mask.unsqueeze(2), torch.nan).requires_grad_()
    for ours, theirs in zip(reading_and_gradients(attention, targets, spoilt, mask), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("transposed", [False, True])
def test_inputs_may_lie_as_they_like(transposed: bool) -> None:
    torch.manual_seed(0)
    attention, (targets, events, mask) = TargetAttention(20), drawn(4, 3, 6, 20)
    expected = attention(targets, events, mask)
    first, last = (1, 2) if transposed else (0, 1)
    lying = [x.transpose(first, last).contiguous().transpose(first, last) for x in (targets, events)]
    mask = mask.t().contiguous().t()
    assert torch.equal(attention(*lying, mask), expected)


def test_shapes_that_disagree_are_refused() -> None:
    attention, (targets, events, mask) = TargetAttention(4), drawn(3, 2, 5, 4)
    for wrong in (
        (targets[:2], events, mask),
        (targets, events[..., :3], mask),
        (targets, events, mask[:, :4]),
    ):
        with pytest.raises(ValueError, match="is needed"):
            attention(*wrong)


def operands(histories: int, candidates: int, length: int, width: int, hidden: int) -> list[Tensor]:
    targets, events, mask = drawn(histories, candidates, length, width)
    shapes = (hidden, width), (hidden, width), (1, hidden), (1,)
    weights = [torch.randn(shape, requires_grad=True) for shape in shapes]
    return [targets, torch.randn(histories, candidates, hidden, requires_grad=True), events, mask, *weights]


@pytest.mark.parametrize(("histories", "candidates"), [(150, 1), (5, 60)])
def test_results_are_the_same_bit_for_bit_on_any_number_of_threads(histories: int, candidates: int) -> None:
    torch.manual_seed(0)
    inputs = operands(histories, candidates, 20, 32, 64)

    def results() -> list[Tensor]:
        reading = attention_operator(*inputs)
        leaves = [x for x in inputs if x.requires_grad]
        return [reading, *torch.autograd.grad(reading.square().sum(), leaves)]

    with threads(1):
        expected = results()
    for number in (2, 2, 2, 3):
        with threads(number):
            assert all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 2, 4, 5, 6), (2, 2, 3, 1, 1)])
def test_the_operator_keeps_its_promises_to_torch(shape: tuple[int, int, int, int, int]) -> None:
    torch.library.opcheck(attention_operator, tuple(operands(*shape)))


@pytest.mark.slow
def test_compiles_whole_and_exports_without_operators_of_its_own() -> None:
    torch.manual_seed(0)
    attention, (targets, events, mask) = TargetAttention(5, (6,)), drawn(3, 2, 4, 5)
    expected = reading_and_gradients(attention, targets, events, mask)
    attention.compile(fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(reading_and_gradients(attention, targets, events, mask), expected, strict=True):
        torch.testing.assert_close(ours, theirs)

    exported = torch.export.export(TargetAttention(5, (6,)), (targets, events, mask))
    assert not any("ctrkit" in str(node.target) for node in exported.graph.nodes)


def test_only_attention_with_one_hidden_layer_is_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "attention_operator", None)
    inputs = drawn(3, 2, 4, 5)
    with pytest.raises(TypeError):
        TargetAttention(5, (6,))(*inputs)
    assert TargetAttention(5, (6, 3))(*inputs).shape == (3, 2, 5)
    doubles = [x.detach().double() for x in inputs[:2]]
    assert TargetAttention(5, (6,)).double()(*doubles, inputs[2]).dtype == torch.float64


def test_what_is_no_number_is_not_hidden() -> None:
    torch.manual_seed(0)
    attention, (targets, events, _) = TargetAttention(5), drawn(2, 2, 4, 5)
    broken = events.detach().clone()
    broken[1, 2, 0] = torch.nan
    reading = attention(targets, broken, torch.ones(2, 4, dtype=torch.bool))
    assert bool(reading[1].isnan().all())
    assert bool(reading[0].isfinite().all())
