"""Interleaving simulated on a log, for which the better ranker is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from ctrkit.experiments.preference import preference_of
from ctrkit.experiments.simulation import Method, rankings, simulate

METHODS: tuple[Method, ...] = get_args(Method)


def test_rankings_are_those_of_each_request() -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.5, 2.0])
    found = rankings(scores, np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 3, 1, 2, 0.0]))
    assert found == [[1, 0], [1, 2, 0], [0]]


@pytest.mark.parametrize("method", METHODS)
def test_the_better_ranker_is_preferred(method: Method) -> None:
    rng, n, k = np.random.default_rng(0), 1500, 6
    chance = rng.random((n, k)) / 3
    good, bad = (chance + rng.normal(0, noise, (n, k)) for noise in (0.1, 1.0))
    clicked, requests = rng.random((n, k)) < chance, np.repeat(np.arange(n), k)
    worse, better = (rankings(each.reshape(-1), requests, rng.random(n * k)) for each in (bad, good))
    found = simulate(worse, better, [*clicked], range(n), 3, method)
    told = preference_of(found.preferences, np.arange(n), 0.95)
    assert told.low > 0
    assert told.signs.low is not None
    assert told.signs.low > 0.5
    for row in (0, 1, 700):
        for which, order in enumerate((worse, better)):
            assert found.clicks[which, row] == clicked[row][order[row][:3]].sum()
    back = simulate(better, worse, [*clicked], range(n), 3, method)
    assert preference_of(back.preferences, np.arange(n), 0.95).high < 0


@pytest.mark.parametrize("method", METHODS)
def test_rankers_that_guess_are_not_told_apart(method: Method) -> None:
    rng, n, k = np.random.default_rng(1), 1500, 5
    first, second = ([rng.permutation(k).tolist() for _ in range(n)] for _ in range(2))
    found = simulate(first, second, [*(rng.random((n, k)) < 0.3)], range(n), k, method)
    assert preference_of(found.preferences, np.arange(n), 0.95).p_value > 0.01
    assert not found.same.all()
