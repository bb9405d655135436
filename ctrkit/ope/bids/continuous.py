"""Estimators for continuous actions, such as bids: kernels replace the match of logged and chosen action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np

from ctrkit.arrays import Floats, Integers
from ctrkit.errors import ConfigError
from ctrkit.ope.bids.kernels import kernel_of
from ctrkit.ope.bids.local_weights import local_kernel
from ctrkit.ope.estimators.base import Estimate, LoggedRows
from ctrkit.ope.estimators.doubly_robust import DoublyRobust
from ctrkit.ope.estimators.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.estimators.reweighted import Reweighted
from ctrkit.ope.estimators.sums import check_propensities, check_row_shapes
from ctrkit.ope.intervals.interval import ConfidenceInterval

# Number of actions at which a model predicts: about this many in all, and limits for each row.
NODES = 300_000
LEAST_AND_MOST_NODES = (9, 33)


@dataclass(frozen=True)
class ContinuousRows:
    """B rows of a log of continuous actions, and what a policy would have chosen.

    Attributes:
        actions: [B] the logged actions, such as bids, in any unit.
        density: [B] the logging policy's probability density at the actions, per that unit. A logging policy
            that always bids the same in the same context has no density, and its log cannot be used here.
        policy: [B] the actions of the new policy.
        rewards: [B].
        q_logged: [B] the reward model's prediction at the logged action, for doubly robust estimators.
        q_policy: [B] the model's mean prediction over the actions of the policy smoothed by the kernel
            (`smoothed`), which the weights stand for. The prediction at the policy's own action differs where
            the model is curved within a bandwidth; with it the estimate would be of neither policy.
        users: [B] keys; a user has the same key in all batches and parts. None: rows are independent.
        counts: [B] number of decisions that each row stands for; 1 where no rows were dropped.

    Raises:
        DataError: an array has another shape, or a density is not above 0.
    """

    actions: Floats
    density: Floats
    policy: Floats
    rewards: Floats
    q_logged: Floats | None = None
    q_policy: Floats | None = None
    users: Integers | None = None
    counts: Floats = field(kw_only=True)

    def __post_init__(self) -> None:
        names = ("density", "policy", "rewards", "q_logged", "q_policy", "users", "counts")
        check_row_shapes(self, names, self.actions.shape)
        check_propensities("density", self.density)


def kernel_weights(
    rows: ContinuousRows, kernel: str, bandwidth: float, action_range: tuple[float, float] | None
) -> tuple[Floats, Floats]:
    """Weights K((π(x) - a) / h) / (h μ(a | x)), [B], and those if the policy's action were logged, [B].

    Kallus and Zhou, Policy Evaluation and Optimization with Continuous Treatments, AISTATS 2018. With an
    `action_range` the kernel is cut at its ends and divided by its mass between them, so that the weights'
    mean stays 1 near the ends. There a bias of the order of h remains, because the kernel is one-sided.

    Args:
        rows: the rows of the log.
        kernel: a name of `KERNELS`.
        bandwidth: h, in the unit of the actions.
        action_range: smallest and largest action that the logging policy draws; None: the kernel is not cut.

    Raises:
        ConfigError: the kernel is unknown, the bandwidth is not above 0, or the range is empty.
    """
    shape = kernel_of(kernel)
    if not (bandwidth > 0 and np.isfinite(bandwidth)):
        raise ConfigError(f"the bandwidth must be above 0, not {bandwidth:g}")
    density = shape.density((rows.policy - rows.actions) / bandwidth)
    scale = bandwidth * rows.density
    if action_range is not None:
        low, high = action_range
        if not low < high:
            raise ConfigError(f"the range of actions from {low:g} to {high:g} is empty")
        ends = [shape.distribution((end - rows.policy) / bandwidth) for end in (low, high)]
        mass = ends[1] - ends[0]
        # An action far outside the range leaves no mass of the kernel in it: its weight is 0.
        scale = np.where(mass > 1e-12, scale * mass, np.inf)
    return density / scale, float(shape.density(np.zeros(1))[0]) / scale


def smoothed(
    predict: Callable[[Floats], Floats],
    policy: Floats,
    kernel: str,
    bandwidth: float,
    action_range: tuple[float, float] | None,
) -> tuple[Floats, Floats]:
    """A model's mean predictions over the actions around the policy's, [B] each.

    The first mean has the weights of `kernel_weights`, the second those of `local_weights`.

    Args:
        predict: gives predictions [B, K] for actions [B, K] of the rows.
        policy: [B] the policy's actions.
        kernel: a name of `KERNELS`.
        bandwidth: h, in the unit of the actions.
        action_range: smallest and largest action that the logging policy draws; None: the kernel is not cut.
    """
    shape = local_kernel(kernel, policy, bandwidth, action_range)
    away = shape.nodes(int(np.clip(NODES // len(policy), *LEAST_AND_MOST_NODES)))
    predicted = predict(policy[:, None] + bandwidth * away)
    means = []
    for share in (kernel_of(kernel).density(away), shape(away)):
        total = share.sum(axis=1, keepdims=True)
        # For an action beyond the range no part of the kernel is left: all nodes count equally.
        left = np.abs(total) > 1e-9
        share = np.divide(share, total, out=np.full(share.shape, 1 / share.shape[1]), where=left)
        means.append(np.asarray((predicted * share).sum(axis=1)))
    return means[0], means[1]


def local_weights(
    rows: ContinuousRows, kernel: str, bandwidth: float, action_range: tuple[float, float] | None
) -> tuple[Floats, Floats, Floats]:
    """Weights K*((a - π(x)) / h) / (h μ(a | x)), [B] (see `LocalKernel`), with the smallest and the largest.

    Returns:
        The weights, and for each row the smallest and the largest weight that it could have had, [B] each.

    Raises:
        ConfigError: a setting is out of bounds (see `kernel_weights`).
    """
    kernel_weights(rows, kernel, bandwidth, action_range)
    shape = local_kernel(kernel, rows.policy, bandwidth, action_range)
    scale = bandwidth * rows.density
    everywhere = shape(np.concatenate([shape.ends.T, shape.nodes(LEAST_AND_MOST_NODES[1])], axis=1))
    return (
        shape((rows.actions - rows.policy) / bandwidth) / scale,
        everywhere.min(axis=1) / scale,
        everywhere.max(axis=1) / scale,
    )


class KernelEstimator(Reweighted[ContinuousRows]):
    """Off-policy evaluation of a deterministic policy of continuous actions.

    The weights are those of a smoothed policy, which draws its action from the kernel around π(x). If the
    density is right, the estimates are unbiased for the smoothed policy, and the intervals are valid for it.
    The intervals do not cover the difference between the smoothed policy's value and the policy's own, which
    is of the order of h² away from the ends of the range.

    The estimate is the reward of one impression, with all others unchanged. It does not cover that the
    actions of one auction use the budget of the next.

    Args:
        kernel: "gaussian", "epanechnikov", "triangular" or "cosine".
        bandwidth: h, in the actions' unit. A smaller one has less bias and more variance.
        action_range: smallest and largest action that the logging policy draws, for the correction at the
            ends; (-inf, inf) if there are no ends. None: no correction.
        reward_range: smallest and largest possible reward (see `Reweighted`). It is used only together with
            `action_range`: without that, the weights' mean may not be 1, as Cressie-Read intervals assume.
        largest_weight: largest possible weight. By default, the largest weight that any row would have with
            the policy's action as the logged one, over rows logged within a bandwidth of it.
    """

    def __init__(
        self,
        kernel: str,
        bandwidth: float,
        action_range: tuple[float, float] | None = None,
        reward_range: tuple[float, float] | None = None,
        largest_weight: float | None = None,
    ) -> None:
        super().__init__(reward_range if action_range is not None else None, largest_weight)
        self.kernel, self.bandwidth, self.action_range = kernel, bandwidth, action_range

    def convert(self, rows: ContinuousRows) -> LoggedRows:
        weights, peaks = kernel_weights(rows, self.kernel, self.bandwidth, self.action_range)
        near = np.abs(rows.policy - rows.actions) <= self.bandwidth
        largest = max(1.0, float(weights.max(initial=0.0)), float(peaks[near].max(initial=0.0)))
        q_logged, q_policy = rows.q_logged, rows.q_policy
        return LoggedRows(weights, rows.rewards, largest, q_logged, q_policy, rows.users, counts=rows.counts)

    def result(self, confidence: float = 0.95) -> Estimate:
        # The intervals' names say that they do not cover the bias of smoothing.
        found = super().result(confidence)
        return replace(
            found,
            interval=_smoothed(found.interval),
            difference_interval=_smoothed(found.difference_interval),
        )


def _smoothed(interval: ConfidenceInterval) -> ConfidenceInterval:
    return replace(interval, method=f"{interval.method}, of the smoothed policy")


class KernelInversePropensityScoring(KernelEstimator):
    """mean(w r), w = K((π(x) - a) / h) / (h μ(a | x)). Kallus and Zhou 2018."""

    name: ClassVar[str] = "kernel-ips"
    kind = InversePropensityScoring


class KernelSelfNormalized(KernelEstimator):
    """Σ w r / Σ w, which corrects for kernel mass lost at the ends of the range. Kallus and Zhou 2018."""

    name: ClassVar[str] = "kernel-snips"
    kind = SelfNormalizedInversePropensityScoring


class KernelDoublyRobust(KernelEstimator):
    """mean(q_K(x) + w (r - q(x, a))), where q_K is the mean of q under the smoothed policy.

    After Kallus and Zhou 2018. They use q(x, π(x)) instead of q_K. That belongs to the policy and the weights
    to the smoothed policy, so the value is wrong for both, by as much as smoothing changes the model.
    """

    name: ClassVar[str] = "kernel-dr"
    kind = DoublyRobust


class _SignedDoublyRobust(DoublyRobust):
    """The doubly robust estimator with weights of mean 1, some of which may be below 0."""

    least_weight = 0.0

    def weight_range(self) -> tuple[float, ...]:
        return self.least_weight, 1.0, self.largest_weight

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        # Any prediction may occur in any row.
        residuals = [weight * (reward - float(q)) for q in (self.least_q[0], self.largest_q[0])]
        return float(self.least_q[1]) + min(residuals), float(self.largest_q[1]) + max(residuals)


class LocalDoublyRobust(KernelEstimator):
    """mean(q_K*(x) + w* (r - q(x, a))): the policy's own value, corrected for smoothing.

    The weights are those of a local quadratic fit (`LocalKernel`); no policy has such weights. If the value
    is smooth in the action, the remaining bias is of the order of h⁴, or h³ at the ends of the range.
    Colangelo and Lee, Double Debiased Machine Learning Nonparametric Inference with Continuous Treatments,
    2020, have this form for kernels of any order. A value that jumps within a bandwidth, as at a floor price,
    is still smoothed.
    """

    name: ClassVar[str] = "local-dr"
    kind = _SignedDoublyRobust

    def convert(self, rows: ContinuousRows) -> LoggedRows:
        weights, least, most = local_weights(rows, self.kernel, self.bandwidth, self.action_range)
        near = np.abs(rows.policy - rows.actions) <= self.bandwidth
        assert isinstance(self.estimator, _SignedDoublyRobust)
        lowest = min(float(weights.min(initial=0.0)), float(least[near].min(initial=0.0)))
        self.estimator.least_weight = min(self.estimator.least_weight, lowest)
        largest = max(1.0, float(weights.max(initial=0.0)), float(most[near].max(initial=0.0)))
        q_logged, q_policy = rows.q_logged, rows.q_policy
        return LoggedRows(weights, rows.rewards, largest, q_logged, q_policy, rows.users, counts=rows.counts)

    def merge(self, other: Self) -> None:
        super().merge(other)
        assert isinstance(self.estimator, _SignedDoublyRobust)
        assert isinstance(other.estimator, _SignedDoublyRobust)
        self.estimator.least_weight = min(self.estimator.least_weight, other.estimator.least_weight)

    def result(self, confidence: float = 0.95) -> Estimate:
        return Reweighted.result(self, confidence)
