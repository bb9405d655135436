"""The weights that a log may be expected to hold."""

from __future__ import annotations

import numpy as np
import pytest

from ctrkit.ope.estimators.weights import WeightTail


def distributions(rows: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.dirichlet(np.ones(candidates), size=rows), rng.dirichlet(np.full(candidates, 0.3), size=rows)


def test_largest_weight_to_reckon_with() -> None:
    """Pairs of row and candidate from the largest weight down, until one event is expected among them."""
    policy, logging = distributions(200, 6)
    pairs = sorted(zip((policy / logging).ravel(), logging.ravel(), strict=True), reverse=True)
    total = mass = 0.0
    for weight, chance in pairs:
        total, mass = total + chance, mass + weight * chance
        if total >= 1:
            break
    tail = WeightTail()
    tail.update(policy, logging, np.ones(len(policy)))
    assert tail.largest == pytest.approx(mass / total)
    assert tail.largest < (policy / logging).max()


def test_parts_merged_are_the_whole() -> None:
    policy, logging = distributions(300, 6)
    whole, one, two = WeightTail(), WeightTail(), WeightTail()
    whole.update(policy, logging, np.ones(len(policy)))
    one.update(policy[:40], logging[:40], np.ones(len(policy[:40])))
    one.update(policy[40:150], logging[40:150], np.ones(len(policy[40:150])))
    two.update(policy[150:], logging[150:], np.ones(len(policy[150:])))
    one.merge(two)
    assert one.largest == pytest.approx(whole.largest)
    assert len(whole.weights) < 1800


def test_a_common_largest_weight_is_found_exactly() -> None:
    tail = WeightTail()
    tail.update(np.tile([0.7, 0.3], (100, 1)), np.tile([0.1, 0.9], (100, 1)), np.ones(100))
    assert tail.largest == pytest.approx(7)


def test_candidates_that_are_never_logged_have_no_weight() -> None:
    tail = WeightTail()
    tail.update(np.array([[0.5, 0.25, 0.25]]), np.array([[0.5, 0.5, 0.0]]), np.ones(1))
    assert tail.largest == pytest.approx(0.75)
