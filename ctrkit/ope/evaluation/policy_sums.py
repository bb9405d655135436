"""All that is kept of the rows of a log while policies are evaluated: sums that merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Self, cast

import numpy as np

from ctrkit.ope.diagnostics.checks import checks_of
from ctrkit.ope.diagnostics.evidence import Evidence
from ctrkit.ope.diagnostics.overlap import ActionOverlap, Residual
from ctrkit.ope.diagnostics.ranking import LOGGING, PolicyRanking, Ranking
from ctrkit.ope.diagnostics.sample_size import SampleSize, sample_size_of
from ctrkit.ope.diagnostics.segments import SegmentSums
from ctrkit.ope.diagnostics.timeline import ASYMPTOTIC, Timeline
from ctrkit.ope.diagnostics.verdict import DECISIVE, deciding, judge
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.ope.estimators.base import Estimate, Estimator, LoggedRows, View, WeightedEstimator
from ctrkit.ope.estimators.importance import OnPolicy
from ctrkit.ope.estimators.interval_methods import make_interval_method
from ctrkit.ope.estimators.registry import ESTIMATORS
from ctrkit.ope.estimators.rows import EvaluatedRows
from ctrkit.ope.estimators.shrunk_weights import ShrunkWeights
from ctrkit.ope.estimators.summaries import Summaries
from ctrkit.ope.estimators.truth import Truth
from ctrkit.ope.estimators.weights import Diagnostics, WeightTail
from ctrkit.ope.evaluation.other_estimates import OtherEstimates
from ctrkit.ope.evaluation.plan import TIME, Plan
from ctrkit.ope.evaluation.results import PolicyEvaluation
from ctrkit.ope.logs.bandit_log import BanditLog


class PolicySums:
    """What is kept of one policy.

    Args:
        policy: its place in the plan.
    """

    def __init__(self, plan: Plan, policy: int) -> None:
        self.plan, self.policy = plan, policy
        estimators = [plan.estimator(spec) for spec in plan.able(policy)]
        self.views: list[View] = [*(one.view for one in estimators), "plain", "plain"]
        self.summaries = Summaries([*estimators, Evidence(plan.reward_range), Residual()])
        self.tail = WeightTail()
        self.weights = WeightSketch()
        self.overlap = ActionOverlap()
        self.timeline = None if plan.edges is None else Timeline(plan.edges, plan.reward_range)
        decisive = plan.decisive(policy) or "ips"
        self.segments = SegmentSums(
            plan.segments,
            lambda: plan.plain(decisive),
            doubts=(plan.deterministic, plan.estimated_propensities),
            known=plan.known[policy],
        )

    def update(self, rows: EvaluatedRows) -> None:
        """Take in rows."""
        seen: dict[View, LoggedRows] = {}
        for view in dict.fromkeys(self.views):
            one = rows.logged(self.policy, view, clustered=self.plan.clustered)
            assert one is not None
            seen[view] = one
        self.summaries.update([seen[view] for view in self.views])
        own, plain = rows.policies[self.policy], seen["plain"]
        self.tail.merge(own.tail)
        self.weights.update(own.weights, rows.counts)
        self.overlap.update(own.weights, rows.table["action"], rows.counts)
        if self.timeline is not None:
            self.timeline.update(rows.table[TIME].to_numpy(), plain)
        self.segments.update(plain, rows.table)

    def merge(self, other: Self) -> None:
        """Take in what another of the same plan and policy has seen, of these or of other users."""
        self.summaries.merge(other.summaries)
        self.tail.merge(other.tail)
        self.weights.merge(other.weights)
        self.overlap.merge(other.overlap)
        if self.timeline is not None and other.timeline is not None:
            self.timeline.merge(other.timeline)
        self.segments.merge(other.segments)

    @property
    def largest_weight(self) -> float:
        """The largest weight to reckon with (see `WeightTail`), at least 1, as weights have mean 1."""
        known = self.tail.largest if self._members()[1].supported else self.weights.largest
        return max(known, 1.0)

    def result(self, truth: float | None) -> PolicyEvaluation:
        """Estimates, diagnostics and verdict."""
        plan, confidence = self.plan, self.plan.confidence
        estimators, evidence, residual = self._members()
        notes: list[str] = []
        estimates = []
        for estimator in estimators:
            if isinstance(estimator, WeightedEstimator) and estimator.view == "plain":
                estimator.largest_weight = self.largest_weight
            estimates.append(estimator.result(confidence))
            notes += _missed(estimates[-1])
            if isinstance(estimator, ShrunkWeights):
                notes += estimator.notes(confidence)
        decisive = deciding({one.estimator: one for one in estimates})
        needed: SampleSize | None = None
        if decisive is not None and _varies(decisive):
            needed = sample_size_of(decisive, round(self.weights.rows), confidence)
        diagnostics = self._diagnostics(evidence)
        # The largest that any candidate of any row has; without the logging policy's probabilities unknown.
        bound = float(self.tail.weights[0]) if evidence.supported and len(self.tail.weights) else None
        timeline = None if self.timeline is None else self.timeline.result(confidence, bound)
        # Bounds for many rows are left by chance where clicks are few: they speak against no estimate.
        guaranteed = timeline is not None and timeline.policy.method != ASYMPTOTIC
        overlap, checked = self.overlap.result(), residual.check()
        checks = checks_of(
            diagnostics,
            decisive,
            plan.reward_range,
            known=plan.known[self.policy],
            running=timeline.policy if timeline is not None and guaranteed else None,
            drift=None if timeline is None else timeline.weight_drift,
            residual=checked,
            tail=self.weights.tail().shape,
            needed=needed,
        )
        return PolicyEvaluation(
            plan.names[self.policy],
            judge(decisive, checks, diagnostics, needed),
            tuple(estimates),
            diagnostics,
            checks,
            truth,
            tuple(notes),
            needed,
            checked,
            self.weights,
            overlap,
            timeline,
            self.segments.result(confidence),
        )

    def _members(self) -> tuple[tuple[Estimator, ...], Evidence, Residual]:
        """With all rows so far."""
        *estimators, evidence, residual = self.summaries.members
        return cast(
            "tuple[tuple[Estimator, ...], Evidence, Residual]", (tuple(estimators), evidence, residual)
        )

    def _diagnostics(self, evidence: Evidence) -> Diagnostics:
        plan, summary = self.plan, asdict(self.weights.summary())
        if plan.clustered:
            del summary["mean_weight_z"]  # of rows that are independent
        return replace(evidence.diagnostics(plan.deterministic, plan.estimated_propensities), **summary)


def _missed(estimate: Estimate) -> Iterator[str]:
    """A sentence, where an interval left out its own estimate."""
    for of, value, interval in (
        ("estimate", estimate.value, estimate.interval),
        ("difference", estimate.difference, estimate.difference_interval),
    ):
        if interval.missed:
            yield (
                f"{estimate.estimator}: the {of}, {value:.4g}, was outside its interval ({interval.method}), "
                "which was widened to include it. An assumption of the interval, weights of mean 1 or "
                "rewards within their range, is wrong for these rows: trust neither of them."
            )


def _varies(estimate: Estimate) -> bool:
    """Whether the rows tell how far the difference spreads."""
    width = estimate.difference_interval.high - estimate.difference_interval.low
    return bool(0 < width < np.inf and np.isfinite(estimate.difference))


class EvaluationSums:
    """What is kept of all policies, of the logging policy and of how they compare.

    Of rows nothing is kept; of users some sums each, wherever their rows stand (see `UnitSums`).
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.policies = [PolicySums(plan, place) for place in range(len(plan.names))]
        self.logging = OnPolicy(plan.reward_range)
        self.logging.method = make_interval_method(plan.interval, plan.reward_range, plan.seed)
        self.truth = Truth(len(plan.names))
        self.ranking = self._new_ranking()
        self.others = [OtherEstimates(plan, place) for place in range(len(plan.names))]

    def update(self, log: BanditLog, rows: EvaluatedRows) -> None:
        """Take in a batch, and the rows made of it."""
        for one in self.others:
            one.update(log, rows)
        for sums in self.policies:
            sums.update(rows)
        clustered = self.plan.clustered
        self.logging.update(rows.logging(clustered=clustered))
        self.truth.merge(rows.truth)
        if self.ranking is not None:
            seen = [rows.logged(place, clustered=clustered) for place in range(len(self.policies))]
            self.ranking.update([one for one in seen if one is not None])

    def merge(self, other: Self) -> None:
        """Take in what another of the same plan has seen."""
        for mine, theirs in zip(self.others, other.others, strict=True):
            mine.merge(theirs)
        for one, other_one in zip(self.policies, other.policies, strict=True):
            one.merge(other_one)
        self.logging.merge(other.logging)
        self.truth.merge(other.truth)
        if self.ranking is not None and other.ranking is not None:
            self.ranking.merge(other.ranking)

    def results(self) -> tuple[PolicyEvaluation, ...]:
        """Of the policies."""
        truths = self.truth.values()
        confidence = self.plan.confidence
        logging = self.logging.result(confidence)
        return tuple(
            replace(one.result(truth), groups=others.groups(confidence, logging))
            for one, others, truth in zip(self.policies, self.others, truths, strict=True)
        )

    def rank(self) -> Ranking | None:
        """The policies by the estimator that decides on all of them; None for one policy."""
        if self.ranking is None:
            return None
        for one, sums in zip(self.plan.names, self.policies, strict=True):
            estimator = self.ranking.joint.estimators[one]
            if isinstance(estimator, WeightedEstimator):
                estimator.largest_weight = sums.largest_weight
        return self.ranking.result(self.plan.confidence, seed=self.plan.seed)

    def _new_ranking(self) -> PolicyRanking | None:
        plan = self.plan
        deciding = [plan.decisive(place) for place in range(len(plan.names))]
        if len(deciding) < 2 or None in deciding:
            return None
        # All are ranked by one, so by the last of DECISIVE that any of them needs.
        kind = max((name for name in deciding if name is not None), key=DECISIVE.index)
        # The logging policy may be one of the policies already.
        logging = LOGGING not in plan.names
        return PolicyRanking(plan.names, ESTIMATORS[kind], plan.reward_range, logging=logging)
