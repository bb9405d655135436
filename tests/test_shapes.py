from __future__ import annotations

import numpy as np
import pytest

from ctrkit.compiled import kernel
from ctrkit.shapes import Shapes


def test_letters_get_their_sizes_in_order() -> None:
    shapes = Shapes("x: B L D; weight: D T+2; both: 2D+L|1; mask?: B L")
    given = {"x": np.ones((2, 3, 4)), "weight": np.ones((4, 5)), "both": np.ones(11), "mask": np.ones((0, 0))}
    assert shapes.check("f", given) == {"B": 2, "L": 3, "D": 4, "T": 3}
    assert shapes.check("f", {**given, "both": np.ones(1), "mask": None})
    assert shapes.of("both", D=4, L=3) == (11,)


@pytest.mark.parametrize(
    ("argument", "shape", "message"),
    [
        ("x", (2, 3), r"f: `x` has the shape \[2, 3\], and \[B, L, D\] is needed$"),
        (
            "weight",
            (3, 5),
            r"`weight` has the shape \[3, 5\], and \[D, T\+2\] is needed with B = 2, L = 3, D = 4",
        ),
        ("weight", (4, 1), "`weight`"),
        ("both", (10,), "`both`"),
        ("mask", (2, 4), "`mask`"),
    ],
)
def test_what_does_not_fit_is_told(argument: str, shape: tuple[int, ...], message: str) -> None:
    given = {"x": np.ones((2, 3, 4)), "weight": np.ones((4, 5)), "both": np.ones(11), "mask": np.ones((2, 3))}
    with pytest.raises(ValueError, match=message):
        Shapes("x: B L D; weight: D T+2; both: 2D+L; mask?: B L").check(
            "f", {**given, argument: np.ones(shape)}
        )


def test_half_of_a_size_must_be_whole() -> None:
    assert Shapes("x: 2N").check("f", {"x": np.ones(6)}) == {"N": 3}
    with pytest.raises(ValueError, match="`x`"):
        Shapes("x: 2N").check("f", {"x": np.ones(5)})


def test_a_compiled_loop_is_not_entered_with_arrays_that_end_too_early() -> None:
    @kernel("void(f8[::1], f8[::1])", "x: N; y: N")
    def twice(x: np.ndarray, y: np.ndarray) -> None:
        for i in range(x.shape[0]):
            y[i] = 2 * x[i]

    y = np.zeros(2)
    twice(np.ones(2), y=y)
    assert y.tolist() == [2, 2]
    with pytest.raises(
        ValueError, match=r"twice: `y` has the shape \[2\], and \[N\] is needed with N = 1000"
    ):
        twice(np.ones(1000), y)
