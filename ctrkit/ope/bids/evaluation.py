"""A new bidder's value from a log of bids, in named estimates, with a verdict."""

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
# What each estimator is, for tables.
MEANING: Mapping[str, str] = {
    "kernel-ips": "logged bids near the new ones, reweighted",
    "kernel-snips": "as kernel-ips, self-normalised",
    "kernel-dr": "a model's predictions, corrected by logged bids near the new ones",
    "local-dr": "as kernel-dr, the smoothing over nearby bids taken out",
}
# The one that decides, and what `verdict.DECISIVE` calls it.
DECISIVE = LocalDoublyRobust.name
DOUBLY_ROBUST = "dr"

NOTES = (
    "What is estimated is the reward of one impression, all others left as they were: that bids of one "
    "auction take from the budget of the next is not covered.",
    "kernel-ips, kernel-snips and kernel-dr are of a policy that draws its bid from the kernel around the "
    "new one, and so are their intervals. local-dr, which decides, is of the new bids themselves, as far as "
    "the reward is smooth in the bid: where it jumps within a bandwidth, as at a floor price, nothing "
    "tells on which side they are.",
)
OWN_MODEL = (
    "The log's own predictions (q_logged, q_policy) are of single bids: where they bend within a bandwidth, "
    "kernel-dr is off by as much."
)
PREDICTED = "Not used: context_columns, as the log has q_logged and q_policy, and no model is fitted."
NO_ENDS = (
    "The least and the largest bid that the logging policy draws are not given: near them the kernel loses "
    "mass, kernel-ips is too low there, and intervals are normal ones."
)


@dataclass(frozen=True)
class BidEvaluation(Evaluation):
    """What a log says about a new bidder: the one policy of an `Evaluation`.

    Its weights and diagnostics are those of the estimator that decides.

    Attributes:
        bandwidths: by estimator, in the bids' unit.
        effective_sample_size: of the kernel's weights, (Σ w)² / Σ w² (Kish 1965), by estimator.
    """

    bandwidths: Mapping[str, float] = field(default_factory=dict)
    effective_sample_size: Mapping[str, float] = field(default_factory=dict)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Of the new bidder."""
        return self.policies[0].estimates

    def to_dict(self) -> dict[str, Any]:
        """As of any evaluation; estimates have their bandwidth, effective sample size and meaning as well."""
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
    """Estimate what a new bidder would have earned an impression.

    Args:
        column: the new bidder's bid in each row.
        context_columns: what the reward model reads beside the bid. They must have been known before the
            auction, which of a log's columns it cannot tell itself: a market price or a win spoils the
            estimate. Where the log has `q_logged` and `q_policy`, those are used and no model is fitted.
        bandwidth: in the bids' unit; by default `bandwidth.rule_of_thumb`, which reads no reward.
        kernel, bid_range: see `KernelEstimator`, whose `action_range` is the latter.
        reward_range: see `KernelEstimator`; by default 0 and 1 where all rewards are one of them.
        folds, seed: of the reward model's cross-fitting.

    Raises:
        ConfigError: for settings out of bounds.
        DataError: for columns that are missing or hold no numbers, bids outside `bid_range`, rewards outside
            `reward_range`, and logged bids that are all alike.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    if reward_range is None and np.isin(log.reward, (0.0, 1.0)).all():
        reward_range = (0.0, 1.0)
    for name, values, allowed in (("bid", log.bid, bid_range), ("reward", log.reward, reward_range)):
        _check_range(log, name, values, allowed)
    policy = log.numbers(column)
    width = bandwidth if bandwidth is not None else rule_of_thumb(log.bid, log.counts, kernel)
    if not width > 0:
        raise DataError(DETERMINISTIC, file=log.file, column="bid", hint=MODEL_OF_MARKET)
    # What the logging policy draws, or else has drawn: beyond it there is nothing to smooth over.
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
        del summary["mean_weight_z"]  # of rows that are independent
    diagnostics = replace(
        _evidence(kernel_rows, reward_range).diagnostics(),
        **summary,
        # Where the ends of the bids are not known, bids far from all that were logged are out of sight.
        unsupported_share=None
        if bid_range
        else log.share((policy < seen[0] - width) | (policy > seen[1] + width)),
    )
    judged = _judged(column, estimates, diagnostics, weights, width, bid_range, reward_range, confidence)
    how = "by the spread and the number of the bids" if bandwidth is None else "as given"
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
            f"Bandwidths, {how}: {', '.join(f'{name} {width:.4g}' for name in used)}.",
            "Smoothing over the bandwidth moves the value by "
            f"{by_name['kernel-dr'] - by_name[DECISIVE]:+.3g} an impression, as far as these rows tell "
            f"(kernel-dr less {DECISIVE}).",
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
    """The new bidder with its verdict, by the rules for discrete actions as far as they make sense."""
    deciding = next(estimate for estimate in estimates if estimate.estimator == DECISIVE)
    interval = deciding.difference_interval
    needed = None
    if 0 < interval.high - interval.low < np.inf:
        needed = sample_size_of(deciding, diagnostics.rows, confidence)
    # Where the ends of the bids are not known the kernel may lose mass there, and the mean need not be 1.
    known = diagnostics if bid_range is not None else replace(diagnostics, mean_weight_z=0.0)
    found = judge({DOUBLY_ROBUST: deciding}, known, reward_range, needed)
    if found.verdict != "do not trust":
        found = PolicyVerdict(
            found.verdict, f"{found.reason}; by logged bids within a bandwidth of {bandwidth:.4g}"
        )
    return PolicyEvaluation(name, found, tuple(estimates), diagnostics, sample_size=needed, weights=weights)


def _check_range(log: BidLog, name: str, values: Floats, allowed: tuple[float, float] | None) -> None:
    if allowed is None:
        return
    low, high = allowed
    if not low < high:
        raise ConfigError(
            f"a range of {name}s from {low:g} to {high:g} is empty", hint="Give the lesser first"
        )
    if (wrong := np.flatnonzero((values < low) | (values > high))).size:
        row = int(wrong[0])
        problem = f"{values[row]:g} is outside the range from {low:g} to {high:g}"
        raise log.refused(name, row, problem, "Widen the range or correct the value")
