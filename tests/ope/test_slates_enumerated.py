"""Estimators of slates in expectation: every slate there is, weighted by the logging policy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ctrkit.ope.structured.slates import (
    SlateIndependentIPS,
    SlateRewardInteractionIPS,
    SlateRows,
    SlateStandardIPS,
)
from ctrkit.ope.structured.slates_additive import SlatePseudoInverse
from ctrkit.ope.structured.slates_cascade import SlateCascadeDoublyRobust
from tests.ope.estimates import once

ACTIONS = 4


class Tree:
    """All rankings of two of four actions, drawn from the top down, with two policies' probabilities."""

    def __init__(self, seed: int, independent: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.slates = [
            slate
            for slate in itertools.product(range(ACTIONS), repeat=2)
            if independent or slate[0] != slate[1]
        ]
        self.rng = rng
        self.top = rng.dirichlet(np.ones(ACTIONS), size=2)  # [policy, action]
        below = rng.dirichlet(np.ones(ACTIONS), size=(2, ACTIONS))
        if independent:
            below = np.repeat(below[:, :1], ACTIONS, axis=1)
        else:
            below[:, np.arange(ACTIONS), np.arange(ACTIONS)] = 0
            below /= below.sum(axis=2, keepdims=True)
        self.below = below  # [policy, action above, action]

    def conditional(self, which: int, slate: tuple[int, ...]) -> list[float]:
        return [self.top[which, slate[0]], self.below[which, slate[0], slate[1]]]

    def joint(self, which: int, slate: tuple[int, ...]) -> float:
        return float(np.prod(self.conditional(which, slate)))

    def marginal(self, which: int, slate: tuple[int, ...]) -> list[float]:
        second = sum(self.joint(which, s) for s in self.slates if s[1] == slate[1])
        return [self.top[which, slate[0]], second]

    def expectation(self, kind: Any, rewards: dict[tuple[int, ...], list[float]], q: Any = None) -> float:
        """The estimator's expectation over the logging policy (0), slate by slate."""
        total = 0.0
        for slate in self.slates:
            both = [np.array([self.conditional(which, slate)]) for which in (1, 0)]
            marginal = [np.array([self.marginal(which, slate)]) for which in (1, 0)]
            predictions = (None, None) if q is None else q(slate)
            estimator = kind(2)
            estimator.update(
                once(SlateRows, np.array([rewards[slate]]), *both, *marginal, None, *predictions)
            )
            total += self.joint(0, slate) * estimator.result().value
        return total

    def truth(self, rewards: dict[tuple[int, ...], list[float]]) -> float:
        return sum(self.joint(1, slate) * sum(rewards[slate]) for slate in self.slates)


@pytest.mark.parametrize("seed", range(3))
def test_unbiased_under_their_models_of_the_reader(seed: int) -> None:
    tree = Tree(seed)
    free = {slate: list(tree.rng.random(2)) for slate in tree.slates}
    top, own, pair = tree.rng.random(ACTIONS), tree.rng.random(ACTIONS), tree.rng.random((ACTIONS, ACTIONS))
    cascade = {slate: [top[slate[0]], pair[slate]] for slate in tree.slates}
    alone = {slate: [top[slate[0]], own[slate[1]]] for slate in tree.slates}
    for kind, rewards in (
        (SlateStandardIPS, free),
        (SlateRewardInteractionIPS, cascade),
        (SlateIndependentIPS, alone),
    ):
        assert tree.expectation(kind, rewards) == pytest.approx(tree.truth(rewards), rel=1e-10), kind.name
    # And not beyond them.
    assert tree.expectation(SlateRewardInteractionIPS, free) != pytest.approx(tree.truth(free), rel=1e-3)
    assert tree.expectation(SlateIndependentIPS, cascade) != pytest.approx(tree.truth(cascade), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_cascade_is_unbiased_whatever_the_model(seed: int) -> None:
    tree = Tree(seed)
    top, pair = tree.rng.random(ACTIONS), tree.rng.random((ACTIONS, ACTIONS))
    rewards = {slate: [top[slate[0]], pair[slate]] for slate in tree.slates}
    q_top, q_pair = tree.rng.uniform(-1, 2, ACTIONS), tree.rng.uniform(-1, 2, (ACTIONS, ACTIONS))

    def wild(slate: tuple[int, int]) -> tuple[Any, Any]:
        first, second = slate
        means = [tree.top[1] @ q_top, tree.below[1, first] @ q_pair[first]]
        return np.array([[q_top[first], q_pair[first, second]]]), np.array([means])

    def right(slate: tuple[int, int]) -> tuple[Any, Any]:
        first, second = slate
        to_go = top + (tree.below[1] * pair).sum(axis=1)
        means = [tree.top[1] @ to_go, tree.below[1, first] @ pair[first]]
        return np.array([[to_go[first], pair[first, second]]]), np.array([means])

    truth = tree.truth(rewards)
    for q in (wild, right):
        assert tree.expectation(SlateCascadeDoublyRobust, rewards, q) == pytest.approx(truth, rel=1e-10)
    # With the right model every slate says the same, the truth: no variance is left.
    for slate in tree.slates:
        both = [np.array([tree.conditional(which, slate)]) for which in (1, 0)]
        estimator = SlateCascadeDoublyRobust(2)
        estimator.update(
            once(
                SlateRows,
                np.array([rewards[slate]]),
                *both,
                q_logged=right(slate)[0],
                q_policy=right(slate)[1],
            )
        )
        assert estimator.result().value == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_pseudo_inverse_is_unbiased_for_rewards_that_add_up(seed: int) -> None:
    independent = Tree(seed, independent=True)
    top, own = independent.rng.random(ACTIONS), independent.rng.random(ACTIONS)
    # All in the first slot: the estimator needs to know no more than the sum.
    rewards = {slate: [top[slate[0]] + own[slate[1]], 0.0] for slate in independent.slates}
    truth = independent.truth(rewards)
    assert independent.expectation(SlatePseudoInverse, rewards) == pytest.approx(truth, rel=1e-10)

    for tree in (independent, Tree(seed)):
        slates = np.array(tree.slates)
        joint = np.array([[tree.joint(which, slate) for slate in tree.slates] for which in (0, 1)])
        shown = np.eye(ACTIONS)[slates]  # [slate, slot, action]
        gram = np.einsum("s,slk,smj->lkmj", joint[0], shown, shown)
        marginal = np.tensordot(joint[1], shown, axes=1)
        # Swaminathan et al. 2017, for any logging policy: q_πᵀ Γ⁺ 1_s, with Γ the moments of (slot, action).
        width = marginal.size
        inverse = np.linalg.pinv(gram.reshape(width, width), rcond=1e-10, hermitian=True)
        weights = shown.reshape(len(slates), width) @ (inverse @ marginal.ravel())
        sums = top[slates[:, 0]] + own[slates[:, 1]]
        assert joint[0] @ weights == pytest.approx(1, rel=1e-9)
        assert joint[0] @ (weights * sums) == pytest.approx(joint[1] @ sums, rel=1e-9)
        if tree is independent:
            both = [np.array([tree.conditional(which, slate) for slate in tree.slates]) for which in (1, 0)]
            closed = SlatePseudoInverse(2).weights(once(SlateRows, np.zeros((len(slates), 2)), *both))
            np.testing.assert_allclose(weights, closed, rtol=1e-9)
