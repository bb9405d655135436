from __future__ import annotations

import numpy as np
import pytest

from ctrkit.data.quarters import ordered_values, quarters_of


def test_hours_are_parts_of_the_day() -> None:
    assert quarters_of(range(24)) == tuple(1 + hour // 6 for hour in range(24))


@pytest.mark.parametrize("seed", range(3))
def test_each_quarter_holds_a_fourth_of_the_values_in_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.arange(-500, 500), rng.integers(8, 100), replace=False)
    found = np.array(quarters_of(values.tolist()))
    assert (np.diff(found[np.argsort(values)]) >= 0).all()
    assert np.ptp(np.bincount(found, minlength=5)[1:]) <= 1


def test_no_value_has_no_quarter() -> None:
    assert quarters_of([]) == ()


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        ([str(hour) for hour in range(23, -1, -1)], list(range(23, -1, -1))),
        ([*map(str, range(8)), "other"], None),  # names
        (["1", "01", *map(str, range(2, 9))], None),  # two names of one number
        ([str(n) for n in range(7)], None),  # few
        ([str(n) for n in range(101)], None),  # many
        ([f"{n}.5" for n in range(9)], None),
    ],
    ids=["hours", "names", "twice", "few", "many", "fractions"],
)
def test_only_whole_numbers_have_an_order(vocabulary: list[str], expected: list[int] | None) -> None:
    assert ordered_values(vocabulary) == expected
