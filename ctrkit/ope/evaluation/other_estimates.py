"""Estimates that only some logs allow: pages, several logging policies, outcomes, action features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ctrkit.arrays import Floats
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.estimators.rows import EvaluatedRows
from ctrkit.ope.evaluation.plan import Plan
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.structured import action_feature_log as feature_log
from ctrkit.ope.structured import logging_policy_log, outcome_log, slate_log
from ctrkit.ope.structured.action_feature_log import FeatureEstimators
from ctrkit.ope.structured.logging_policy_log import LoggingPolicyLog
from ctrkit.ope.structured.outcome_log import OutcomeLog
from ctrkit.ope.structured.slate_log import SlateLog


@dataclass(frozen=True)
class EstimateGroup:
    """Estimates of one kind.

    Attributes:
        title: what they are of.
        estimates: of the policy.
        logging: the logging policy's own value, or its value by each estimate's name.
        meaning: by estimator, its meaning or assumption.
        notes: sentences on assumptions.
    """

    title: str
    estimates: tuple[Estimate, ...]
    logging: tuple[Estimate, ...]
    meaning: Mapping[str, str]
    notes: tuple[str, ...] = ()


class OtherEstimates:
    """Those of one policy, as far as the log's columns and the plan go.

    Args:
        policy: its place in the plan.
    """

    def __init__(self, plan: Plan, policy: int) -> None:
        self.policy = policy
        slates, loggers = {"slate_id", "position"} <= plan.log_columns, "logger_id" in plan.log_columns
        self.slates = SlateLog(plan.reward_range) if slates else None
        total = sum(plan.loggers.values())
        shares = {logger: count / total for logger, count in plan.loggers.items()} or None
        self.loggers = LoggingPolicyLog(shares, plan.reward_range) if loggers else None
        self.outcomes = OutcomeLog(plan.outcomes) if plan.outcomes else None
        by_feature = plan.action_feature is not None and plan.modelled[policy]
        self.features = (
            FeatureEstimators(plan.action_feature or "", plan.reward_range) if by_feature else None
        )

    def update(self, log: BanditLog, rows: EvaluatedRows) -> None:
        """Take in a batch, and the rows made of it."""
        seen = rows.logged(self.policy)
        assert seen is not None
        probability = seen.weights * log.propensity
        if self.slates is not None:
            self.slates.update(log, probability)
        if self.loggers is not None:
            self.loggers.update(log, probability, seen.q_logged, seen.q_policy)
        if self.outcomes is not None:
            self.outcomes.update(log, seen)

    def update_block(
        self,
        log: BanditLog,
        block: slice,
        probabilities: Floats,
        logging: Floats | None,
        q_logged: Floats | None,
        q_policy: Floats | None,
    ) -> None:
        """Take in some rows of a batch, with both policies' probabilities of the candidates [B, K]."""
        if self.features is not None and logging is not None:
            self.features.update(log, block, probabilities, logging, q_logged, q_policy)

    def merge(self, other: Self) -> None:
        """Take in what another of the same plan and policy has seen."""
        if self.slates is not None and other.slates is not None:
            self.slates.merge(other.slates)
        if self.loggers is not None and other.loggers is not None:
            self.loggers.merge(other.loggers)
        if self.outcomes is not None and other.outcomes is not None:
            self.outcomes.merge(other.outcomes)
        if self.features is not None and other.features is not None:
            self.features.merge(other.features)

    def groups(self, confidence: float, logging: Estimate) -> tuple[EstimateGroup, ...]:
        """What there is; `logging` is the logging policy's value a row."""
        found = []
        if self.slates is not None:
            pages = self.slates.settled()
            found.append(
                EstimateGroup(
                    "Value of a page",
                    pages.result(confidence),
                    (pages.logging(confidence),),
                    slate_log.MEANING,
                    pages.notes,
                )
            )
        if self.loggers is not None:
            estimates = self.loggers.result(confidence)
            found.append(
                EstimateGroup(
                    "Several logging policies",
                    estimates,
                    (logging,),
                    logging_policy_log.MEANING,
                    self.loggers.notes,
                )
            )
        if self.outcomes is not None:
            result = self.outcomes.result(confidence)
            found.append(EstimateGroup("Outcomes", result.policy, result.logging, outcome_log.MEANING))
        if self.features is not None:
            estimates = self.features.result(confidence)
            title = f"By the action's {self.features.feature}"
            found.append(EstimateGroup(title, estimates, (logging,), feature_log.MEANING))
        return tuple(found)
