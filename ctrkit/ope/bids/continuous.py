"""Continuous actions, such as bids: kernels in place of the match between logged and chosen action."""

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
from ctrkit.ope.estimators.sums import check_propensities, check_shape
from ctrkit.ope.intervals.interval import ConfidenceInterval

# Actions at which a model is asked: about so many in all, and at least and at most so many a row.
NODES = 300_000
LEAST_AND_MOST_NODES = (9, 33)


@dataclass(frozen=True)
class ContinuousRows:
    """B rows of a log of continuous actions, and what a policy would have chosen.

    Attributes:
        actions: [B] the logged actions, such as bids, in any unit.
        density: [B] the logging policy's probability density at them, per that unit. A logging policy that
            always bids the same in the same context has none, and its log holds no answer here.
        policy: [B] the actions of the policy in question.
        rewards: [B].
        q_logged: [B] the reward model's prediction at the logged action, for the doubly robust form.
        q_policy: [B] its mean prediction over the actions for which the weights stand: those of the policy
            smoothed by the kernel (`smoothed`). Its prediction at the policy's own action is another number
            where the model bends within a bandwidth, and the estimate is then of neither policy.
        users: [B] keys, the same of a user in all batches and parts. None: rows are independent.
        counts: [B] how many decisions each row stands for: 1, but where others like it were dropped.

    Raises:
        DataError: for arrays of other shapes, and densities that are not above 0.
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
        for name in ("density", "policy", "rewards", "q_logged", "q_policy", "users", "counts"):
            array = getattr(self, name)
            if array is not None:
                check_shape(name, array, self.actions.shape)
        check_propensities("density", self.density)


def kernel_weights(
    rows: ContinuousRows, kernel: str, bandwidth: float, action_range: tuple[float, float] | None
) -> tuple[Floats, Floats]:
    """K((π(x) - a) / h) / (h μ(a | x)), [B], and the weights had the policy's own action been logged, [B].

    Kallus and Zhou, Policy Evaluation and Optimization with Continuous Treatments, AISTATS 2018.
    Within an `action_range` the kernel is cut at its ends and divided by its mass between them, so that the
    weights' mean stays 1 near the ends. A bias of the order of h stays there: the kernel lies to one side.

    Raises:
        ConfigError: for an unknown kernel, a bandwidth that is not above 0, and an empty range.
    """
    shape = kernel_of(kernel)
    if not (bandwidth > 0 and np.isfinite(bandwidth)):
        raise ConfigError(f"a bandwidth of {bandwidth:g} is not above 0")
    density = shape.density((rows.policy - rows.actions) / bandwidth)
    scale = bandwidth * rows.density
    if action_range is not None:
        low, high = action_range
        if not low < high:
            raise ConfigError(f"a range of actions from {low:g} to {high:g} is empty")
        ends = [shape.distribution((end - rows.policy) / bandwidth) for end in (low, high)]
        mass = ends[1] - ends[0]
        # A policy far outside the range has no mass within it, and no weight on what was logged.
        scale = np.where(mass > 1e-12, scale * mass, np.inf)
    return density / scale, float(shape.density(np.zeros(1))[0]) / scale


def smoothed(
    predict: Callable[[Floats], Floats],
    policy: Floats,
    kernel: str,
    bandwidth: float,
    action_range: tuple[float, float] | None,
) -> tuple[Floats, Floats]:
    """A model's mean prediction over the actions that a row's weights stand for, [B] each.

    Of the weights of `kernel_weights`, and of those of `local_weights`.

    Args:
        predict: predictions of actions [B, K] in the rows.
        policy: [B] the policy's actions.
    """
    shape = local_kernel(kernel, policy, bandwidth, action_range)
    away = shape.nodes(int(np.clip(NODES // len(policy), *LEAST_AND_MOST_NODES)))
    predicted = predict(policy[:, None] + bandwidth * away)
    means = []
    for share in (kernel_of(kernel).density(away), shape(away)):
        total = share.sum(axis=1, keepdims=True)
        # Of an action beyond the range no part of the kernel is left.
        left = np.abs(total) > 1e-9
        share = np.divide(share, total, out=np.full(share.shape, 1 / share.shape[1]), where=left)
        means.append(np.asarray((predicted * share).sum(axis=1)))
    return means[0], means[1]


def local_weights(
    rows: ContinuousRows, kernel: str, bandwidth: float, action_range: tuple[float, float] | None
) -> tuple[Floats, Floats, Floats]:
    """K*((a - π(x)) / h) / (h μ(a | x)), [B], see `LocalKernel`; and the least and the largest, [B] each,
    that the row could have had.

    Raises:
        ConfigError: see `kernel_weights`.
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

    The weights are exactly those of a policy that draws its action from the kernel around π(x). So for that
    smoothed policy the estimates are unbiased, under a right density, and their intervals mean what they
    say; how far the smoothed policy's value lies from the policy's own, of the order of h² away from the
    ends of the range, no interval here contains.

    Actions of one auction take from the budget of the next: what is estimated is the reward of one
    impression, the others left as they were.

    Args:
        kernel: "gaussian", "epanechnikov", "triangular" or "cosine".
        bandwidth: h, in the actions' unit: less bias and more variance, the smaller.
        action_range: the least and the largest action that the logging policy draws, for the correction at
            the ends; (-inf, inf) says that there are no ends. None: no correction.
        reward_range: see `Reweighted`. It is made use of together with `action_range` only, without which
            the weights' mean need not be 1, as Cressie-Read intervals take it to be.
        largest_weight: by default the largest weight which a row logged within a bandwidth of the policy's
            action would have had, had it been that action.
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
        """See `Reweighted`."""
        weights, peaks = kernel_weights(rows, self.kernel, self.bandwidth, self.action_range)
        near = np.abs(rows.policy - rows.actions) <= self.bandwidth
        largest = max(1.0, float(weights.max(initial=0.0)), float(peaks[near].max(initial=0.0)))
        q_logged, q_policy = rows.q_logged, rows.q_policy
        return LoggedRows(weights, rows.rewards, largest, q_logged, q_policy, rows.users, counts=rows.counts)

    def result(self, confidence: float = 0.95) -> Estimate:
        """See `Reweighted`; the intervals' names say that they leave out the bias of smoothing."""
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
    """Σ w r / Σ w, which stands the loss of kernel mass at the ends of the range. Kallus and Zhou 2018."""

    name: ClassVar[str] = "kernel-snips"
    kind = SelfNormalizedInversePropensityScoring


class KernelDoublyRobust(KernelEstimator):
    """mean(q_K(x) + w (r - q(x, a))), q_K the mean of q under the smoothed policy.

    After Kallus and Zhou 2018. They take q(x, π(x)) in its place, which is another policy's than the weights
    are: the value is then right for neither, by as much as smoothing moves the model.
    """

    name: ClassVar[str] = "kernel-dr"
    kind = DoublyRobust


class _SignedDoublyRobust(DoublyRobust):
    """The doubly robust estimator with weights that may be below 0, though their mean is 1."""

    least_weight = 0.0

    def weight_range(self) -> tuple[float, ...]:
        """See `WeightedEstimator`."""
        return self.least_weight, 1.0, self.largest_weight

    def unseen_terms(self, weight: float, reward: float) -> tuple[float, float]:
        """See `WeightedEstimator`; any prediction may fall on any row."""
        residuals = [weight * (reward - float(q)) for q in (self.least_q[0], self.largest_q[0])]
        return float(self.least_q[1]) + min(residuals), float(self.largest_q[1]) + max(residuals)


class LocalDoublyRobust(KernelEstimator):
    """mean(q_K*(x) + w* (r - q(x, a))): of the policy itself, the smoothing taken out.

    The weights are those of a local quadratic fit (`LocalKernel`), which no policy has; what they leave of
    the bias of smoothing is of the order of h⁴, or h³ at the ends of the range, for a value that is smooth in
    the action. Colangelo and Lee, Double Debiased Machine Learning Nonparametric Inference with Continuous
    Treatments, 2020, have this form for kernels of any order. A value that jumps within a bandwidth, as at a
    floor price, is smoothed nonetheless.
    """

    name: ClassVar[str] = "local-dr"
    kind = _SignedDoublyRobust

    def convert(self, rows: ContinuousRows) -> LoggedRows:
        """See `Reweighted`."""
        weights, least, most = local_weights(rows, self.kernel, self.bandwidth, self.action_range)
        near = np.abs(rows.policy - rows.actions) <= self.bandwidth
        assert isinstance(self.estimator, _SignedDoublyRobust)
        lowest = min(float(weights.min(initial=0.0)), float(least[near].min(initial=0.0)))
        self.estimator.least_weight = min(self.estimator.least_weight, lowest)
        largest = max(1.0, float(weights.max(initial=0.0)), float(most[near].max(initial=0.0)))
        q_logged, q_policy = rows.q_logged, rows.q_policy
        return LoggedRows(weights, rows.rewards, largest, q_logged, q_policy, rows.users, counts=rows.counts)

    def merge(self, other: Self) -> None:
        """See `Reweighted`."""
        super().merge(other)
        assert isinstance(self.estimator, _SignedDoublyRobust)
        assert isinstance(other.estimator, _SignedDoublyRobust)
        self.estimator.least_weight = min(self.estimator.least_weight, other.estimator.least_weight)

    def result(self, confidence: float = 0.95) -> Estimate:
        """See `Reweighted`."""
        return Reweighted.result(self, confidence)
