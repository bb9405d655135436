"""The plain verdict on a policy: better, worse, cannot tell, do not trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctrkit.ope.diagnostics.sample_size import SampleSize, readable
from ctrkit.ope.diagnostics.timeline_results import RunningEstimate
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.weights import Diagnostics

# Below this many effective rows a handful of rows decides the estimate.
LEAST_EFFECTIVE_ROWS = 100
LEAST_POSITIVES = 10
# Student's quantile makes up for few units (see `intervals.normal`), not for units of which one decides.
LEAST_UNITS = 10
# By chance alone a mean weight is 4 standard errors off once in 16,000 logs. A limit of 2 would give false
# alarms: weights are skewed, and several policies are judged on one log. A distance below 1 % is rounding.
LARGEST_MEAN_WEIGHT_Z = 4.0
MATERIAL_MEAN_WEIGHT = 0.01
LARGEST_UNSUPPORTED_SHARE = 0.05
# A difference below this share of the value is a rounding error.
ROUNDING = 1e-6
# The estimators that may decide, the one with the least variance first. The direct method may not: nothing
# in the log bounds its bias.
DECISIVE = ("dr", "snips", "ips")


@dataclass(frozen=True)
class PolicyVerdict:
    """The verdict and its reason, a sentence without a full stop."""

    verdict: Literal["better", "worse", "cannot tell", "do not trust"]
    reason: str


def judge(
    estimates: Mapping[str, Estimate],
    diagnostics: Diagnostics,
    reward_range: tuple[float, float] | None,
    needed: SampleSize | None = None,
    running: RunningEstimate | None = None,
) -> PolicyVerdict:
    """The verdict on a policy.

    Doubts come first. Without doubts the first estimator of `DECISIVE` that is there decides, by its interval
    for the difference from the logging policy. The other estimators are not considered.

    Args:
        estimates: by the names of the estimators.
        diagnostics: of the same rows.
        reward_range: the smallest and the largest possible reward; None where unknown.
        needed: what the reason for "cannot tell" says of rows; None to say nothing.
        running: the estimate over time, where the rows have times.
    """
    decisive = next((estimates[name] for name in DECISIVE if name in estimates), None)
    for reason in _doubts(decisive, diagnostics, reward_range, running):
        return PolicyVerdict("do not trust", reason)
    if diagnostics.alike:
        return PolicyVerdict(
            "cannot tell", "all rewards are equal, so the log shows no difference between policies"
        )
    if decisive is None:
        return PolicyVerdict("cannot tell", "none of the estimators asked for bounds its own error")
    interval = decisive.difference_interval
    if max(abs(interval.low), abs(interval.high)) <= ROUNDING * abs(decisive.value):
        return PolicyVerdict(
            "cannot tell", "the policy makes the same choices as the logging policy, and earns the same"
        )
    rests = ", if the estimated propensities are right" if diagnostics.estimated_propensities else ""
    found = (
        f"{decisive.estimator}: the difference from the logging policy is between {interval.low:+.4g} and "
        f"{interval.high:+.4g} per row{rests}"
    )
    if interval.low > 0:
        return PolicyVerdict("better", found)
    if interval.high < 0:
        return PolicyVerdict("worse", found)
    rows = f"; {_rows(needed)}" if needed is not None else ""
    return PolicyVerdict("cannot tell", f"{found}, so it may be 0{rows}")


def _rows(needed: SampleSize) -> str:
    """The difference that these rows can detect, and the rows that the observed one needs."""
    seen = (
        f"with {readable(needed.rows)} rows the minimum detectable difference "
        f"({100 * needed.target_power:g} % power) is {needed.detectable:.2g}"
    )
    if needed.rows_needed is None or needed.rows_needed <= needed.rows:
        return seen
    return f"{seen}; to detect {needed.effect:+.2g} takes about {readable(needed.rows_needed)} rows"


def _doubts(
    decisive: Estimate | None,
    diagnostics: Diagnostics,
    reward_range: tuple[float, float] | None,
    running: RunningEstimate | None,
) -> Iterator[str]:
    """Why the log cannot be trusted on the policy; the most serious reason first."""
    d = diagnostics
    if d.deterministic and d.mean_weight != 1.0:
        yield (
            "every propensity is 1: the logging policy made no random choices, so the log shows only what "
            "its own choices earn; other policies can be evaluated only by replay or by a reward model"
        )
    if d.unsupported_share is not None and d.unsupported_share > LARGEST_UNSUPPORTED_SHARE:
        yield (
            f"{d.unsupported_share:.1%} of the policy's choices are actions that the logging policy never "
            "chooses, so the log cannot tell what they earn"
        )
    if d.effective_sample_size < LEAST_EFFECTIVE_ROWS:
        yield (
            f"the effective sample size is {d.effective_sample_size:.3g} of {d.rows} rows (at least "
            f"{LEAST_EFFECTIVE_ROWS} are needed): a few rows with weights up to {d.max_weight:.4g} decide it"
        )
    if d.units is not None and d.units < LEAST_UNITS:
        yield (
            f"the rows come from the equivalent of {d.units:.3g} independent units, such as users (at least "
            f"{LEAST_UNITS} are needed)"
        )
    if abs(d.mean_weight_z) > LARGEST_MEAN_WEIGHT_Z and abs(d.mean_weight - 1) > MATERIAL_MEAN_WEIGHT:
        yield (
            f"the mean weight is {d.mean_weight:.4g}, {abs(d.mean_weight_z):.1f} standard errors from the "
            "expected 1: the propensities are wrong, or the log lacks actions that the policy chooses"
        )
    if d.positives < LEAST_POSITIVES:
        yield f"only {d.positives} rows have a reward (at least {LEAST_POSITIVES} are needed)"
    if d.rewarded_units is not None and d.rewarded_units < LEAST_POSITIVES and not d.alike:
        yield (
            f"all rewards are equal except in {d.rewarded_units} independent units, such as rows or users "
            f"(at least {LEAST_POSITIVES} are needed)"
        )
    if running is not None and running.left:
        yield (
            f"the estimate over time, {running.value[-1]:.4g} in the end, has left the bounds that hold at "
            "all times together: the rows of one time are unlike those of another, or the weights are wrong"
        )
    if decisive is None:
        return
    if not np.isfinite(decisive.value):
        yield f"{decisive.estimator} has no value on these rows"
    if reward_range is not None and not reward_range[0] <= decisive.value <= reward_range[1]:
        low, high = reward_range
        yield (
            f"the estimate of {decisive.estimator}, {decisive.value:.4g}, is outside the reward range from "
            f"{low:g} to {high:g}"
        )
    # Plain ips may by chance: it alone does not use the mean weight, which is judged above.
    if decisive.difference_interval.missed and decisive.estimator != "ips":
        yield (
            f"the difference estimated by {decisive.estimator}, {decisive.difference:.4g}, is outside its "
            "own interval"
        )
