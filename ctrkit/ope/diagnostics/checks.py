"""What speaks for and against an evaluation: numbers, what each should be, and the doubt where it is not.

The report's table of diagnostics and the verdict are both made of these checks. So no doubt is shown that
does not count, and none counts that is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ctrkit.ope.diagnostics.overlap import LARGEST_TAIL_SHAPE, MeanCheck
from ctrkit.ope.diagnostics.sample_size import SampleSize
from ctrkit.ope.diagnostics.timeline_results import MeanDrift, RunningEstimate
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.weights import Diagnostics

# Below this many effective rows a handful of rows decides the estimate.
LEAST_EFFECTIVE_ROWS = 100
LEAST_POSITIVES = 10
# Student's quantile makes up for few units (see `intervals.normal`), not for units of which one decides.
LEAST_UNITS = 10
# By chance alone a mean is 4 standard errors off once in 16,000 logs. A limit of 2 would give false alarms:
# weights are skewed, and several policies are judged on one log. A distance below 1 % is rounding.
LARGEST_Z = 4.0
LEAST_P_VALUE = 2 * float(stats.norm.sf(LARGEST_Z))
MATERIAL_MEAN_WEIGHT = 0.01
LARGEST_UNSUPPORTED_SHARE = 0.05
# A reward model is always a little wrong, and the residual of a long log shows it: that is what dr corrects.
# It is a doubt where the correction is larger than all that the log earned. Half would be too strict: of few
# rows no model learns what a much better policy knows.
MATERIAL_RESIDUAL = 1.0


@dataclass(frozen=True)
class Check:
    """A number of an evaluation.

    Attributes:
        what: what it is.
        value: the number; None where it is not known.
        expected: what it should be; of a number that is only shown, what it means, or nothing.
        doubt: why there is no trust, a sentence without a full stop; None where the number is as it should
            be, or is only shown.
        share: whether the number is a share.
    """

    what: str
    value: float | None
    expected: str = ""
    doubt: str | None = None
    share: bool = False


def required(
    what: str, value: float | None, expected: str, *, holds: bool, doubt: str, share: bool = False
) -> Check:
    """A number that must be as expected: where that does not hold, it is a doubt."""
    return Check(what, value, expected, None if holds else doubt, share)


def checks_of(
    diagnostics: Diagnostics,
    decisive: Estimate | None = None,
    reward_range: tuple[float, float] | None = None,
    *,
    known: Sequence[Check] = (),
    running: RunningEstimate | None = None,
    drift: MeanDrift | None = None,
    residual: MeanCheck | None = None,
    tail: float = np.nan,
    needed: SampleSize | None = None,
    mean_weight_known: bool = True,
) -> tuple[Check, ...]:
    """All checks of an evaluation that can be made; the most serious doubt first.

    Args:
        diagnostics: of the rows.
        decisive: the estimate that decides; None where there is none.
        reward_range: the smallest and the largest possible reward; None where unknown.
        known: checks made before the rows were evaluated, such as whether the policy was trained on them.
        running: the estimate over time, with bounds that are guaranteed; None where there is none.
        drift: of the mean weight over time.
        residual: of the reward model.
        tail: shape of the weights' tail.
        needed: rows that the difference takes.
        mean_weight_known: whether the mean weight is 1 under right propensities.
    """
    found = [
        Check("rows", diagnostics.rows),
        *known,
        *_of_weights(diagnostics, tail, mean_weight_known),
        *_of_rewards(diagnostics),
        *(() if running is None else (_over_time(running),)),
        *(() if drift is None else (_of_drift(drift),)),
        *(() if residual is None else (_of_residual(residual),)),
        *(() if decisive is None else _of_estimate(decisive, reward_range)),
    ]
    if needed is not None:
        power = f"{100 * needed.target_power:g} % power"
        found.append(Check("rows needed to detect this difference", needed.rows_needed, power))
    return tuple(found)


def _of_weights(d: Diagnostics, tail: float, mean_weight_known: bool) -> Iterator[Check]:
    if d.deterministic:
        yield required(
            "propensities",
            1.0,
            "not all 1",
            holds=d.mean_weight == 1.0,
            doubt="every propensity is 1: the logging policy made no random choices, so the log shows only "
            "what its own choices earn; other policies can be evaluated only by replay or by a reward model",
        )
    if d.unsupported_share is not None:
        yield required(
            "share of choices that are never logged",
            d.unsupported_share,
            "0",
            holds=d.unsupported_share <= LARGEST_UNSUPPORTED_SHARE,
            doubt=f"{d.unsupported_share:.1%} of the policy's choices are actions that the logging policy "
            "never chooses, so the log cannot tell what they earn",
            share=True,
        )
    yield required(
        "effective sample size",
        d.effective_sample_size,
        f"at least {LEAST_EFFECTIVE_ROWS}",
        holds=d.effective_sample_size >= LEAST_EFFECTIVE_ROWS,
        doubt=f"the effective sample size is {d.effective_sample_size:.3g} of {d.rows} rows (at least "
        f"{LEAST_EFFECTIVE_ROWS} are needed): a few rows with weights up to {d.max_weight:.4g} decide it",
    )
    if d.units is not None:
        yield required(
            "independent units",
            d.units,
            f"at least {LEAST_UNITS}",
            holds=d.units >= LEAST_UNITS,
            doubt=f"the rows come from the equivalent of {d.units:.3g} independent units, such as users (at "
            f"least {LEAST_UNITS} are needed)",
        )
    if mean_weight_known:
        near = abs(d.mean_weight_z) <= LARGEST_Z or abs(d.mean_weight - 1) <= MATERIAL_MEAN_WEIGHT
        yield required(
            "mean weight",
            d.mean_weight,
            f"1 (z = {d.mean_weight_z:.4g})",
            holds=near,
            doubt=f"the mean weight is {d.mean_weight:.4g}, {abs(d.mean_weight_z):.1f} standard errors from "
            "the expected 1: the propensities are wrong, or the log lacks actions that the policy chooses",
        )
    else:
        yield Check("mean weight", d.mean_weight, "1, but for bids near an end of their range")
    yield Check("largest weight", d.max_weight)
    yield Check(
        "weight of the heaviest 1 % of rows", d.top_share, "1% where all weights are equal", share=True
    )
    # Only shown: the intervals allow for weights that the log may not hold, and so few heavy rows as
    # to decide the estimate show in the effective sample size.
    yield Check("tail shape of the weights", tail, f"below {LARGEST_TAIL_SHAPE} (only shown)")


def _of_rewards(d: Diagnostics) -> Iterator[Check]:
    yield required(
        "rows with a reward",
        d.positives,
        f"at least {LEAST_POSITIVES}",
        holds=d.positives >= LEAST_POSITIVES,
        doubt=f"only {d.positives} rows have a reward (at least {LEAST_POSITIVES} are needed)",
    )
    if d.rewarded_units is not None and not d.alike:
        yield required(
            "independent units with a reward of their own",
            d.rewarded_units,
            f"at least {LEAST_POSITIVES}",
            holds=d.rewarded_units >= LEAST_POSITIVES,
            doubt=f"all rewards are equal except in {d.rewarded_units} independent units, such as rows or "
            f"users (at least {LEAST_POSITIVES} are needed)",
        )


def _over_time(running: RunningEstimate) -> Check:
    return required(
        "estimate over time, at the end",
        float(running.value[-1]),
        f"{running.low[-1]:.4g} to {running.high[-1]:.4g}",
        holds=not running.left,
        doubt=f"the estimate over time, {running.value[-1]:.4g} in the end, has left the bounds that hold at "
        "all times together: the rows of one time are unlike those of another, or the weights are wrong",
    )


def _of_drift(drift: MeanDrift) -> Check:
    apart = drift.p_value < LEAST_P_VALUE and drift.most - drift.least > 2 * MATERIAL_MEAN_WEIGHT
    return required(
        "drift of the mean weight, p-value",
        drift.p_value,
        "not near 0",
        holds=not apart,
        doubt=f"the mean weight is {drift.least:.4g} in one period and {drift.most:.4g} in another, which "
        f"chance does not explain (p = {drift.p_value:.2g}): the propensities of some periods are wrong",
    )


def _of_residual(residual: MeanCheck) -> Check:
    material = abs(residual.mean) > MATERIAL_RESIDUAL * residual.scale
    return required(
        "mean residual of dr",
        residual.mean,
        f"0 (z = {residual.z:.4g})",
        holds=abs(residual.z) <= LARGEST_Z or not material,
        doubt=f"the weighted residuals of the reward model have a mean of {residual.mean:+.4g} "
        f"({abs(residual.z):.1f} standard errors from 0), and the log a mean reward of {residual.scale:.4g}: "
        "weights and reward model contradict each other, as where the propensities are wrong or the policy "
        "was fitted to the chance of these rows",
    )


def _of_estimate(estimate: Estimate, reward_range: tuple[float, float] | None) -> Iterator[Check]:
    name, value = estimate.estimator, estimate.value
    if not np.isfinite(value):
        yield required(
            f"value by {name}", value, "finite", holds=False, doubt=f"{name} has no value on these rows"
        )
    if reward_range is not None:
        low, high = reward_range
        yield required(
            f"value by {name}",
            value,
            f"{low:g} to {high:g}",
            holds=not np.isfinite(value) or low <= value <= high,
            doubt=f"the estimate of {name}, {value:.4g}, is outside the reward range from {low:g} to "
            f"{high:g}",
        )
    # Plain ips may by chance: it alone does not use the mean weight, which is judged above.
    if name == "ips":
        return
    for called, found, interval in (
        ("value", value, estimate.interval),
        ("difference", estimate.difference, estimate.difference_interval),
    ):
        if interval.missed:
            yield required(
                f"{called} by {name}",
                found,
                "within its own interval",
                holds=False,
                doubt=f"the {called} estimated by {name}, {found:.4g}, is outside its own interval",
            )
