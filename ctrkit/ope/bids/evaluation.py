"""Estimates of a new bidder's value from a log of bids, with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.bids.bandwidth import rule_of_thumb
from ctrkit.ope.bids.bid_log import DETERMINISTIC, MODEL_OF_MARKET, TARGET, BidLog
from ctrkit.ope.bids.bid_model import BidModel
from ctrkit.ope.bids.continuous import (
    ContinuousRows,
    KernelDoublyRobust,
    KernelEstimator,
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    LocalDoublyRobust,
    smoothed,
)
from ctrkit.ope.diagnostics.checks import checks_of
from ctrkit.ope.diagnostics.evidence import Evidence
from ctrkit.ope.diagnostics.sample_size import sample_size_of
from ctrkit.ope.diagnostics.verdict import PolicyVerdict, judge
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.ope.estimators.base import Estimate, LoggedRows
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.weights import Diagnostics
from ctrkit.ope.evaluation.results import Evaluation, PolicyEvaluation

KINDS: tuple[type[KernelEstimator], ...] = (
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    KernelDoublyRobust,
    LocalDoublyRobust,
)
# A description of each estimator, for tables.
MEANING: Mapping[str, str] = {
    "kernel-ips": "logged bids near the new ones, reweighted",
    "kernel-snips": "as kernel-ips, self-normalised",
    "kernel-dr": "a model's predictions, corrected by logged bids near the new ones",
    "local-dr": "as kernel-dr, corrected for the smoothing over nearby bids",
}
# The estimator that decides the verdict.
DECISIVE = LocalDoublyRobust.name

NOTES = (
    "The estimates are rewards of one impression, with all other impressions unchanged. They do not cover "
    "that a bid in one auction uses the budget of the next.",
    "kernel-ips, kernel-snips and kernel-dr, with their intervals, are for a policy that draws its bid from "
    "the kernel around the new bid. local-dr decides the verdict and is for the new bids themselves, if the "
    "reward is smooth in the bid. If the reward jumps within a bandwidth, as at a floor price, local-dr "
    "smooths it too.",
)
OWN_MODEL = (
    "The log's own predictions (q_logged, q_policy) are for single bids. If they are curved within a "
    "bandwidth, kernel-dr is biased by the difference."
)
PREDICTED = "context_columns are not used: the log has q_logged and q_policy, so no model is fitted."
NO_ENDS = (
    "bid_range, the smallest and the largest bid that the logging policy draws, is not given. Near these "
    "bids the kernel loses mass and kernel-ips is too low; all intervals are normal intervals."
)


@dataclass(frozen=True)
class BidEvaluation(Evaluation):
    """What a log says about a new bidder: the one policy of an `Evaluation`.

    Attributes:
        bandwidths: bandwidth of each estimator, in the bids' unit.
        effective_sample_size: (Σ w)² / Σ w² of each estimator's weights (Kish 1965).
    """

    bandwidths: Mapping[str, float] = field(default_factory=dict)
    effective_sample_size: Mapping[str, float] = field(default_factory=dict)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The estimates of the new bidder."""
        return self.policies[0].estimates

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; estimates also have their bandwidth, effective sample size and meaning."""
        content = super().to_dict()
        for estimate in content["policies"][0]["estimates"]:
            name = estimate["estimator"]
            estimate["bandwidth"] = self.bandwidths[name]
            estimate["effective_sample_size"] = self.effective_sample_size[name]
            estimate["meaning"] = MEANING[name]
        return content


def evaluate_bids(
    log: BidLog,
    column: str = TARGET.name,
    *,
    context_columns: Sequence[str] = (),
    bandwidth: float | None = None,
    kernel: str = "epanechnikov",
    bid_range: tuple[float, float] | None = None,
    reward_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
    folds: int = 3,
    seed: int = 0,
) -> BidEvaluation:
    """Estimate what a new bidder would have earned for each impression.

    Args:
        log: the log of bids.
        column: column with the new bidder's bids.
        context_columns: columns that the reward model uses besides the bid. They must have been known before
            the auction: a market price or a win makes the estimate wrong, and ctrkit cannot recognise such
            columns. If the log has `q_logged` and `q_policy`, those are used and no model is fitted.
        bandwidth: bandwidth in the bids' unit; by default `bandwidth.rule_of_thumb`, which reads no reward.
        kernel: a name of `KERNELS`.
        bid_range: smallest and largest bid that the logging policy draws; (-inf, inf) if its bids have no
            ends. None: no correction at the ends.
        reward_range: smallest and largest possible reward; by default 0 and 1 if all rewards are 0 or 1.
        confidence: confidence level of all intervals, such as 0.95.
        folds: number of folds of the reward model's cross-fitting.
        seed: seed of the folds and trees.

    Raises:
        ConfigError: a setting is out of bounds.
        DataError: a column is missing or holds no numbers, a bid is outside `bid_range`, a reward is outside
            `reward_range`, or all logged bids are equal.
    """
    if not 0 < confidence < 1:
        raise ConfigError(
            f"the confidence must be between 0 and 1, not {confidence}", hint="Give for example 0.95"
        )
    if reward_range is None and np.isin(log.reward, (0.0, 1.0)).all():
        reward_range = (0.0, 1.0)
    for name, values, allowed in (("bid", log.bid, bid_range), ("reward", log.reward, reward_range)):
        _check_range(log, name, values, allowed)
    policy = log.numbers(column)
    width = bandwidth if bandwidth is not None else rule_of_thumb(log.bid, log.counts, kernel)
    if not width > 0:
        raise DataError(DETERMINISTIC, file=log.file, column="bid", hint=MODEL_OF_MARKET)
    # The range of bids that the logging policy draws, or of those it drew; beyond it there are no rows.
    seen = bid_range or (float(log.bid.min()), float(log.bid.max()))
    own = {"q_logged", "q_policy"} <= set(log.table.columns)
    model = None if own else BidModel.fit(log, context_columns, folds, seed)
    if model is None:
        q_logged = log.table["q_logged"].to_numpy()
        smooth = local = log.table["q_policy"].to_numpy()
    else:
        q_logged = model.predict(log.bid)
        smooth, local = smoothed(model.predict, policy, kernel, width, seen)
    used: dict[str, KernelEstimator] = {}
    for kind in KINDS:
        decides = kind.name == DECISIVE
        rows = ContinuousRows(
            log.bid,
            log.density,
            policy,
            log.reward,
            q_logged,
            local if decides else smooth,
            log.users,
            counts=log.counts,
        )
        used[kind.name] = kind(kernel, width, seen if decides else bid_range, reward_range)
        used[kind.name].update(rows)
    estimates = [each.result(confidence) for each in used.values()]
    logging = OnPolicy(reward_range)
    logging.update(LoggedRows.of_logging(log.reward, counts=log.counts, users=log.users, units=None))
    kernel_rows, local_rows = (used[name].convert(rows) for name in (KINDS[0].name, DECISIVE))
    weights = WeightSketch()
    weights.update(kernel_rows.weights, log.counts)
    sizes = dict.fromkeys(used, weights.effective_sample_size)
    sizes[DECISIVE] = _evidence(local_rows, reward_range).diagnostics().effective_sample_size
    summary = asdict(weights.summary())
    if log.users is not None:
        del summary["mean_weight_z"]  # it assumes independent rows
    diagnostics = replace(
        _evidence(kernel_rows, reward_range).diagnostics(),
        **summary,
        # If the ends of the bids are unknown, bids beyond all logged ones are unsupported.
        unsupported_share=None
        if bid_range
        else log.share((policy < seen[0] - width) | (policy > seen[1] + width)),
    )
    judged = _judged(column, estimates, diagnostics, weights, width, bid_range, reward_range, confidence)
    how = "from the spread and number of the bids" if bandwidth is None else "as given"
    by_name = {estimate.estimator: estimate.value for estimate in estimates}
    return BidEvaluation(
        logging.result(confidence),
        (judged,),
        confidence,
        (
            *log.notes,
            *NOTES,
            *(() if bid_range else (NO_ENDS,)),
            *((OWN_MODEL,) if model is None else ()),
            *((PREDICTED,) if model is None and context_columns else ()),
            f"Bandwidths ({how}): {', '.join(f'{name} {width:.4g}' for name in used)}.",
            "Smoothing over the bandwidth changes the value of an impression by about "
            f"{by_name['kernel-dr'] - by_name[DECISIVE]:+.3g} (kernel-dr minus {DECISIVE}).",
        ),
        bandwidths=dict.fromkeys(used, width),
        effective_sample_size=sizes,
    )


def _evidence(rows: LoggedRows, reward_range: tuple[float, float] | None) -> Evidence:
    found = Evidence(reward_range)
    found.update(rows)
    return found


def _judged(
    name: str,
    estimates: Sequence[Estimate],
    diagnostics: Diagnostics,
    weights: WeightSketch,
    bandwidth: float,
    bid_range: tuple[float, float] | None,
    reward_range: tuple[float, float] | None,
    confidence: float,
) -> PolicyEvaluation:
    """The new bidder with its verdict, by those rules for discrete actions that apply to bids."""
    deciding = next(estimate for estimate in estimates if estimate.estimator == DECISIVE)
    interval = deciding.difference_interval
    needed = None
    if 0 < interval.high - interval.low < np.inf:
        needed = sample_size_of(deciding, diagnostics.rows, confidence)
    # If the ends of the bids are unknown, the kernel may lose mass there and the mean may not be 1.
    checks = checks_of(
        diagnostics,
        deciding,
        reward_range,
        tail=weights.tail().shape,
        needed=needed,
        mean_weight_known=bid_range is not None,
    )
    found = judge(deciding, checks, diagnostics, needed)
    if found.verdict != "do not trust":
        found = PolicyVerdict(
            found.verdict, f"{found.reason}; from logged bids within a bandwidth of {bandwidth:.4g}"
        )
    return PolicyEvaluation(
        name, found, tuple(estimates), diagnostics, checks, sample_size=needed, weights=weights
    )


def _check_range(log: BidLog, name: str, values: Floats, allowed: tuple[float, float] | None) -> None:
    if allowed is None:
        return
    low, high = allowed
    if not low < high:
        raise ConfigError(
            f"the range of {name}s from {low:g} to {high:g} is empty", hint="Give the lower end first"
        )
    if (wrong := np.flatnonzero((values < low) | (values > high))).size:
        row = int(wrong[0])
        problem = f"{values[row]:g} is outside the range from {low:g} to {high:g}"
        raise log.refused(name, row, problem, "Widen the range or correct the value")
