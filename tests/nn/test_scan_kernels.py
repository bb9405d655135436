from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ctrkit.nn.kernels import threads
from ctrkit.nn.kernels.threads import in_parallel

numba = pytest.importorskip("numba")

from ctrkit.nn.kernels import common  # noqa: E402
from ctrkit.nn.kernels import scan as scan_kernels  # noqa: E402
from ctrkit.nn.kernels.lanes import LANES, load, load_first, store, store_first, total  # noqa: E402


@pytest.fixture(scope="module")
def functions() -> dict[str, Callable[..., None]]:
    """The elementary functions, on arrays of a multiple of sixteen numbers."""

    def on_arrays(function: Callable[..., object]) -> Callable[..., None]:
        def apply(x, y):  # type: ignore[no-untyped-def]
            for i in range(0, x.size, LANES):
                store(y, (i,), function(load(x, (i,))))

        compiled: Callable[..., None] = numba.njit(apply)
        return compiled

    return {name: on_arrays(getattr(common, name)) for name in ("exp2", "sigmoid", "softplus")}


EXACT: dict[str, Callable[..., np.ndarray]] = {
    "exp2": np.exp2,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
}


@pytest.mark.parametrize("name", ["exp2", "sigmoid", "softplus"])
def test_elementary_functions_are_exact_to_a_millionth(
    functions: dict[str, Callable[..., None]], name: str
) -> None:
    generator = np.random.default_rng(0)
    # Far from 0, e**x loses to the rounding of x log2(e) as it does everywhere in float32.
    for low, high, rtol in ((-8, 8, 1e-6), (-87, 87, 6e-6)):
        x = np.append(generator.uniform(low, high, 1 << 16), [low, high, 0, 0.5] * 4).astype(np.float32)
        y = np.empty_like(x)
        functions[name](x, y)
        np.testing.assert_allclose(y, EXACT[name](x.astype(np.float64)), rtol=rtol)


def test_elementary_functions_at_their_ends(functions: dict[str, Callable[..., None]]) -> None:
    x = np.full(LANES, -1e30, np.float32)
    x[1], y = np.nan, np.empty(LANES, np.float32)
    for function in functions.values():
        function(x, y)
        assert 0 <= y[0] < 1e-35
        assert np.isnan(y[1])


@pytest.mark.parametrize("count", [1, 5, 15, 16, 17])
def test_the_rest_of_a_row_is_read_and_written_alone(count: int) -> None:
    @numba.njit
    def double(x, y, count):  # type: ignore[no-untyped-def]
        values = load_first(x, (0,), count)
        store_first(y, (0,), values * 2.0 + 1, count)
        return total(values)

    x, y = np.arange(1, LANES + 1, dtype=np.float32), np.full(LANES, -7, np.float32)
    kept = min(count, LANES)
    assert double(x, y, count) == x[:kept].sum()
    np.testing.assert_array_equal(y[:kept], 2 * x[:kept] + 1)
    np.testing.assert_array_equal(y[kept:], -7)


def test_long_rows_go_back_in_chunks() -> None:
    batch, steps, channels, states = 2, 23, 20, 3
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    inputs = draw(batch, steps, channels), draw(batch, steps, 1 + 2 * states), draw(batch, steps, channels)
    weights = draw(channels, 2), -np.abs(draw(channels, states)), draw(channels, 1)
    mask, h = np.arange(steps) >= np.array([[0], [9]]), draw(batch, states, channels)
    grad_y, grad_last = draw(*inputs[0].shape), draw(*h.shape)

    def gradients(chunk: int) -> list[np.ndarray]:
        grads = [np.empty_like(x) for x in (*inputs, h)] + [np.zeros((1, 2, states + 3, LANES), np.float32)]
        arrays = (*inputs, *weights, mask, h, grad_y, grad_last, *grads)
        scan_kernels.scan_backward(*arrays, batch, chunk, 0, batch)
        return grads

    whole = gradients(steps)
    for chunk in (1, 4, steps - 1):
        for ours, theirs in zip(gradients(chunk), whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_kernel_that_cannot_be_cached_is_compiled_all_the_same() -> None:
    space: dict[str, Callable[..., None]] = {}
    exec("def double(x):\n    x *= 2", space)  # has no file, beside which its cache could lie
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(space["double"])
    x = np.ones(3, np.float32)
    common.kernel("void(f4[:])")(space["double"])(x)
    assert x.tolist() == [2, 2, 2]


@pytest.mark.parametrize("openmp", [True, False])
@pytest.mark.parametrize("parts", [0, 1, 2, 50])
def test_each_part_is_done_once(parts: int, openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    elif threads._openmp() is None:
        pytest.skip("torch is linked with no OpenMP of this kind")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    done, ids = [], set()

    def work(part: int) -> None:
        done.append(part)
        ids.add(threading.get_ident())

    in_parallel(work, parts)
    assert sorted(done) == list(range(parts))
    assert len(ids) <= 3


@pytest.mark.parametrize("openmp", [True, False])
def test_failures_of_threads_are_raised(openmp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not openmp:
        monkeypatch.setattr(threads, "_openmp", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(part: int) -> None:
        if part == 7:
            raise ArithmeticError("of part 7")

    with pytest.raises(ArithmeticError, match="of part 7"):
        in_parallel(work, 20)
