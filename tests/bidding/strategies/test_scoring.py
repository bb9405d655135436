from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import norm

from ctrkit.bidding.strategies.base import Floats, Indices
from ctrkit.bidding.strategies.scoring import Hidden, best_of, best_under, shares


def best_under_numpy(
    calibrated: Floats, hidden: Hidden, worth: Floats, weights: Floats, rows: Indices, draws: Indices
) -> tuple[Indices, Floats]:
    """`best_under` in words of NumPy."""
    drawn, place = weights[draws], np.repeat(rows, draws.shape[1])
    score = np.einsum("mkd,mld->mlk", hidden[rows], drawn[..., :-1]) + drawn[..., -1:]
    ad, value = best_of(calibrated[place] + score.reshape(len(place), -1), worth[place])
    return ad.reshape(draws.shape), value.reshape(draws.shape)


class Case(NamedTuple):
    """Arguments of `best_under`."""

    calibrated: Floats
    hidden: Hidden
    worth: Floats
    weights: Floats
    rows: Indices
    draws: Indices


def case(seed: int, worths: tuple[float, ...] = (1.0,), kind: type = np.float64) -> Case:
    """50 slots of 1 to 9 candidates, some of them absent; 40 rows in any order, three draws each."""
    rng = np.random.default_rng(seed)
    ads, width, pool = int(rng.integers(1, 10)), int(rng.integers(1, 20)), int(rng.integers(1, 12))
    calibrated = rng.normal(-3, 1.5, (50, ads))
    calibrated[rng.random((50, ads)) < 0.2] = -np.inf
    return Case(
        calibrated,
        rng.normal(size=(50, ads, width)).astype(kind),
        rng.choice(worths, size=(50, ads)),
        rng.normal(size=(pool, width + 1)),
        rng.integers(50, size=40),
        rng.integers(pool, size=(40, 3)),
    )


def by_hand(one: Case, place: int, column: int) -> list[float]:
    """The value of each candidate, −1 where there is none."""
    i, weight = one.rows[place], one.weights[one.draws[place, column]]
    found = []
    for k in range(one.calibrated.shape[1]):
        logit = one.calibrated[i, k] + math.fsum([*(one.hidden[i, k] * weight[:-1]), weight[-1]])
        found.append(-1.0 if logit == -math.inf else float(one.worth[i, k]) / (1.0 + math.exp(-logit)))
    return found


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("worths", [(1.0,), (0.5, 1.0, 7.0), (0.0, 1.0), (0.0,)])
def test_the_kernel_is_the_reference_and_both_what_is_found_by_hand(
    worths: tuple[float, ...], kind: type
) -> None:
    for seed in range(12):
        one = case(seed, worths, kind)
        ad, value = best_under(*one)
        other, same = best_under_numpy(*one)
        np.testing.assert_array_equal(ad, other)
        np.testing.assert_allclose(value, same, rtol=1e-12)
        for place, column in ((0, 0), (7, 1), (39, 2)):
            expected = by_hand(one, place, column)
            assert value[place, column] == pytest.approx(max(*expected, 0.0), rel=1e-10)
            if any(worths):
                assert expected[ad[place, column]] == pytest.approx(max(expected), rel=1e-10)


def test_values_that_are_the_same_go_to_the_likelier_and_then_to_the_first() -> None:
    def best(logit: list[float], worth: list[float]) -> tuple[int, float]:
        ad, value = best_of(np.array([logit]), np.array([worth]))
        n = len(logit)
        compiled = best_under(
            np.array([logit]), np.zeros((1, n, 1)), np.array([worth]), np.zeros((1, 2)),
            np.zeros(1, np.intp), np.zeros((1, 1), np.intp),
        )  # fmt: skip
        assert (ad[0], value[0]) == (compiled[0][0, 0], compiled[1][0, 0])
        return int(ad[0]), float(value[0])

    absent = -np.inf
    assert best([absent, -1.0, -1.0], [1.0, 1.0, 1.0])[0] == 1
    assert best([-2.0, -1.0, -3.0], [0.0, 0.0, 0.0]) == (1, 0.0)
    # Beyond a logit of 40 all probabilities are 1.
    assert best([45.0, 50.0, 48.0], [2.0, 1.0, 2.0]) == (2, 2.0)
    assert best([absent, absent], [3.0, 5.0]) == (0, 0.0)
    assert best([absent, -30.0], [9.0, 0.0]) == (1, 0.0)


def test_views_are_taken_as_they_are() -> None:
    one = case(3, (1.0, 2.0))
    strided = Case(*(np.asfortranarray(part) for part in one))
    for found, expected in zip(best_under(*strided), best_under(*one), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("worths", [(1.0,), (0.5, 1.0, 7.0)])
def test_shares_count_the_weights_under_which_an_ad_is_the_best(worths: tuple[float, ...]) -> None:
    for seed in range(10):
        one = case(seed, worths)
        found = shares(*one[:5])
        count, ads = len(one.weights), one.calibrated.shape[1]
        every = np.broadcast_to(np.arange(count), (len(one.rows), count))
        chosen, _ = best_under_numpy(*one[:5], every)
        np.testing.assert_array_equal(found, (chosen[:, :, None] == np.arange(ads)).mean(axis=1))
        np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
        present = one.calibrated[one.rows] > -np.inf
        assert not found[~present & present.any(axis=1, keepdims=True)].any()


def test_shares_of_two_are_the_normal_probability() -> None:
    """Of two ads of equal worth the first is better under w ~ N(m, S) with chance Φ(gap / deviation)."""
    rng = np.random.default_rng(0)
    root, mean = rng.normal(size=(5, 5)), rng.normal(size=5)
    weights = mean + rng.standard_normal((100_000, 5)) @ root.T
    calibrated, hidden = rng.normal(size=(8, 2)), rng.normal(size=(8, 2, 4))
    found = shares(calibrated, hidden, np.ones((8, 2)), weights, np.arange(8))
    difference = np.append(hidden[:, 0] - hidden[:, 1], np.zeros((8, 1)), axis=1)
    gap = calibrated[:, 0] - calibrated[:, 1] + difference @ mean
    exact = norm.cdf(gap / np.sqrt(((difference @ root) ** 2).sum(axis=1)))
    np.testing.assert_allclose(found[:, 0], exact, atol=5 * 0.5 / np.sqrt(100_000))


def test_a_row_asked_for_twice_is_answered_twice() -> None:
    one = case(5)
    twice = shares(*one[:4], np.array([4, 4, 2]))
    np.testing.assert_array_equal(twice[0], twice[1])
    np.testing.assert_array_equal(twice[2], shares(*one[:4], np.array([2]))[0])
    assert shares(*one[:4], np.empty(0, np.intp)).shape == (0, one.calibrated.shape[1])
