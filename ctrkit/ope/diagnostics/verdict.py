"""The plain verdict on a policy: better, worse, cannot tell, do not trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctrkit.ope.diagnostics.sample_size import SampleSize, readable
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.weights import Diagnostics

# Below this many effective rows a handful of rows decides the estimate.
LEAST_EFFECTIVE_ROWS = 100
LEAST_POSITIVES = 10
# Student's quantile makes up for few units (see `intervals.normal`), not for units of which one decides.
LEAST_UNITS = 10
# Chance alone leads a mean weight 4 standard errors astray once in 16,000 logs. 2 would cry wolf: the
# weights are skewed, and several policies are judged on one log. A distance below 1 % is rounding.
LARGEST_MEAN_WEIGHT_Z = 4.0
MATERIAL_MEAN_WEIGHT = 0.01
LARGEST_UNSUPPORTED_SHARE = 0.05
# A difference below this share of the value is what rounding leaves of none.
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
) -> PolicyVerdict:
    """The verdict that estimates (by estimator) and diagnostics allow.

    Where the log cannot tell, the reason says how many rows could (`needed`).

    Distrust comes first; then the interval of the difference to the logging policy decides, by the first
    estimator of `DECISIVE` that is there. What the others say is no evidence, for it or against it.
    """
    decisive = next((estimates[name] for name in DECISIVE if name in estimates), None)
    for reason in _doubts(decisive, diagnostics, reward_range):
        return PolicyVerdict("do not trust", reason)
    if diagnostics.alike:
        return PolicyVerdict(
            "cannot tell", "all rewards are one, so that nothing tells one policy from another"
        )
    if decisive is None:
        return PolicyVerdict("cannot tell", "no estimator was asked for that bounds its own error")
    interval = decisive.difference_interval
    if max(abs(interval.low), abs(interval.high)) <= ROUNDING * abs(decisive.value):
        return PolicyVerdict(
            "cannot tell", "the policy chooses as the logging policy does, and earns as much"
        )
    rests = ", if the estimated propensities are right" if diagnostics.estimated_propensities else ""
    found = f"by {decisive.estimator} the policy earns between {interval.low:+.4g} and {interval.high:+.4g}"
    if interval.low > 0:
        return PolicyVerdict("better", f"{found} a row more than the logging policy{rests}")
    if interval.high < 0:
        return PolicyVerdict("worse", f"{found} a row beside the logging policy{rests}")
    rows = f"; {_rows(needed)}" if needed is not None else ""
    return PolicyVerdict(
        "cannot tell", f"{found} a row beside the logging policy{rests}, which may be nothing{rows}"
    )


def _rows(needed: SampleSize) -> str:
    """What these rows could tell, and what it would take."""
    seen = f"{readable(needed.rows)} rows mostly tell a difference of {needed.detectable:.2g}"
    if needed.rows_needed is None or needed.rows_needed <= needed.rows:
        return seen
    return f"{seen}, and one of {needed.effect:+.2g} takes about {readable(needed.rows_needed)}"


def _doubts(
    decisive: Estimate | None, diagnostics: Diagnostics, reward_range: tuple[float, float] | None
) -> Iterator[str]:
    """Why the log can say nothing about the policy; the gravest first."""
    d = diagnostics
    if d.deterministic and d.mean_weight != 1.0:
        yield (
            "every propensity is 1: the logging policy left nothing to chance, so the log tells only what "
            "its own choices earn; for any other policy there is nothing but replay or a model of rewards"
        )
    if d.unsupported_share is not None and d.unsupported_share > LARGEST_UNSUPPORTED_SHARE:
        yield (
            f"{d.unsupported_share:.1%} of the policy's choices are what the logging policy never chooses, "
            "so the log cannot tell what they earn"
        )
    if d.effective_sample_size < LEAST_EFFECTIVE_ROWS:
        yield (
            f"the effective sample size is {d.effective_sample_size:.3g} of {d.rows} rows (at least "
            f"{LEAST_EFFECTIVE_ROWS} are needed): a few rows with weights up to {d.max_weight:.4g} decide all"
        )
    if d.units is not None and d.units < LEAST_UNITS:
        yield (
            f"rows that go together, such as those of one user, make up as little as {d.units:.3g} "
            f"independent units (at least {LEAST_UNITS} are needed)"
        )
    if abs(d.mean_weight_z) > LARGEST_MEAN_WEIGHT_Z and abs(d.mean_weight - 1) > MATERIAL_MEAN_WEIGHT:
        yield (
            f"the mean weight is {d.mean_weight:.4g}, {abs(d.mean_weight_z):.1f} standard errors from the 1 "
            "that right propensities give: they are wrong, or actions of the policy were never logged"
        )
    if d.positives < LEAST_POSITIVES:
        yield f"only {d.positives} rows have a reward (at least {LEAST_POSITIVES} are needed)"
    if d.rewarded_units is not None and d.rewarded_units < LEAST_POSITIVES and not d.alike:
        yield (
            f"all rewards but those of {d.rewarded_units} rows, or units of rows that go together, are one "
            f"(at least {LEAST_POSITIVES} others are needed)"
        )
    if decisive is None:
        return
    if not np.isfinite(decisive.value):
        yield f"{decisive.estimator} finds no value in these rows"
    if reward_range is not None and not reward_range[0] <= decisive.value <= reward_range[1]:
        low, high = reward_range
        yield (
            f"{decisive.estimator} estimates {decisive.value:.4g}, and no reward lies outside {low:g} to "
            f"{high:g}"
        )
    # Plain ips may by chance: it alone makes nothing of the mean weight, which is judged above.
    if decisive.difference_interval.missed and decisive.estimator != "ips":
        yield (
            f"the difference that {decisive.estimator} estimates, {decisive.difference:.4g}, lies outside of "
            "what its own interval allows"
        )
