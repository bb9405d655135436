"""Continuous actions, such as bids: kernels in place of the match between logged and chosen action."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.base import Estimate, LoggedRows
from ctrkit.ope.doubly_robust import DoublyRobust
from ctrkit.ope.importance import InversePropensityScoring, SelfNormalizedInversePropensityScoring
from ctrkit.ope.intervals import Interval
from ctrkit.ope.kernels import KERNELS
from ctrkit.ope.moments import Floats, Ints
from ctrkit.ope.reweighted import Reweighted
from ctrkit.ope.sums import check_propensities, check_shape


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
        q_policy: [B] its prediction at the policy's action. Where the model hardly bends within a bandwidth,
            one array may stand for both.
        users: [B] codes from 0; all rows of a user stand in one `ContinuousRows`. None: rows are independent.
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
    users: Ints | None = None
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
    if kernel not in KERNELS:
        raise ConfigError(f"there is no kernel '{kernel}'", mend=nearest(kernel, KERNELS))
    if not (bandwidth > 0 and np.isfinite(bandwidth)):
        raise ConfigError(f"a bandwidth of {bandwidth:g} is not above 0")
    shape = KERNELS[kernel]
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


def _smoothed(interval: Interval) -> Interval:
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
    """mean(q(x, π(x)) + w (r - q(x, a))). Kallus and Zhou 2018.

    With q(x, π(x)) given for q(x, a) as well, the kernel smooths the difference of rewards to one prediction.
    """

    name: ClassVar[str] = "kernel-dr"
    kind = DoublyRobust
