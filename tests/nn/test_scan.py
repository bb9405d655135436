from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ctrkit.nn import scan
from ctrkit.nn.kernels import operators, probe
from ctrkit.nn.kernels.operators import convolution_operator, mixer_operator, scan_operator
from ctrkit.nn.scan import causal_convolution, scan_by_steps, selective_scan, selective_scan_with_state

# Rows, steps, channels, states and rank: widths that fill no vector, one, and more; more rows than sums.
SHAPES = [(1, 1, 1, 1, 1), (3, 7, 5, 2, 1), (2, 12, 16, 16, 2), (150, 5, 20, 3, 3), (2, 300, 48, 8, 4)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))


def scan_inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """u, selection, z, dt_weight, dt_bias, A and D; z is a view into something wider."""
    rows, steps, channels, states, rank = shape
    generator = torch.Generator().manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).to(dtype)

    z = draw(rows, steps, 2 * channels)[..., channels:]
    u, selection = draw(rows, steps, channels), draw(rows, steps, rank + 2 * states)
    weights = draw(channels, rank), draw(channels), -4 * draw(channels, states).abs() - 0.01, draw(channels)
    return [x.requires_grad_() for x in (u, selection, z, *weights)]


def left_padded(rows: int, steps: int) -> Tensor:
    """A mask of rows with every number of events, the first with none."""
    return torch.arange(steps) >= steps - torch.arange(rows)[:, None] % (steps + 1)


def same(inputs: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [x.detach().to(dtype).requires_grad_() for x in inputs]


def as_read(inputs: list[Tensor], h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scan, number by number."""
    u, selection, z, dt_weight, dt_bias, A, D = (x.detach().numpy() for x in inputs)
    (rows, steps, channels), states, rank = u.shape, A.shape[1], dt_weight.shape[1]
    y = np.zeros_like(u)
    for b, t, d in np.ndindex(rows, steps, channels):
        dt, B, C = np.split(selection[b, t], [rank, rank + states])
        delta = np.log1p(np.exp(dt_bias[d] + dt_weight[d] @ dt))
        for n in range(states):
            h[b, n, d] = np.exp(delta * A[d, n]) * h[b, n, d] + delta * B[n] * u[b, t, d]
            y[b, t, d] += C[n] * h[b, n, d]
        y[b, t, d] = (y[b, t, d] + D[d] * u[b, t, d]) * z[b, t, d] / (1 + np.exp(-z[b, t, d]))
    return y, h


def test_plain_scan_is_the_formula() -> None:
    inputs = scan_inputs((2, 4, 3, 2, 2), torch.float64)
    h = torch.randn(2, 2, 3, dtype=torch.float64)
    for before in (None, h):
        y, last = scan_by_steps(*inputs, before)
        expected = as_read(inputs, np.zeros((2, 2, 3)) if before is None else before.numpy().copy())
        np.testing.assert_allclose(y.detach().numpy(), expected[0], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(last.detach().numpy(), expected[1], rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(scan_by_steps, [*inputs, h.requires_grad_()])


@every_shape
@pytest.mark.parametrize("kind", ["full", "padded", "from a state"])
def test_kernel_equals_the_plain_scan(shape: tuple[int, ...], kind: str, two_threads: None) -> None:
    inputs = scan_inputs(shape)
    rows, steps, channels, states, _ = shape
    mask = left_padded(rows, steps) if kind == "padded" else None
    state = [torch.randn(rows, states, channels)] if kind == "from a state" else []
    ours, theirs = same(inputs + state, torch.float32), same(inputs + state, torch.float64)
    present = torch.ones(rows, steps, 1) if mask is None else mask.unsqueeze(-1)

    y, h = selective_scan_with_state(ours[0] * present, *ours[1:7], mask, *ours[7:])
    expected_y, expected_h = scan_by_steps(theirs[0] * present, *theirs[1:])
    assert relative_error(y, expected_y) < 3e-6
    assert relative_error(h, expected_h) < 3e-6

    grad_y, grad_h = torch.randn_like(y), torch.randn_like(h)
    grads = torch.autograd.grad((y, h), ours, (grad_y, grad_h))
    expected = torch.autograd.grad((expected_y, expected_h), theirs, (grad_y.double(), grad_h.double()))
    for grad, exact, name in zip(
        grads, expected, ("u", "selection", "z", "dt", "bias", "A", "D", "h"), strict=False
    ):
        assert relative_error(grad, exact) < 3e-5, name


@every_shape
@pytest.mark.parametrize("masked", [False, True])
def test_convolution_equals_the_plain_one(shape: tuple[int, ...], masked: bool, two_threads: None) -> None:
    rows, steps, channels, _, taps = shape
    mask = left_padded(rows, steps) if masked else None
    if mask is not None and steps > 3:
        mask[:, 2] = False  # padding amid events too
    x = torch.randn(rows, steps, 2 * channels)[..., :channels]
    ours = same([x, torch.randn(channels, 1, taps), torch.randn(channels)], torch.float32)
    theirs = same(ours, torch.float64)
    y = causal_convolution(*ours, mask)
    expected = causal_convolution(*theirs, mask)  # float64: in plain operations
    grad_y = torch.randn_like(y)
    assert relative_error(y, expected) < 1e-6
    grads = torch.autograd.grad(y, ours, grad_y)
    for grad, exact in zip(grads, torch.autograd.grad(expected, theirs, grad_y.double()), strict=True):
        assert relative_error(grad, exact) < 3e-6


def test_plain_convolution_is_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*s, generator=generator) for s in ((2, 6, 3), (3, 1, 4), (3,)))
    x, weight, bias = x.double(), weight.double(), bias.double()
    mask = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    ours = causal_convolution(x, weight, bias, mask)
    for b, t, d in np.ndindex(2, 6, 3):
        before = range(max(0, t - 3), t + 1)
        value = bias[d] + sum(weight[d, 0, 3 - (t - s)] * x[b, s, d] for s in before if mask[b, s])
        torch.testing.assert_close(ours[b, t, d], F.silu(value) * mask[b, t])
    assert torch.autograd.gradcheck(
        lambda *inputs: causal_convolution(*inputs, mask), [v.requires_grad_() for v in (x, weight, bias)]
    )


def test_without_numba_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, mask = scan_inputs(SHAPES[3]), left_padded(150, 5)
    inputs[0] = (inputs[0] * mask.unsqueeze(-1)).detach()
    weight, bias = torch.randn(20, 1, 4), torch.randn(20)
    quick = selective_scan(*inputs, mask), causal_convolution(inputs[0], weight, bias, mask)
    monkeypatch.setattr(operators, "_NUMBA", False)
    monkeypatch.setattr(scan, "scan_operator", None)
    monkeypatch.setattr(scan, "convolution_operator", None)
    plain = selective_scan(*inputs, mask), causal_convolution(inputs[0], weight, bias, mask)
    for ours, theirs in zip(quick, plain, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("change", ["a part of numba is gone", "a vector comes out wrong"])
def test_with_another_numba_nothing_changes_but_the_speed(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, mask = scan_inputs(SHAPES[3]), left_padded(150, 5)
    inputs[0] = (inputs[0] * mask.unsqueeze(-1)).detach()
    quick = selective_scan(*inputs, mask)
    assert operators._NUMBA
    monkeypatch.setattr(operators, "_NUMBA", None)
    monkeypatch.setattr(scan, "scan_operator", None)
    if change == "a part of numba is gone":
        for name in ("lanes", "common", "probe"):
            monkeypatch.delitem(sys.modules, f"ctrkit.nn.kernels.{name}")
        monkeypatch.setitem(sys.modules, "numba.np.arrayobj", None)
    else:
        monkeypatch.setattr(probe, "every_part", lambda x, norm, weights, y: None)
    with pytest.warns(RuntimeWarning, match="do not work with this numba"):
        plain = selective_scan(*inputs, mask)
    assert operators._NUMBA is False
    torch.testing.assert_close(quick, plain)
    selective_scan(*inputs, mask)  # warns no more


def test_without_openmp_nothing_changes(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = scan_inputs((150, 40, 20, 4, 2))

    def scanned() -> list[Tensor]:
        y, h = selective_scan_with_state(*inputs)
        return [y, h, *torch.autograd.grad(y.sum() + h.sum(), inputs)]

    with_openmp = scanned()
    monkeypatch.setattr("ctrkit.nn.kernels.threads._openmp", lambda: None)
    for ours, theirs in zip(scanned(), with_openmp, strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_are_the_same_bit_for_bit_on_any_number_of_threads() -> None:
    inputs = scan_inputs((150, 40, 20, 4, 2))
    x, weight = torch.randn(150, 40, 20), torch.randn(20, 1, 4)

    def gradients() -> list[Tensor]:
        leaves = same([*inputs, x, weight], torch.float32)
        y = selective_scan(*leaves[:7]).square().sum()
        return list(
            torch.autograd.grad(y + causal_convolution(*leaves[7:], torch.ones(20)).square().sum(), leaves)
        )

    before = torch.get_num_threads()
    first = gradients()
    for threads in (1, 2, 3, 3):
        torch.set_num_threads(threads)
        try:
            assert all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True))
        finally:
            torch.set_num_threads(before)


@pytest.mark.slow
def test_operators_keep_their_promises_to_torch() -> None:
    rows, steps, channels, _, _ = shape = (5, 4, 3, 2, 1)
    inputs = scan_inputs(shape)
    torch.library.opcheck(scan_operator, (*inputs, None, torch.randn(rows, 2, channels, requires_grad=True)))
    weights, mask = torch.randn(channels, 5, requires_grad=True), left_padded(rows, steps)
    torch.library.opcheck(convolution_operator, (inputs[0], weights, mask))

    x, norm, (into, select, out) = torch.randn(rows, steps, 4), torch.randn(2, 4), torch.randn(3, 6, 4)
    plain = [v.detach() for v in (x, into, weights, select[:5, :3], *inputs[3:], out[:4, :3], norm)]
    torch.library.opcheck(mixer_operator, (*plain, None, True, 1e-5, mask, None, None, True))


# What torch says of its own scan operator (torch 2.13).
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiles_whole_and_exports_without_operators_of_its_own() -> None:
    inputs = scan_inputs((5, 4, 3, 2, 1))

    class Scan(torch.nn.Module):
        def forward(self, *inputs: Tensor) -> Tensor:
            u = causal_convolution(inputs[0], inputs[3].unsqueeze(1), inputs[4])
            return selective_scan(u, *inputs[1:])

    y = Scan()(*inputs)
    compiled = torch.compile(Scan(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), y)
    expected = torch.autograd.grad(y.square().sum(), inputs)
    for ours, theirs in zip(
        torch.autograd.grad(compiled(*inputs).square().sum(), inputs), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs)

    exported = torch.export.export(Scan(), tuple(inputs))
    assert not any("ctrkit" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(*inputs), y, rtol=1e-5, atol=1e-6)


def test_what_is_no_number_is_not_hidden() -> None:
    inputs = [x.detach() for x in scan_inputs((2, 5, 20, 3, 1))]
    clean = selective_scan(*inputs)
    for which, place in ((0, (1, 2, 7)), (1, (1, 2, 0)), (2, (1, 2, 7)), (5, (7, 1)), (6, (7,))):
        broken = [x.clone() for x in inputs]
        broken[which][place] = float("nan")
        y = selective_scan(*broken)
        assert bool(y[1, 2, 7].isnan()), which
        assert torch.equal(y[:, :, 8], clean[:, :, 8]) or which == 1
        if which < 3:
            assert torch.equal(y[0], clean[0])


def test_extreme_steps_and_gates_stay_finite() -> None:
    u, selection, z, weight, bias, A, D = (x.detach() for x in scan_inputs((2, 6, 4, 3, 1)))
    extremes = torch.tensor([-1e4, -90.0, 90.0, 1e4])
    for inputs in (
        (u, selection, z, weight, extremes, A, D),
        (u, selection, z * 0 + extremes, weight, bias, A, D),
    ):
        leaves = same(list(inputs), torch.float32)
        y, theirs = selective_scan(*leaves), scan_by_steps(*same(leaves, torch.float64))[0]
        torch.testing.assert_close(y.double(), theirs, rtol=1e-5, atol=1e-6)
        assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(y.square().sum(), leaves))


@pytest.mark.parametrize("shape", [(0, 5, 4, 2, 1), (3, 0, 4, 2, 1)], ids=str)
def test_nothing_to_scan(shape: tuple[int, ...]) -> None:
    rows, steps, channels, states, _ = shape
    inputs, h = scan_inputs(shape), torch.randn(rows, states, channels)
    y, last = selective_scan_with_state(*inputs, h=h)
    assert y.shape == (rows, steps, channels)
    assert torch.equal(last, h)
    (y.sum() + last.sum()).backward()
    assert all(x.grad is not None and not x.grad.any() for x in inputs)
    x = torch.randn(rows, steps, channels)
    assert causal_convolution(x, torch.randn(channels, 1, 4), torch.randn(channels)).shape == x.shape


def test_a_state_and_padding_do_not_go_together() -> None:
    inputs = scan_inputs((2, 3, 4, 2, 1))
    with pytest.raises(ValueError, match="takes no mask"):
        selective_scan_with_state(*inputs, left_padded(2, 3), torch.zeros(2, 2, 4))


@pytest.mark.slow
def test_numba_is_imported_when_it_is_needed() -> None:
    code = "import sys, ctrkit.nn.mamba; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("extension", [True, False])
def test_mamba_ssm_counts_as_there_with_its_kernel_alone(
    extension: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its main branch imports without the extension `selective_scan_cuda`, and raises when it is called."""

    def selective_scan_fn(*inputs: Tensor) -> None:
        raise RuntimeError("selective_scan_cuda is not installed")

    interface = "mamba_ssm.ops.selective_scan_interface"
    for name in ("mamba_ssm", "mamba_ssm.ops", interface):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[interface], "selective_scan_fn", selective_scan_fn, raising=False)
    if extension:
        monkeypatch.setitem(sys.modules, "selective_scan_cuda", ModuleType("selective_scan_cuda"))
    monkeypatch.setattr(scan, "_optional", scan._optional.__wrapped__)  # nothing is remembered
    on_cuda, on_cpu = SimpleNamespace(is_cuda=True), torch.ones(1)
    assert scan._cuda_kernel(on_cuda, *scan._MAMBA_SSM) is (selective_scan_fn if extension else None)
    assert scan._cuda_kernel(on_cpu, *scan._MAMBA_SSM) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("masked", [False, True])
def test_cuda_equals_cpu(masked: bool) -> None:
    shape = rows, steps, channels, _, _ = (64, 50, 64, 16, 2)
    mask = left_padded(rows, steps) if masked else None
    weights = torch.randn(channels, 1, 4), torch.randn(channels)

    def run(device: str) -> list[Tensor]:
        leaves = [x.detach().to(device).requires_grad_() for x in (*scan_inputs(shape), *weights)]
        on = None if mask is None else mask.to(device)
        y = selective_scan(causal_convolution(leaves[0], *leaves[7:], on), *leaves[1:7], on)
        return [x.cpu() for x in (y, *torch.autograd.grad(y.square().sum(), leaves))]

    for ours, theirs in zip(run("cuda"), run("cpu"), strict=True):
        assert relative_error(ours, theirs) < 1e-4
