"""The doubly robust estimator of slates that are read from the top down."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.structured.slates import SlateRewardInteractionIPS, SlateRows


class SlateCascadeDoublyRobust(SlateRewardInteractionIPS):
    """mean(Σ_l w_{1:l} (r_l - Q_l(a_1..a_l)) + w_{1:l-1} Σ_a π(a | a_1..a_{l-1}) Q_l(a_1..a_{l-1}, a)).

    Kiyohara, Saito, Matsuhiro, Narita, Shimizu and Yamamoto, Doubly Robust Off-Policy Evaluation for Ranking
    Policies under the Cascade Behavior Model, WSDM 2022. Q_l predicts the rewards of the slots
    from l down, under the policy, given the actions down to l. Unbiased under the cascade model whatever Q
    is, if it has not seen the user; with less variance than reward-interaction IPS as far as Q is right.

    The rows need q_logged and q_policy.
    """

    name: ClassVar[str] = "cascade-dr"

    def __init__(
        self,
        slots: int,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        super().__init__(slots, reward_range, largest_weight)
        # Least and largest q_logged and q_policy; 0 is what a missing slot has.
        self.least_q = np.zeros(2)
        self.largest_q = np.zeros(2)

    def slot_terms(self, rows: SlateRows, weights: Floats) -> Floats:
        if rows.q_logged is None or rows.q_policy is None:
            raise ValueError("this estimator needs q_logged and q_policy of a reward model")
        mask = rows.mask > 0
        q_logged, q_policy = (np.where(mask, q, 0.0) for q in (rows.q_logged, rows.q_policy))
        self._widen(
            np.array([q_logged.min(initial=0.0), q_policy.min(initial=0.0)]),
            np.array([q_logged.max(initial=0.0), q_policy.max(initial=0.0)]),
        )
        above = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)
        return np.asarray(weights * (rows.slot_rewards() - q_logged) + above * q_policy)

    def merge(self, other: Self) -> None:
        super().merge(other)
        self._widen(other.least_q, other.largest_q)

    def _widen(self, least: Floats, largest: Floats) -> None:
        self.least_q = np.minimum(self.least_q, least)
        self.largest_q = np.maximum(self.largest_q, largest)

    def model_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The ranges of q_policy of the top slot, and of q_policy of the next slot minus q_logged."""
        (least_logged, least_policy), (largest_logged, largest_policy) = self.least_q, self.largest_q
        return (
            (float(least_policy), float(largest_policy)),
            (float(least_policy - largest_logged), float(largest_policy - least_logged)),
        )
