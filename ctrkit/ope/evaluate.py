"""Off-policy evaluation from end to end: a log and policies in, estimates and verdicts out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctrkit.errors import ConfigError, DataError
from ctrkit.ope.base import Estimate, LoggedRows
from ctrkit.ope.importance import OnPolicy
from ctrkit.ope.intervals import Interval
from ctrkit.ope.log import BanditLog
from ctrkit.ope.ranking import LOGGING, PolicyRanking, Ranking
from ctrkit.ope.registry import ESTIMATORS, make_estimator
from ctrkit.ope.reward_model import RewardModel
from ctrkit.ope.rows import PolicyRows, rows_of_column, rows_of_policies
from ctrkit.ope.shrunk_weights import ShrunkWeights
from ctrkit.ope.verdict import DECISIVE, Verdict, judge
from ctrkit.ope.weights import Diagnostics, diagnose
from ctrkit.policies import Policy

DEFAULT_ESTIMATORS = ("ips", "snips", "dm", "dr")
NAMED_COLUMNS = 8


@dataclass(frozen=True)
class PolicyEvaluation:
    """What a log says about one policy.

    Attributes:
        notes: sentences on what the intervals of these estimates leave out.
    """

    name: str
    verdict: Verdict
    estimates: tuple[Estimate, ...]
    diagnostics: Diagnostics
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What a log says about some policies.

    Attributes:
        logging: the logging policy's own value.
        policies: in the order given.
        confidence: of all intervals.
        notes: sentences on what was taken for granted or left out.
        ranking: of several policies and the logging policy, by one estimator on the same rows.
    """

    logging: Estimate
    policies: tuple[PolicyEvaluation, ...]
    confidence: float
    notes: tuple[str, ...]
    ranking: Ranking | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; what is undetermined or infinite is None."""
        return {
            "logging": {"value": self.logging.value, **_bounds(self.logging.interval)},
            "policies": [
                {
                    "name": policy.name,
                    "verdict": policy.verdict.verdict,
                    "reason": policy.verdict.reason,
                    "estimates": [
                        {
                            "estimator": estimate.estimator,
                            "value": _finite(estimate.value),
                            **_bounds(estimate.interval),
                            "difference": {
                                "value": _finite(estimate.difference),
                                **_bounds(estimate.difference_interval),
                            },
                        }
                        for estimate in policy.estimates
                    ],
                    "diagnostics": {
                        key: _finite(value) if isinstance(value, float) else value
                        for key, value in asdict(policy.diagnostics).items()
                    },
                }
                for policy in self.policies
            ],
            "confidence": self.confidence,
            "ranking": None if self.ranking is None else _plain(self.ranking.to_dict()),
            "notes": [*self.notes, *(note for policy in self.policies for note in policy.notes)],
        }


def evaluate(
    log: BanditLog,
    policies: Sequence[Policy | str],
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    *,
    confidence: float = 0.95,
    reward_range: tuple[float, float] | None = None,
    context_columns: Sequence[str] | None = None,
    folds: int = 3,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Evaluation:
    """Estimate what policies would have earned on a log.

    Args:
        log: see `read_bandit_log`.
        policies: policies, or names of columns with a policy's probability of the logged action. For a
            column the estimators that need its probabilities of the other candidates are left out.
        estimators: specs as `make_estimator` reads them, such as `dr` or `switch-dr:tau=10`.
        confidence: of the two-sided intervals.
        reward_range: least and largest possible reward; by default 0 and 1 where all rewards are one of
            them, else unknown, and then intervals are normal ones.
        context_columns: what the reward model reads; by default see `reward_features.context_columns`.
        folds, seed: of the reward model's cross-fitting.
        names: what to call the policies; by default what they are called themselves.

    Raises:
        ConfigError: for an unknown estimator, or a confidence or range out of bounds.
        DataError: for rewards outside `reward_range`, and bad columns.
        RunError: for a policy whose probabilities are no distribution.
    """
    kinds = [make_estimator(spec, (0.0, 1.0)) for spec in estimators]
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", mend="Give 0.95, say")
    if reward_range is None and log.binary:
        reward_range = (0.0, 1.0)
    elif reward_range is not None:
        _check_rewards(log, reward_range)

    models = [policy for policy in policies if isinstance(policy, Policy)]
    modelled = any(kind.needs_reward_model for kind in kinds)
    model = RewardModel(log, context_columns, folds, seed) if modelled and models else None
    of_policies = iter(rows_of_policies(log, models, model))
    called = names or [policy.name if isinstance(policy, Policy) else policy for policy in policies]
    rows = [
        next(of_policies) if isinstance(policy, Policy) else rows_of_column(log, policy)
        for policy in policies
    ]
    results = tuple(
        _evaluate_one(name, one, estimators, confidence, reward_range)
        for name, one in zip(called, rows, strict=True)
    )
    logging = OnPolicy(reward_range)
    logging.update(LoggedRows(np.ones(len(log)), log.reward, 1.0, users=log.users))
    return Evaluation(
        logging.result(confidence),
        results,
        confidence,
        tuple(_notes(log, reward_range, model, left_out=modelled and len(models) < len(policies))),
        _ranking(called, [one.rows for one in rows], estimators, confidence, reward_range, seed),
    )


def _ranking(
    names: Sequence[str],
    rows: Sequence[LoggedRows],
    estimators: Sequence[str],
    confidence: float,
    reward_range: tuple[float, float] | None,
    seed: int,
) -> Ranking | None:
    """The policies ranked by the estimator that decides; None for one policy, or where none decides."""
    modelled = all(one.q_policy is not None for one in rows)
    able = (
        name
        for name in DECISIVE
        if name in estimators and (modelled or not ESTIMATORS[name].needs_reward_model)
    )
    kind = next(able, None)
    if len(rows) < 2 or kind is None:
        return None
    # It may be one of the policies already.
    ranking = PolicyRanking(names, ESTIMATORS[kind], reward_range, logging=LOGGING not in names)
    ranking.update(rows)
    return ranking.result(confidence, seed=seed)


def _evaluate_one(
    name: str,
    policy: PolicyRows,
    estimators: Sequence[str],
    confidence: float,
    reward_range: tuple[float, float] | None,
) -> PolicyEvaluation:
    rows = policy.rows
    estimates: dict[str, Estimate] = {}
    notes: list[str] = []
    for spec in estimators:
        estimator = make_estimator(spec, reward_range)
        if estimator.needs_reward_model and rows.q_policy is None:
            continue
        estimator.update(rows)
        estimate = estimator.result(confidence)
        estimates[estimate.estimator] = estimate
        if isinstance(estimator, ShrunkWeights):
            notes += estimator.notes(confidence)
    diagnostics = diagnose(rows.weights, rows.rewards, policy.unsupported_share)
    verdict = judge(estimates, diagnostics, reward_range)
    return PolicyEvaluation(name, verdict, tuple(estimates.values()), diagnostics, tuple(notes))


def _check_rewards(log: BanditLog, reward_range: tuple[float, float]) -> None:
    low, high = reward_range
    if not low < high:
        raise ConfigError(
            f"a reward range from {low:g} to {high:g} is empty", mend="Give the lesser reward first"
        )
    wrong = np.flatnonzero((log.reward < low) | (log.reward > high))
    if wrong.size:
        raise DataError(
            f"{log.reward[wrong[0]]:g} is outside the reward range from {low:g} to {high:g}",
            file=log.file,
            column="reward",
            row=int(wrong[0]),
            mend="Widen the range or mend the reward",
        )


def _notes(
    log: BanditLog, reward_range: tuple[float, float] | None, model: RewardModel | None, left_out: bool
) -> Iterator[str]:
    yield from log.notes
    if log.actions is not None:
        yield f"The log names no candidates: each row's are all {log.actions.len()} actions of the log."
    if reward_range is None:
        yield "No range of rewards is given: intervals are normal ones, too short where rewards are skewed."
    if model is not None:
        columns = model.features.columns
        more = f" and {len(columns) - NAMED_COLUMNS} more" if len(columns) > NAMED_COLUMNS else ""
        read = ", ".join(columns[:NAMED_COLUMNS]) or "no context"
        yield f"The reward model reads {read}{more}, beside the candidates' features and ids."
    if left_out:
        yield (
            "Estimators with a reward model need a policy's probabilities of all candidates: a column of "
            "probabilities has none."
        )


def _bounds(interval: Interval) -> dict[str, Any]:
    return {"low": _finite(interval.low), "high": _finite(interval.high), "interval": interval.method}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(content: Any) -> Any:
    """The same data with None for what is undetermined or infinite."""
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return _finite(content) if isinstance(content, float) else content
