"""What is settled before the rows of a log are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctrkit.arrays import Floats
from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.diagnostics.segment_columns import SegmentColumn
from ctrkit.ope.diagnostics.verdict import DECISIVE
from ctrkit.ope.estimators.base import Estimator
from ctrkit.ope.estimators.interval_methods import AUTO, make_interval_method
from ctrkit.ope.estimators.registry import make_estimator, reads_candidates
from ctrkit.ope.logs.survey import LoggingPolicyId

TIME = "timestamp"


@dataclass(frozen=True)
class Plan:
    """How policies are evaluated, settled before the rows are read.

    Attributes:
        names: of the policies.
        modelled: which of them have probabilities of all candidates.
        estimators: specs, see `make_estimator`.
        interval: a name of `interval_methods.INTERVALS`, or `auto`.
        confidence: of the intervals.
        seed: of what is drawn.
        reward_range: least and largest possible reward, where known.
        edges: of time bins, where the log has times.
        segments: the columns that cut rows into segments.
        outcomes: reward columns to estimate beside the reward itself.
        action_feature: of which `candidate_<feature>` tells, for MIPS and OffCEM.
        log_columns: all that the log has.
        deterministic: whether every propensity is 1.
        estimated_propensities: whether the log had none, and they were estimated from it.
        clustered: whether rows have users, by which they go together.
        loggers: how many decisions each logger's rows stand for, where the log tells who chose.
        known: by policy, checks made before the rows are read.
    """

    names: tuple[str, ...]
    modelled: tuple[bool, ...]
    estimators: tuple[str, ...]
    interval: str = AUTO
    confidence: float = 0.95
    seed: int = 0
    reward_range: tuple[float, float] | None = None
    edges: Floats | None = None
    segments: tuple[SegmentColumn, ...] = ()
    outcomes: tuple[str, ...] = ()
    action_feature: str | None = None
    log_columns: frozenset[str] = frozenset()
    deterministic: bool = False
    estimated_propensities: bool = False
    clustered: bool = False
    loggers: Mapping[LoggingPolicyId, float] = field(default_factory=dict)
    known: tuple[tuple[Check, ...], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the log, that the sums read beside weights and rewards."""
        return tuple(dict.fromkeys(["action", TIME, *(one.column for one in self.segments)]))

    def estimator(self, spec: str) -> Estimator:
        """A new one of a spec."""
        made = self.plain(spec)
        made.method = make_interval_method(self.interval, self.reward_range, self.seed)
        return made

    def plain(self, spec: str) -> Estimator:
        """A new one of a spec, with its own intervals."""
        made = make_estimator(spec, self.reward_range)
        made.known = not self.estimated_propensities
        return made

    def able(self, policy: int) -> tuple[str, ...]:
        """The specs that can be worked out for a policy."""
        return tuple(spec for spec in self.estimators if self.modelled[policy] or not reads_candidates(spec))

    def decisive(self, policy: int) -> str | None:
        """The estimator that decides on a policy."""
        return next((name for name in DECISIVE if name in self.able(policy)), None)
