"""What an off-policy evaluation gives: estimates, verdicts, and what speaks for and against them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.diagnostics.overlap import MeanCheck
from ctrkit.ope.diagnostics.ranking import Ranking
from ctrkit.ope.diagnostics.sample_size import SampleSize
from ctrkit.ope.diagnostics.segments import ColumnSegments
from ctrkit.ope.diagnostics.timeline_results import TimelineResult
from ctrkit.ope.diagnostics.verdict import PolicyVerdict
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.weights import Diagnostics
from ctrkit.ope.evaluation.other_estimates import EstimateGroup
from ctrkit.ope.intervals.interval import ConfidenceInterval


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a log says about one policy.

    Attributes:
        checks: the diagnostics and what they should be; the verdict follows from them.
        truth: the policy's true value, where a simulated log carries it.
        notes: sentences on what the intervals of these estimates leave out.
        sample_size: rows needed to tell the deciding estimate's difference; None where none decides.
        residual: mean of w (r - q), which the doubly robust method adds; None without a reward model.
        weights: their sketch.
        overlap: by action, see `ActionOverlap.result`.
        timeline: estimates over time; None where the log has no times.
        segments: estimates by segment, for each column asked for.
        groups: estimates that only some logs allow, of pages or outcomes for example.
    """

    name: str
    verdict: PolicyVerdict
    estimates: tuple[Estimate, ...]
    diagnostics: Diagnostics
    checks: tuple[Check, ...]
    truth: float | None = None
    notes: tuple[str, ...] = ()
    sample_size: SampleSize | None = None
    residual: MeanCheck | None = None
    weights: WeightSketch = field(default_factory=WeightSketch)
    overlap: pl.DataFrame = field(default_factory=pl.DataFrame)
    timeline: TimelineResult | None = None
    segments: tuple[ColumnSegments, ...] = ()
    groups: tuple[EstimateGroup, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "verdict": self.verdict.verdict,
            "reason": self.verdict.reason,
            "truth": self.truth,
            "estimates": estimates_of(self.estimates),
            "diagnostics": asdict(self.diagnostics),
            "checks": [asdict(one) for one in self.checks],
            "sample_size": None if self.sample_size is None else self.sample_size.to_dict(),
            "residual": None if self.residual is None else asdict(self.residual),
            "weights": self.weights.to_dict(),
            "overlap": self.overlap.to_dicts(),
            "timeline": None if self.timeline is None else self.timeline.to_dict(),
            "segments": [one.to_dict() for one in self.segments],
            "groups": [_group(one) for one in self.groups],
        }


@dataclass(frozen=True)
class Evaluation:
    """What a log says about some policies.

    Attributes:
        logging: the logging policy's own value.
        policies: in the order given.
        confidence: of all intervals.
        notes: sentences on what was taken for granted or left out.
        ranking: of several policies and the logging policy, by one estimator on the same rows.
        balance: of propensities that were estimated; see `ctrkit.ope.models.propensities.balance`.
    """

    logging: Estimate
    policies: tuple[PolicyEvaluation, ...]
    confidence: float
    notes: tuple[str, ...]
    ranking: Ranking | None = None
    balance: pl.DataFrame | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; what is undetermined or infinite is None."""
        found: dict[str, Any] = plain(
            {
                "logging": {"value": self.logging.value, **bounds_of(self.logging.interval)},
                "policies": [policy.to_dict() for policy in self.policies],
                "confidence": self.confidence,
                "ranking": None if self.ranking is None else self.ranking.to_dict(),
                "balance": None if self.balance is None else self.balance.to_dicts(),
                "notes": list(dict.fromkeys((*self.notes, *self._notes_of_policies()))),
            }
        )
        return found

    def _notes_of_policies(self) -> Iterator[str]:
        for policy in self.policies:
            yield from policy.notes
            for group in policy.groups:
                yield from group.notes


def estimates_of(estimates: Sequence[Estimate]) -> list[dict[str, Any]]:
    """Plain data of estimates."""
    return [
        {
            "estimator": estimate.estimator,
            "value": estimate.value,
            **bounds_of(estimate.interval),
            "difference": {"value": estimate.difference, **bounds_of(estimate.difference_interval)},
        }
        for estimate in estimates
    ]


def _group(group: EstimateGroup) -> dict[str, Any]:
    """Plain data of a group."""
    return {
        "title": group.title,
        "logging": [
            {"estimator": one.estimator, "value": one.value, **bounds_of(one.interval)}
            for one in group.logging
        ],
        "estimates": [
            {**one, "meaning": group.meaning.get(one["estimator"], "")}
            for one in estimates_of(group.estimates)
        ],
    }


def bounds_of(interval: ConfidenceInterval) -> dict[str, Any]:
    """Plain data of an interval."""
    return {"low": interval.low, "high": interval.high, "interval": interval.method}


def plain(content: Any) -> Any:
    """The same data with None for what is undetermined or infinite, 0 for -0, and Python's own numbers."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    if isinstance(content, np.ndarray):
        return plain(content.tolist())
    if isinstance(content, np.generic):
        return plain(content.item())
    if isinstance(content, float):
        return content + 0.0 if math.isfinite(content) else None
    return content
