from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctrkit.nn import cross as cross_module
from ctrkit.nn.cross import CrossNetwork, ExponentialCross, LinearCross
from ctrkit.nn.kernels.cross_operator import cross_operator

pytest.importorskip("numba")

KINDS = pytest.mark.parametrize("kind", [ExponentialCross, LinearCross])


def network(kind: type[CrossNetwork], width: int, **options: object) -> CrossNetwork:
    """A network in which every weight matters."""
    torch.manual_seed(0)
    made = kind(width, 3, **options).eval()  # type: ignore[arg-type]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5)
    return made


@KINDS
@pytest.mark.parametrize("layer_norm", [True, False])
@pytest.mark.parametrize("rank", [None, 5])
@pytest.mark.parametrize(("batch", "heads", "width"), [(1, 1, 10), (3, 2, 64), (70, 3, 46), (600, 1, 320)])
def test_equals_ordinary_operations(
    kind: type[CrossNetwork], batch: int, heads: int, width: int, rank: int | None, layer_norm: bool
) -> None:
    made = network(kind, width, heads=heads, layer_norm=layer_norm, rank=rank)
    x = torch.randn(batch, heads, width)
    with torch.no_grad():
        ours = made.state(x)
    theirs = made.double().state(x.double()).detach()
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@KINDS
def test_rows_do_not_depend_on_their_neighbours_nor_on_the_number_of_threads(
    kind: type[CrossNetwork],
) -> None:
    made, x = network(kind, 48), torch.randn(500, 1, 48)
    before = torch.get_num_threads()
    states = []
    with torch.no_grad():
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            states.append(made.state(x))
        torch.set_num_threads(before)
        states.append(torch.cat([made.state(part) for part in x.split(7)]))
        states.append(
            made.state(x.transpose(0, 2).contiguous().transpose(0, 2))
        )  # rows need not lie together
    assert all(torch.equal(states[0], other) for other in states[1:])


def test_the_operator_keeps_its_promises_to_torch() -> None:
    made = network(LinearCross, 10)
    w = [layer.weight for layer in made.w if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        norm = [torch.stack([layer.weight, layer.bias]) for layer in made.layer_norm]
        inputs = torch.randn(3, 2, 10), w, [], list(made.b), norm, False, 1e-5
        torch.library.opcheck(cross_operator, inputs)


def test_compiles_whole_and_exports_without_operators_of_its_own() -> None:
    made, x = network(ExponentialCross, 10), torch.randn(3, 1, 10)
    with torch.no_grad():
        expected = made(x)
        exported = torch.export.export(made, (x,))
        assert not any("ctrkit" in str(node.target) for node in exported.graph.nodes)
        made.compile(fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(made(x), expected)


def test_gradients_dropout_batch_norm_and_doubles_are_for_ordinary_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cross_module, "cross_operator", None)
    x = torch.randn(3, 2, 10)
    made, normed = network(LinearCross, 10, heads=2), network(LinearCross, 10, heads=2, batch_norm=True)
    assert made.state(x).requires_grad
    with torch.no_grad():
        with pytest.raises(TypeError):
            made.state(x)
        assert made.train().state(x).shape == x.shape
        assert normed.state(x).shape == x.shape
        assert made.eval().double().state(x.double()).dtype == torch.float64


def test_what_is_no_number_is_not_hidden() -> None:
    x = torch.randn(4, 1, 10)
    x[2, 0, 3] = torch.nan
    with torch.no_grad():
        state = network(LinearCross, 10).state(x)
    broken: Tensor = state.isnan().flatten(1).any(dim=1)
    assert broken.tolist() == [False, False, True, False]
