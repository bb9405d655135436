"""The plain verdict on a policy: better, worse, cannot tell, do not trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.diagnostics.sample_size import SampleSize, readable
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.weights import Diagnostics

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


def deciding(estimates: Mapping[str, Estimate]) -> Estimate | None:
    """The estimate that decides, of those by the names of their estimators; None if none may."""
    return next((estimates[name] for name in DECISIVE if name in estimates), None)


def judge(
    decisive: Estimate | None,
    checks: Sequence[Check],
    diagnostics: Diagnostics,
    needed: SampleSize | None = None,
) -> PolicyVerdict:
    """The verdict on a policy.

    Doubts come first, and any doubt among the checks is enough. Without doubts the estimate decides by its
    interval for the difference from the logging policy. Other estimates are not considered.

    Args:
        decisive: see `deciding`.
        checks: all that the report shows, the most serious first.
        diagnostics: of the same rows.
        needed: what the reason for "cannot tell" says of rows; None to say nothing.
    """
    for check in checks:
        if check.doubt is not None:
            return PolicyVerdict("do not trust", check.doubt)
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
