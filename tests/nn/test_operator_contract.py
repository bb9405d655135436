"""What every operator refuses, in every mode: wrong shapes and types. A segmentation fault is a failed test.

The refusals are tried in a process of their own: what gets past an operator's door may end it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only

import ctrkit.nn.kernels.attention_operator
import ctrkit.nn.mamba  # noqa: F401  (these define operators)
from ctrkit.nn.kernels.operators import SHAPES
from ctrkit.nn.mamba import Mamba, MambaState
from ctrkit.nn.scan import causal_convolution, selective_scan_with_state

SIZES = {"B": 3, "L": 6, "D": 18, "T": 3, "M": 5, "N": 4, "R": 2, "U": 3, "K": 2, "W": 17, "H": 19}
NUMBERS = {"residual": True, "epsilon": 1e-5, "keep": True}

MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "with gradients": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "compiled": FakeTensorMode,
}


def arguments(name: str) -> list[str]:
    """The names of an operator's arguments, in their order."""
    return [one.name for one in getattr(torch.ops.ctrkit, name).default._schema.arguments]


def drawn(name: str) -> dict[str, Any]:
    """Right inputs of an operator."""
    torch.manual_seed(0)
    given: dict[str, Any] = {}
    for argument in arguments(name):
        if argument in NUMBERS:
            given[argument] = NUMBERS[argument]
            continue
        shape = SHAPES[name].of(argument, **SIZES)
        if argument == "mask":
            given[argument] = torch.arange(shape[1]) >= torch.arange(shape[0])[:, None]
        elif argument == "A":
            given[argument] = -torch.rand(shape) - 0.1
        else:
            given[argument] = torch.randn(shape) * 0.3
    return given


def called(name: str, given: dict[str, Any]) -> Any:
    return getattr(torch.ops.ctrkit, name).default(*given.values())


def occurrences(name: str) -> str:
    """All sizes of an operator, to count how often a letter stands there."""
    return " ".join(part.partition(":")[2] for part in SHAPES[name].text.split(";"))


def wrongs(name: str, right: dict[str, Any]) -> Iterator[tuple[str, str, Tensor]]:
    """Argument, what is wrong, and the wrong tensor in its place."""
    text = {
        part.partition(":")[0].strip(): part.partition(":")[2].split()
        for part in SHAPES[name].text.split(";")
    }
    x: Tensor
    for argument, x in right.items():
        if argument in NUMBERS:
            continue
        yield argument, "one dimension more", x.unsqueeze(0)
        yield argument, "one dimension less", x[0]
        yield argument, "float64", x.double()
        yield argument, "int64", x.long()
        yield argument, "float16", x.half()
        for axis, size in enumerate(text[argument]):
            letters = [letter for letter in size if letter.isalpha()]
            free = all(occurrences(name).count(letter) == 1 for letter in letters)
            if free and letters:
                continue  # a size of its own: any will do
            for other in (0, 1, x.shape[axis] - 1, 40 * x.shape[axis]):
                if other != x.shape[axis]:
                    shape = list(x.shape)
                    shape[axis] = other
                    yield argument, f"size {other} of axis {axis}", torch.zeros(shape, dtype=x.dtype)


def refusals() -> None:
    """Try all that must be refused; the first that is not ends the process."""
    for name in SHAPES:
        right = drawn(name)
        for mode, entered in MODES.items():
            for argument, what, x in wrongs(name, right):
                given = {**right, argument: x}
                print(f"{name}, {mode}: {argument} with {what}", flush=True)
                with entered() as fake:
                    if isinstance(fake, FakeTensorMode):
                        given = tree_map_only(Tensor, fake.from_tensor, given)
                    elif mode == "with gradients" and x.is_floating_point():
                        x.requires_grad_()
                    with pytest.raises(ValueError, match=f"ctrkit::{name}: "):
                        called(name, given)


@pytest.mark.slow
def test_all_that_is_wrong_is_refused() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) > 800


def spaced(x: Tensor) -> Tensor:
    """The same numbers, two apart in every dimension."""
    wide = torch.zeros([2 * size for size in x.shape], dtype=x.dtype)
    every = tuple(slice(None, None, 2) for _ in x.shape)
    wide[every] = x
    return wide[every]


def turned(x: Tensor) -> Tensor:
    """The same numbers, with the dimensions in memory the other way round."""
    axes = tuple(reversed(range(x.ndim)))
    return x.permute(axes).contiguous().permute(axes)


@pytest.mark.parametrize("lay", [spaced, turned])
@pytest.mark.parametrize("name", SHAPES)
def test_layouts_in_memory_change_no_number(name: str, lay: Callable[[Tensor], Tensor]) -> None:
    given = drawn(name)
    expected = called(name, given)
    for argument, x in given.items():
        if argument in NUMBERS:
            continue
        found = called(name, {**given, argument: lay(x)})
        for one, two in zip(
            found if isinstance(found, tuple) else (found,),
            expected if isinstance(expected, tuple) else (expected,),
            strict=True,
        ):
            assert torch.equal(one, two), argument


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_of_anything_is_taken(name: str) -> None:
    for empty in ("B", "L", "U", "K"):
        given = drawn(name)
        sizes = {**SIZES, empty: 0}
        for argument, x in given.items():
            if isinstance(x, Tensor):
                given[argument] = x.new_zeros(SHAPES[name].of(argument, **sizes))
        found = called(name, given)
        for one in found if isinstance(found, tuple) else (found,):
            assert torch.isfinite(one).all()


def test_a_kernel_needs_a_bias_and_a_tap() -> None:
    with pytest.raises(ValueError, match="`weight` has the shape"):
        torch.ops.ctrkit.convolution(torch.ones(1, 1, 3), torch.ones(3, 1), None)


@pytest.mark.parametrize("mode", ["with gradients", "no_grad", "inference"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_mixer_refuses_what_does_not_fit_in_every_mode(mode: str, kind: torch.dtype) -> None:
    mixer = Mamba(8).to(kind)
    x, mask = torch.randn(4, 5, 8, dtype=kind), torch.ones(4, 5, dtype=torch.bool)
    one = mixer.initial_state(1)
    with MODES[mode]():
        _, (window, h) = mixer.encode(x, mask)
        for wrong in (
            lambda: mixer(x[..., :7]),
            lambda: mixer(torch.cat([x, x], dim=2)),
            lambda: mixer(x, mask[:, :4]),
            lambda: mixer(x, mask[:1]),
            lambda: mixer(x, mask[:, :1]),
            lambda: mixer(x, mask.float()),
            lambda: mixer(x[0]),
            lambda: mixer.encode(x, mask[:2]),
            lambda: mixer.step(x[:, 0], one),
            lambda: mixer.step(x[:1, 0], MambaState(window, h)),
            lambda: mixer.step(x[:, 0], MambaState(window[:, 1:], h)),
            lambda: mixer.step(x[:, 0], MambaState(window, h[:, :3])),
            lambda: mixer.step(x, MambaState(window, h)),
        ):
            with pytest.raises((ValueError, RuntimeError), match=r"`\w+` (has the shape|is torch)"):
                wrong()


def test_the_two_passes_refuse_what_does_not_fit_in_double_precision_too() -> None:
    x, mask = torch.ones(2, 3, 4, dtype=torch.float64), torch.ones(2, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match="`mask` has the shape"):
        causal_convolution(x, x.new_ones(4, 1, 2), x.new_ones(4), mask)
    with pytest.raises(ValueError, match="`bias` has the shape"):
        causal_convolution(x, x.new_ones(4, 1, 2), x.new_ones(1))
    weights = x.new_ones(4, 1), x.new_ones(4), -x.new_ones(4, 5), x.new_ones(4)
    with pytest.raises(ValueError, match="`h` has the shape"):
        selective_scan_with_state(x, x.new_ones(2, 3, 11), x, *weights, h=x.new_ones(1, 5, 4))
    with pytest.raises(ValueError, match="`selection` has the shape"):
        selective_scan_with_state(x, x.new_ones(2, 3, 12), x, *weights)


if __name__ == "__main__":
    refusals()
