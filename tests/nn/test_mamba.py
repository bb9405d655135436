from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from ctrkit.nn.kernels import operators
from ctrkit.nn.mamba import BlockStack, Mamba, MambaEncoder, MambaState
from ctrkit.nn.mamba4rec import Mamba4RecEncoder

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


@pytest.mark.parametrize("by_kernel", [True, False])
def test_output_and_gradients_equal_mamba_ssm(
    layer: Mamba, reference: dict[str, torch.Tensor], by_kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "_NUMBA", by_kernel)
    x = reference["x"].clone().requires_grad_()
    with torch.no_grad():
        assert relative_error(layer(x), reference["y"]) < 1e-5
    y = layer(x)
    y.backward(reference["grad_y"])
    assert relative_error(y.detach(), reference["y"]) < 1e-5
    assert x.grad is not None
    assert relative_error(x.grad, reference["grad_x"]) < 1e-4
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert relative_error(parameter.grad, reference[f"grad.{name}"]) < 1e-4, name


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


ENCODERS = {
    "pre": lambda: MambaEncoder(8, blocks=2, norm="pre"),
    "post": lambda: MambaEncoder(8, blocks=2, norm="post", d_conv=1),
    "mamba4rec": lambda: Mamba4RecEncoder(8, blocks=2),
    "mamba4rec of one block": lambda: Mamba4RecEncoder(8, blocks=1),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> BlockStack:
    torch.manual_seed(0)
    encoder: BlockStack = ENCODERS[request.param]().eval()
    return encoder


@pytest.fixture(params=["with gradients", "without"])
def gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without gradients another kernel does the work."""
    with torch.set_grad_enabled(request.param == "with gradients"):
        yield


def ragged(rows: int, steps: int) -> torch.Tensor:
    """A mask of left-padded histories of every length, the first empty."""
    return torch.arange(steps) >= steps - torch.arange(rows)[:, None] % (steps + 1)


def test_a_step_gives_what_a_full_pass_gives(encoder: BlockStack, gradients: None) -> None:
    events, mask = torch.randn(8, 10, 8), ragged(8, 7)
    whole = encoder(events, torch.cat([mask, torch.ones(8, 3, dtype=torch.bool)], dim=1))
    states, state = encoder.encode(events[:, :7], mask)
    torch.testing.assert_close(states[mask], whole[:, :7][mask], rtol=1e-5, atol=1e-6)
    for step in range(7, 10):
        newest, state = encoder.step(events[:, step], state)
        torch.testing.assert_close(newest, whole[:, step], rtol=1e-4, atol=1e-5)


def test_an_empty_history_is_the_initial_state(encoder: BlockStack, gradients: None) -> None:
    _, kept = encoder.encode(torch.randn(3, 4, 8), torch.zeros(3, 4, dtype=torch.bool))
    for ours, theirs in zip(kept, encoder.initial_state(3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    events = torch.randn(3, 2, 8)
    first, state = encoder.step(events[:, 0], encoder.initial_state(3))
    second, _ = encoder.step(events[:, 1], state)
    torch.testing.assert_close(torch.stack([first, second], dim=1), encoder(events), rtol=1e-4, atol=1e-5)


def test_candidates_share_one_history(encoder: BlockStack, gradients: None) -> None:
    history, candidates = torch.randn(1, 6, 8), torch.randn(5, 8)
    _, state = encoder.encode(history)
    shared = tuple(MambaState(*(x.expand(5, -1, -1) for x in kept)) for kept in state)
    newest, _ = encoder.step(candidates, shared)
    appended = torch.cat([history.expand(5, -1, -1), candidates.unsqueeze(1)], dim=1)
    torch.testing.assert_close(newest, encoder(appended)[:, -1], rtol=1e-4, atol=1e-5)


def test_gradients_pass_through_the_state(encoder: BlockStack) -> None:
    # Weighted: a plain sum after a normalisation is the same whatever comes before it.
    events, weight = torch.randn(3, 5, 8), torch.randn(3, 8)

    def gradients(newest: torch.Tensor) -> list[torch.Tensor]:
        loss = (newest.square() * weight).sum() + (newest * weight).sum()
        return list(torch.autograd.grad(loss, list(encoder.parameters())))

    whole = gradients(encoder(events)[:, -1])
    stepped = gradients(encoder.step(events[:, -1], encoder.encode(events[:, :-1])[1])[0])
    for (name, _), ours, theirs in zip(encoder.named_parameters(), stepped, whole, strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


# Widths that fill no vector, one, and more; more and fewer steps than go from one projection to the next.
@pytest.mark.parametrize(
    ("width", "states", "taps", "steps"), [(5, 3, 1, 1), (16, 1, 2, 16), (40, 17, 4, 37)]
)
def test_without_gradients_the_same(width: int, states: int, taps: int, steps: int) -> None:
    torch.manual_seed(0)
    mixer, x = Mamba(width, states, taps), torch.randn(70, steps, width)
    mask = ragged(70, steps)
    mask[5:, -3:-2] = False  # padding amid events too
    state = MambaState(torch.randn(70, taps - 1, 2 * width), torch.randn(70, states, 2 * width))

    def everything() -> list[torch.Tensor]:
        y, kept = mixer.encode(x, mask)
        newest, after = mixer.step(x[:, -1], state)
        return [mixer(x), y, *kept, newest, *after]

    with torch.no_grad():
        at_once = everything()
    for ours, theirs in zip(at_once, everything(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_norms_and_residuals_are_the_same_without_gradients(make: Callable[[], BlockStack]) -> None:
    torch.manual_seed(0)
    encoder, x, mask = make(), torch.randn(9, 20, 8), ragged(9, 20)
    for part in encoder.modules():
        if isinstance(part, torch.nn.LayerNorm):
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    with torch.no_grad():
        dropped = encoder.train()(x, mask)
        at_once = encoder.eval()(x, mask)
    torch.testing.assert_close(at_once[mask], encoder(x, mask)[mask], rtol=1e-4, atol=1e-5)
    has_dropout = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in encoder.modules())
    assert torch.allclose(dropped[mask], at_once[mask], rtol=1e-4, atol=1e-5) != has_dropout


def test_threads_of_a_server_do_not_disturb_one_another() -> None:
    torch.manual_seed(0)
    encoder, batches = MambaEncoder(8).eval(), torch.randn(8, 300, 20, 8)

    def encode(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return encoder(x)

    alone = [encode(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(a, b) for a, b in zip(pool.map(encode, batches), alone, strict=True))


# torch.export trips over its own deprecation when it copies the graph (torch 2.13).
@pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning")
# What torch says of its own scan operator (torch 2.13).
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_compiles_whole_and_exports_in_plain_operations() -> None:
    torch.manual_seed(0)
    encoder, x, mask = MambaEncoder(8).eval(), torch.randn(3, 4, 8), ragged(3, 4)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, mask)[mask], encoder(x, mask)[mask])
        exported = torch.export.export(encoder, (x, mask))
    assert not any("ctrkit" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(x, mask)[mask], encoder(x, mask)[mask], rtol=1e-4, atol=1e-5)
