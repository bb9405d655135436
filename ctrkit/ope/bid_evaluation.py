"""A new bidder's value from a log of bids, in named estimates, with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor

from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.bandwidth import BandwidthBySlope
from ctrkit.ope.base import Estimate, LoggedRows
from ctrkit.ope.bid_log import DETERMINISTIC, MODEL_OF_MARKET, TARGET, BidLog
from ctrkit.ope.continuous import (
    ContinuousRows,
    KernelDoublyRobust,
    KernelEstimator,
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    kernel_weights,
)
from ctrkit.ope.evaluation import Evaluation, PolicyEvaluation
from ctrkit.ope.importance import OnPolicy
from ctrkit.ope.learners import sample_weight
from ctrkit.ope.moments import Floats
from ctrkit.ope.sample_size import sample_size_of
from ctrkit.ope.verdict import Verdict, judge
from ctrkit.ope.weight_sketch import WeightSketch
from ctrkit.ope.weights import Diagnostics

KINDS: tuple[type[KernelEstimator], ...] = (
    KernelInversePropensityScoring,
    KernelSelfNormalized,
    KernelDoublyRobust,
)
# What each estimator is, for tables.
MEANING: Mapping[str, str] = {
    "kernel-ips": "logged bids near the new ones, reweighted",
    "kernel-snips": "as kernel-ips, self-normalised",
    "kernel-dr": "a model's predictions, corrected by logged bids near the new ones",
}
# The one that decides: `verdict.DECISIVE` has it first, under its name for discrete actions.
DECISIVE = KernelDoublyRobust.name
# The grid of bandwidths, in standard deviations of the logged bids.
GRID = (0.05, 0.1, 0.2, 0.4, 0.8)
# With fewer rows a reward model predicts their mean.
LEAST_ROWS = 40

NOTES = (
    "What is estimated is the reward of one impression, all others left as they were: that bids of one "
    "auction take from the budget of the next is not covered.",
    "The intervals are those of a policy that draws its bid from the kernel around the new one; how far its "
    "value lies from the new policy's own they leave out.",
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
        bandwidth: in the bids' unit; by default each estimator's own by SLOPE (`ctrkit.ope.bandwidth`, whose
            caveat holds), from `GRID`.
        kernel, bid_range: see `KernelEstimator`, whose `action_range` is the latter.
        reward_range: see `KernelEstimator`; by default 0 and 1 where all rewards are one of them.
        folds, seed: of the reward model's cross-fitting.

    Raises:
        ConfigError: for settings out of bounds.
        DataError: for columns that are missing or hold no numbers, bids outside `bid_range`, rewards outside
            `reward_range`, and logged bids that are all alike.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", mend="Give 0.95, say")
    if reward_range is None and np.isin(log.reward, (0.0, 1.0)).all():
        reward_range = (0.0, 1.0)
    for name, values, allowed in (("bid", log.bid, bid_range), ("reward", log.reward, reward_range)):
        _check_range(log, name, values, allowed)
    policy = log.numbers(column)
    q_logged, q_policy = _predictions(log, policy, context_columns, folds, seed)
    rows = ContinuousRows(
        log.bid, log.density, policy, log.reward, q_logged, q_policy, log.users, counts=log.counts
    )
    mean = np.average(log.bid, weights=log.counts)
    spread = float(np.sqrt(np.average((log.bid - mean) ** 2, weights=log.counts)))
    if bandwidth is None and not spread > 0:
        raise DataError(DETERMINISTIC, file=log.file, column="bid", mend=MODEL_OF_MARKET)

    used: dict[str, KernelEstimator] = {}
    estimates = []
    for kind in KINDS:
        if bandwidth is not None:
            chosen = kind(kernel, bandwidth, bid_range, reward_range)
            chosen.update(rows)
            estimate = chosen.result(confidence)
        else:
            rule = BandwidthBySlope(kind, kernel, [step * spread for step in GRID], bid_range, reward_range)
            rule.update(rows)
            estimate, chosen = replace(rule.result(confidence), estimator=kind.name), rule.selected
        estimates.append(estimate)
        used[kind.name] = chosen
    logging = OnPolicy(reward_range)
    logging.update(LoggedRows.of_logging(log.reward, counts=log.counts, users=log.users, units=None))
    bandwidths = {name: each.bandwidth for name, each in used.items()}
    weights = {name: _weights(rows, kernel, width, bid_range) for name, width in bandwidths.items()}
    told = ", ".join(f"{name} {width:.4g}" for name, width in bandwidths.items())
    how = "by SLOPE" if bandwidth is None else "as given"
    judged = _judged(
        column, log, estimates, used[DECISIVE], weights[DECISIVE], bid_range, reward_range, confidence
    )
    return BidEvaluation(
        logging.result(confidence),
        (judged,),
        confidence,
        (
            *log.notes,
            *NOTES,
            *(() if bid_range else (NO_ENDS,)),
            *((PREDICTED,) if context_columns and _predicted(log) else ()),
            f"Bandwidths, {how}: {told}.",
        ),
        bandwidths=bandwidths,
        effective_sample_size={name: each.effective_sample_size for name, each in weights.items()},
    )


def _weights(
    rows: ContinuousRows, kernel: str, bandwidth: float, bid_range: tuple[float, float] | None
) -> WeightSketch:
    """Of the kernel's weights."""
    found = WeightSketch()
    found.update(kernel_weights(rows, kernel, bandwidth, bid_range)[0], rows.counts)
    return found


def _judged(
    name: str,
    log: BidLog,
    estimates: Sequence[Estimate],
    decisive: KernelEstimator,
    weights: WeightSketch,
    bid_range: tuple[float, float] | None,
    reward_range: tuple[float, float] | None,
    confidence: float,
) -> PolicyEvaluation:
    """The new bidder with its verdict, by the rules for discrete actions as far as they make sense."""
    by_name = {estimate.estimator: estimate for estimate in estimates}
    interval = by_name[DECISIVE].difference_interval
    needed = None
    if 0 < interval.high - interval.low < np.inf:
        needed = sample_size_of(by_name[DECISIVE], round(weights.rows), confidence)
    positives = int(np.count_nonzero(log.reward))
    diagnostics = Diagnostics(**asdict(weights.summary()), positives=positives, unsupported_share=None)
    # Where the ends of the bids are not known the kernel may lose mass there, and the mean need not be 1.
    known = diagnostics if bid_range is not None else replace(diagnostics, mean_weight_z=0.0)
    found = judge(
        {name.removeprefix("kernel-"): one for name, one in by_name.items()}, known, reward_range, needed
    )
    if found.verdict != "do not trust":
        smoothed = f"its bids smoothed over a bandwidth of {decisive.bandwidth:.4g}"
        found = Verdict(found.verdict, f"{found.reason}; {smoothed}")
    return PolicyEvaluation(
        name,
        found,
        tuple(estimates),
        diagnostics,
        sample_size=needed,
        weights=weights,
    )


def _check_range(log: BidLog, name: str, values: Floats, allowed: tuple[float, float] | None) -> None:
    if allowed is None:
        return
    low, high = allowed
    if not low < high:
        raise ConfigError(
            f"a range of {name}s from {low:g} to {high:g} is empty", mend="Give the lesser first"
        )
    if (wrong := np.flatnonzero((values < low) | (values > high))).size:
        row = int(wrong[0])
        problem = f"{values[row]:g} is outside the range from {low:g} to {high:g}"
        raise log.refused(name, row, problem, "Widen the range or mend the value")


def _predicted(log: BidLog) -> bool:
    """Whether the log has a model's predictions itself."""
    return {"q_logged", "q_policy"} <= set(log.table.columns)


def _predictions(
    log: BidLog, policy: Floats, columns: Sequence[str], folds: int, seed: int
) -> tuple[Floats, Floats]:
    """Predicted rewards of the logged and of the new bids: the log's own, or of trees, cross-fitted by user.

    Chernozhukov et al., Double/Debiased Machine Learning, 2018: no row is predicted by trees that have seen
    its user.
    """
    if _predicted(log):
        return log.table["q_logged"].to_numpy(), log.table["q_policy"].to_numpy()
    context = [_encoded(log, name) for name in columns]
    unit = log.users if log.users is not None else np.arange(len(log))
    units = int(unit.max()) + 1
    if min(units, folds) < 2:
        raise DataError(
            "a reward model is fitted on some users and used on others, and the log has one",
            file=log.file,
            mend="Give a longer log, or columns q_logged and q_policy",
        )
    fold = (np.random.default_rng(seed).permutation(units) % min(units, folds))[unit]
    logged, new = (np.column_stack([bids, *context]) for bids in (log.bid, policy))
    q_logged, q_policy = np.empty(len(log)), np.empty(len(log))
    for number in range(int(fold.max()) + 1):
        mine = fold == number
        if int((~mine).sum()) < LEAST_ROWS:
            q_logged[mine] = q_policy[mine] = np.average(log.reward[~mine], weights=log.counts[~mine])
            continue
        model: Any = HistGradientBoostingRegressor(
            max_iter=100,
            max_leaf_nodes=8,
            min_samples_leaf=max(min(100, int((~mine).sum()) // 20), 1),
            l2_regularization=10.0,
            early_stopping=True,
            random_state=seed,
        ).fit(logged[~mine], log.reward[~mine], sample_weight(log.counts[~mine]))
        q_logged[mine], q_policy[mine] = model.predict(logged[mine]), model.predict(new[mine])
    return q_logged, q_policy


def _encoded(log: BidLog, name: str) -> Floats:
    """A context column as numbers: texts by their order."""
    if name not in log.table.columns:
        raise DataError(
            "no such context column", file=log.file, column=name, mend=nearest(name, log.table.columns)
        )
    values = log.table[name]
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        values = values.cast(pl.String).rank("dense")
    if not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
        raise DataError(
            f"a reward model reads numbers and texts, not {values.dtype}",
            file=log.file,
            column=name,
            mend="Leave the column out or cast it",
        )
    return values.cast(pl.Float64).to_numpy()
