"""Slates of several slots, each with a reward: weights of slates, of slots, of slots from the top down."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimator, LoggedRows
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.estimators.reweighted import Reweighted
from ctrkit.ope.estimators.sums import VectorEstimator, check_propensities, check_row_shapes, check_shape
from ctrkit.ope.intervals.interval import ConfidenceInterval, Unseen, cressie_read
from ctrkit.ope.intervals.moments import REWARD, TERM
from ctrkit.ope.intervals.unit_sums import Keys


@dataclass(frozen=True)
class SlateRows:
    """B slates of L slots, the top slot first. The reward of a slate is the sum of its slots'.

    Attributes:
        rewards: [B, L].
        policy: [B, L] the policy's probability of each slot's action, given the actions above it.
        logging: [B, L] the logging policy's.
        policy_marginal: [B, L] the policy's marginal probability of each slot's action, over all actions
            above it. None: slots are filled independently, and it is `policy`.
        logging_marginal: [B, L] the logging policy's marginal probability. None: it is `logging`.
        shown: [B, L] 1 where the slate has the slot, 0 where it is shorter. None: all are full.
        q_logged: [B, L] a model's prediction of the rewards from slot l on, at the logged actions.
        q_policy: [B, L] its mean over the policy's choice for slot l, given the logged actions above it.
        users: [B] keys, the same of a user in all batches and parts. None: slates are independent.
        counts: [B] how many slates each stands for: 1, but where others like it were dropped.

    Raises:
        DataError: for arrays of other shapes, and actions that were shown with no probability.
    """

    rewards: Floats
    policy: Floats
    logging: Floats
    policy_marginal: Floats | None = None
    logging_marginal: Floats | None = None
    shown: Floats | None = None
    q_logged: Floats | None = None
    q_policy: Floats | None = None
    users: Keys | None = None
    counts: Floats = field(kw_only=True)

    def __post_init__(self) -> None:
        names = ("policy", "logging", "policy_marginal", "logging_marginal", "shown", "q_logged", "q_policy")
        check_row_shapes(self, names, self.rewards.shape)
        check_row_shapes(self, ("users", "counts"), (len(self.rewards),))
        check_propensities("logging", self.logging, self.shown)
        if self.logging_marginal is not None:
            check_propensities("logging_marginal", self.logging_marginal, self.shown)

    @property
    def mask(self) -> Floats:
        """[B, L] 1 where the slate has the slot."""
        return np.ones(self.rewards.shape) if self.shown is None else self.shown.astype(np.float64)

    def ratios(self) -> Floats:
        """[B, L] π / μ of each slot's action given those above it; 1 where the slate has no such slot."""
        return self._ratio(self.policy, self.logging)

    def marginal_ratios(self) -> Floats:
        """[B, L] π / μ of each slot's action whatever stands above it; 1 where there is no such slot."""
        policy = self.policy if self.policy_marginal is None else self.policy_marginal
        logging = self.logging if self.logging_marginal is None else self.logging_marginal
        return self._ratio(policy, logging)

    def _ratio(self, policy: Floats, logging: Floats) -> Floats:
        return np.divide(policy, logging, out=np.ones(self.rewards.shape), where=self.mask > 0)

    def slot_rewards(self) -> Floats:
        """[B, L] the rewards; 0 where the slate has no such slot."""
        return np.where(self.mask > 0, self.rewards, 0.0)

    def padded(self, slots: int) -> Self:
        """The same slates with room for `slots` slots, at least L; the new ones are not shown."""
        more = slots - self.rewards.shape[1]
        arrays = {name: getattr(self, name) for name in _PADDING} | {"shown": self.mask}
        wide: dict[str, Any] = {
            name: None
            if array is None
            else np.pad(array, ((0, 0), (0, more)), constant_values=_PADDING[name])
            for name, array in arrays.items()
        }
        return replace(self, **wide)


# What stands in a slot that a slate does not have.
_PADDING = {
    "rewards": 0.0,
    "policy": 1.0,
    "logging": 1.0,
    "policy_marginal": 1.0,
    "logging_marginal": 1.0,
    "shown": 0.0,
    "q_logged": 0.0,
    "q_policy": 0.0,
}


def slate_range(slots: int, reward_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """The least and the largest reward of a slate, from those of a slot, which may be missing."""
    if reward_range is None:
        return None
    return slots * min(reward_range[0], 0.0), slots * max(reward_range[1], 0.0)


class SlateStandardIPS(Reweighted[SlateRows]):
    """mean(Π_l w_l · Σ_l r_l), w_l = π(a_l | x, a_1..a_{l-1}) / μ(a_l | x, a_1..a_{l-1}).

    McInerney, Brost, Chandar, Mehrotra and Carterette, Counterfactual Evaluation of Slate Recommendations
    with Sequential Reward Interactions, KDD 2020, equation 1: unbiased however slots act on one another, with
    a variance that grows exponentially with their number.

    Args:
        slots: L.
        reward_range: the least and the largest reward of one slot; without it intervals are normal ones.
        largest_weight: of a slate; by default the largest seen.
    """

    name: ClassVar[str] = "sips"
    kind: ClassVar[type[Estimator]] = InversePropensityScoring

    def __init__(
        self,
        slots: int,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        super().__init__(slate_range(slots, reward_range), largest_weight)
        self.slots, self.slot_range = slots, reward_range

    def widen(self, slots: int) -> None:
        """Reckon from now on with slates of up to `slots` slots, at least as many as before."""
        self.slots = slots
        self.estimator.reward_range = slate_range(slots, self.slot_range)

    def weights(self, rows: SlateRows) -> Floats:
        """The weight of each slate, [B]."""
        return np.asarray(rows.ratios().prod(axis=1))

    def convert(self, rows: SlateRows) -> LoggedRows:
        check_shape("rewards", rows.rewards, (len(rows.rewards), self.slots))
        weights = self.weights(rows)
        largest = max(1.0, float(weights.max(initial=0.0)))
        rewards = rows.slot_rewards().sum(axis=1)
        return LoggedRows(weights, rewards, largest, users=rows.users, counts=rows.counts)


class SelfNormalizedSlateStandardIPS(SlateStandardIPS):
    """Σ Π w_l Σ r_l / Σ Π w_l. McInerney et al. 2020; biased by O(1/n)."""

    name: ClassVar[str] = "snsips"
    kind = SelfNormalizedInversePropensityScoring


class SlotwiseEstimator(VectorEstimator[SlateRows]):
    """mean(Σ_l w_l r_l) with a weight a slot, each of mean 1.

    With a range of rewards the interval is Cressie-Read's, which makes use of E[mean_l w_l] = 1: the terms of
    a slate whose slots' weights have the mean W lie between L W times the least and L W times the largest
    reward of a slot. Without one it is normal, by the delta method.

    Args:
        slots: L.
        reward_range: the least and the largest reward of one slot.
        largest_weight: the largest mean weight of a slate's slots; by default the largest seen.
    """

    def __init__(
        self,
        slots: int,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        # z: 1; mean weight; reward; then by slot: is it shown, its weight if so, its weighted reward.
        super().__init__(3 + 3 * slots)
        self.slots, self.reward_range = slots, reward_range
        self.largest_weight = largest_weight
        self.largest_seen = 1.0

    def widen(self, slots: int) -> None:
        """Reckon from now on with slates of up to `slots` slots, at least as many as before.

        To the slates seen that adds slots which none of them has: of weight 1, with no reward.
        """
        before, self.slots = self.slots, slots
        spread = np.zeros((3 + 3 * slots, 3 + 3 * before))
        spread[[0, 2], [0, 2]] = 1.0
        spread[1, :2] = (slots - before) / slots, before / slots
        for block in range(3):
            old, new = 3 + block * before, 3 + block * slots
            spread[new : new + before, old : old + before] = np.eye(before)
        self.sums.project(spread)
        self.largest_seen = float(spread[1, :2] @ [1.0, self.largest_seen])

    @abstractmethod
    def weights(self, rows: SlateRows) -> Floats:
        """The weights of slots, [B, L]; 1 where a slate has no such slot."""

    def slot_terms(self, rows: SlateRows, weights: Floats) -> Floats:
        """What each slot adds to the term of its slate, [B, L]."""
        return np.asarray(weights * rows.slot_rewards())

    def vectors(self, rows: SlateRows) -> Floats:
        check_shape("rewards", rows.rewards, (len(rows.rewards), self.slots))
        weights, mask, rewards = self.weights(rows), rows.mask, rows.slot_rewards()
        terms = self.slot_terms(rows, weights)
        mean_weight = weights.mean(axis=1)
        self.largest_seen = max(self.largest_seen, float(mean_weight.max(initial=0.0)))
        columns = [np.ones(len(rewards)), mean_weight, rewards.sum(axis=1)]
        return np.concatenate([np.stack(columns), mask.T, (weights * mask).T, terms.T])

    def merge(self, other: Self) -> None:
        super().merge(other)
        self.largest_seen = max(self.largest_seen, other.largest_seen)

    def by_slot(self) -> tuple[Floats, Floats, Floats]:
        """Means over slates, [L] each: of having the slot, of its weight, and of its weighted reward."""
        shown, weight, weighted = self.sums.mean[3:].reshape(3, self.slots)
        return shown, weight, weighted

    def value(self) -> float:
        return float(self.by_slot()[2].sum())

    def direction(self) -> Floats:
        return self.terms()

    def terms(self) -> Floats:
        """Coefficients of z that give Σ_l w_l r_l."""
        return np.concatenate([np.zeros(3 + 2 * self.slots), np.ones(self.slots)])

    def reward(self) -> Floats:
        return np.asarray(np.eye(len(self.sums.rows))[2])

    def interval(self, value: float, of_difference: bool, confidence: float) -> ConfidenceInterval:
        total = slate_range(self.slots, self.reward_range)
        if total is None:
            return super().interval(value, of_difference, confidence)
        moments = self.sums.moments(np.eye(len(self.sums.rows))[1], self.terms(), self.reward())
        largest = self.largest_seen if self.largest_weight is None else self.largest_weight
        unseen = [Unseen(weight, *self._unseen_terms(weight, of_difference)) for weight in (0.0, largest)]
        found = cressie_read(moments, TERM - of_difference * REWARD, unseen, confidence)
        least, most = total
        low, high = np.clip(
            [found.low, found.high], least - of_difference * most, most - of_difference * least
        )
        return ConfidenceInterval(float(low), float(high), found.method)

    def model_range(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Least and largest of what a model adds to a slate's term: as it is, and times a slot's weight."""
        return (0.0, 0.0), (0.0, 0.0)

    def _unseen_terms(self, mean_weight: float, of_difference: bool) -> tuple[float, float]:
        """The least and the largest Σ_l (w_l - of_difference) r_l of slots' weights w ≥ 0 with this mean.

        Its bounds are convex or concave in each w_l, so at their extremes one slot bears all the weight.
        """
        assert self.reward_range is not None
        rewards = (min(self.reward_range[0], 0.0), max(self.reward_range[1], 0.0))
        plain, weighted = self.model_range()

        def bounds(weight: float) -> tuple[float, float]:
            terms = [(weight - of_difference) * reward for reward in rewards]
            return min(terms) + weight * weighted[0], max(terms) + weight * weighted[1]

        (low, high), (low_none, high_none) = bounds(self.slots * mean_weight), bounds(0.0)
        others = self.slots - 1
        return plain[0] + low + others * low_none, plain[1] + high + others * high_none


class SlateIndependentIPS(SlotwiseEstimator):
    """mean(Σ_l w_l r_l), w_l = π(a_l | x) / μ(a_l | x) whatever stands in the other slots.

    Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen, Offline Evaluation of Ranking Policies with
    Click Models, KDD 2018; McInerney et al. 2020, equation 2. Unbiased where a slot's reward depends on its
    own action only (the item-position model).
    """

    name: ClassVar[str] = "iips"

    def weights(self, rows: SlateRows) -> Floats:
        return rows.marginal_ratios()


class SlateRewardInteractionIPS(SlotwiseEstimator):
    """mean(Σ_l w_1 ··· w_l r_l), w_l = π(a_l | x, a_1..a_{l-1}) / μ(a_l | x, a_1..a_{l-1}).

    McInerney et al. 2020: unbiased where a slot's reward depends on its own action and those above
    it, as for a user who reads from the top down (the cascade model).
    """

    name: ClassVar[str] = "rips"

    def weights(self, rows: SlateRows) -> Floats:
        return np.where(rows.mask > 0, rows.ratios().cumprod(axis=1), 1.0)


class _SelfNormalized(SlotwiseEstimator):
    """Σ_l (share of slates with slot l) · Σ w_l r_l / Σ w_l, the inner sums over the slates with slot l.

    Swaminathan and Joachims, The Self-Normalized Estimator for Counterfactual Learning, NeurIPS 2015, slot by
    slot as in McInerney et al. 2020; biased by O(1/n). NaN where all weights of a slot are 0. Its
    Cressie-Read interval is that of the form which is not normalised.
    """

    def value(self) -> float:
        shown, weight, weighted = self.by_slot()
        there = shown > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            return float((shown * weighted / weight)[there].sum())

    def direction(self) -> Floats:
        shown, weight, weighted = self.by_slot()
        weight = np.where(weight > 0, weight, np.inf)
        mean = weighted / weight
        return np.concatenate([np.zeros(3), mean, -shown * mean / weight, shown / weight])


class SelfNormalizedSlateIndependentIPS(_SelfNormalized, SlateIndependentIPS):
    """Independent IPS, each slot normalised by its own weights (see `SlateIndependentIPS`)."""

    name: ClassVar[str] = "sniips"


class SelfNormalizedSlateRewardInteractionIPS(_SelfNormalized, SlateRewardInteractionIPS):
    """Reward-interaction IPS, each slot normalised by its own weights (see `SlateRewardInteractionIPS`)."""

    name: ClassVar[str] = "snrips"
