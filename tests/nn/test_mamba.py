from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctrkit.nn import mamba
from ctrkit.nn.mamba import Mamba, MambaEncoder, scan_by_steps, selective_scan

REFERENCE = Path(__file__).parents[1] / "fixtures" / "mamba_reference.npz"


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.fixture
def reference() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


@pytest.fixture
def layer(reference: dict[str, torch.Tensor]) -> Mamba:
    layer = Mamba(32)
    parameters = {n.removeprefix("param."): v for n, v in reference.items() if n.startswith("param.")}
    layer.load_state_dict(parameters, strict=True)
    return layer


@pytest.mark.parametrize("scan", [selective_scan, scan_by_steps])
def test_output_and_gradients_equal_mamba_ssm(
    layer: Mamba, reference: dict[str, torch.Tensor], scan: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba, "selective_scan", scan)
    x = reference["x"].clone().requires_grad_()
    y = layer(x)
    y.backward(reference["grad_y"])
    assert relative_error(y.detach(), reference["y"]) < 1e-5
    assert x.grad is not None
    assert relative_error(x.grad, reference["grad_x"]) < 1e-4
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert relative_error(parameter.grad, reference[f"grad.{name}"]) < 1e-4, name


def scan_inputs(batch: int, length: int, width: int, state: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    u, delta = draw(batch, length, width) - 0.5, draw(batch, length, width)
    A, B, C = -draw(width, state) - 0.1, draw(batch, length, state) - 0.5, draw(batch, length, state) - 0.5
    return [x.requires_grad_() for x in (u, delta, A, B, C)]


@pytest.mark.parametrize("chunk_elements", [1, 100, 1 << 20])
def test_scan_equals_the_recurrence_in_any_chunks(
    chunk_elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba, "_CHUNK_ELEMENTS", chunk_elements)
    u, delta, A, B, C = (x.detach().numpy() for x in scan_inputs(5, 7, 3, 2))
    h = np.zeros((5, 3, 2))
    expected = np.empty((5, 7, 3))
    for t in range(7):
        for b, d, n in np.ndindex(5, 3, 2):
            decay = np.exp(delta[b, t, d] * A[d, n])
            h[b, d, n] = decay * h[b, d, n] + delta[b, t, d] * B[b, t, n] * u[b, t, d]
        expected[:, t] = (h * C[:, t, None]).sum(-1)
    for scan in (selective_scan, scan_by_steps):
        ours = scan(*scan_inputs(5, 7, 3, 2)).detach().numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert torch.autograd.gradcheck(selective_scan, scan_inputs(5, 7, 3, 2))


def test_scan_of_one_step() -> None:
    inputs = scan_inputs(2, 1, 3, 2)
    u, delta, _, B, C = inputs
    torch.testing.assert_close(selective_scan(*inputs), delta * u * (B * C).sum(-1, keepdim=True))
    assert torch.autograd.gradcheck(selective_scan, inputs)


def test_initialisation_is_that_of_mamba_ssm() -> None:
    torch.manual_seed(0)
    layer = Mamba(64, d_state=16)
    torch.testing.assert_close(layer.A_log.exp(), torch.arange(1.0, 17).expand(128, 16))
    steps = torch.nn.functional.softplus(layer.dt_proj.bias)
    assert 0.001 <= float(steps.detach().min()) < 0.003
    assert 0.03 < float(steps.detach().max()) <= 0.1001
    assert float(layer.dt_proj.weight.detach().abs().max()) <= 0.5  # dt_rank 4


def test_is_causal() -> None:
    torch.manual_seed(0)
    layer, x = Mamba(8), torch.randn(2, 9, 8)
    changed = x.clone()
    changed[:, 6:] += 1.0
    torch.testing.assert_close(layer(x)[:, :6], layer(changed)[:, :6])
    assert not torch.allclose(layer(x)[:, 6:], layer(changed)[:, 6:])


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_left_padding_changes_nothing(norm: str) -> None:
    torch.manual_seed(0)
    encoder = MambaEncoder(8, blocks=2, norm=norm)  # type: ignore[arg-type]
    events = torch.randn(3, 4, 8)
    alone = encoder(events)
    for padding in (1, 2, 7):
        x = torch.cat([torch.randn(3, padding, 8), events], dim=1)
        mask = torch.arange(padding + 4).expand(3, -1) >= padding
        torch.testing.assert_close(encoder(x, mask)[:, padding:], alone, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(encoder(x)[:, padding:], alone, atol=1e-3)


def test_padding_gets_no_output_and_no_gradient() -> None:
    torch.manual_seed(0)
    layer, x = Mamba(8), torch.randn(2, 5, 8, requires_grad=True)
    mask = torch.tensor([[False, False, True, True, True], [False] * 5])
    y = layer(x, mask)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.equal(y[~mask], torch.zeros_like(y[~mask]))
    assert torch.equal(x.grad[~mask], torch.zeros_like(x.grad[~mask]))
    assert bool((x.grad[mask] != 0).all())


def test_post_norm_encoder_ends_normalised_and_pre_norm_too() -> None:
    torch.manual_seed(0)
    for norm in ("pre", "post"):
        states = MambaEncoder(16, blocks=2, norm=norm)(torch.randn(2, 5, 16) * 7)  # type: ignore[arg-type]
        torch.testing.assert_close(states.mean(-1), torch.zeros(2, 5), rtol=0, atol=1e-5)
        torch.testing.assert_close(states.var(-1, unbiased=False), torch.ones(2, 5), rtol=1e-3, atol=0)
