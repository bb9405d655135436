"""`ctrkit ope`: what would a new policy have earned on the decisions that a log holds?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field
from scipy.special import logit

from ctrkit.api.model import Model
from ctrkit.api.policy_report import policy_report
from ctrkit.api.policy_specs import COLUMN, PolicyLike, Spec, policy_specs
from ctrkit.api.results import Result, write_run
from ctrkit.api.sample_logs import bundled
from ctrkit.config import Config, load_config
from ctrkit.errors import ConfigError
from ctrkit.ope import DEFAULT_ESTIMATORS, BanditLog, Evaluation, evaluate, read_bandit_log
from ctrkit.ope.log import TARGET
from ctrkit.policies import Policy, PolicyConfig, candidate_mask, make_policy, padded
from ctrkit.policies.candidates import Floats, ragged
from ctrkit.reports import Report
from ctrkit.tables import TableLike
from ctrkit.training.loop import OnStep

# Of the list columns in which a model's scores of the candidates wait for its policy.
SCORE = "policy_score"
# The list column with each candidate's true expected reward, in a simulated market's log.
TRUTH = "true_click_probability"
_ROWS = 4096


class OpeConfig(Config):
    """How to evaluate.

    Attributes:
        policy: in place of the artifact's own, which scores the candidates either way.
        reward_range: least and largest possible reward; by default 0 and 1 where all rewards are one of them.
        context_columns: what the reward model of DM and DR reads; by default every column that says
            something about the row.
        folds: of the reward model's cross-fitting.
    """

    policy: PolicyConfig | None = None
    estimators: tuple[str, ...] = DEFAULT_ESTIMATORS
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    reward_range: tuple[float, float] | None = None
    context_columns: tuple[str, ...] | None = None
    folds: int = Field(default=3, ge=2)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class PolicyValue(Result):
    """What the log says about one policy or several, beside the truth where a simulated log carries it.

    Attributes:
        truths: of the policies, in their order; None where it is not known.
    """

    evaluation: Evaluation
    truths: tuple[float | None, ...]
    notes: tuple[str, ...]

    @property
    def truth(self) -> float | None:
        """That of the first policy."""
        return self.truths[0]

    def to_dict(self) -> dict[str, Any]:
        content = self.evaluation.to_dict()
        for policy, truth in zip(content["policies"], self.truths, strict=True):
            policy["truth"] = truth
        return {**content, "notes": [*content["notes"], *self.notes]}

    def report(self) -> Report:
        return policy_report(self.evaluation.to_dict(), self.truths, self.notes)


def evaluate_policy(
    logs: TableLike | None = None,
    policy: PolicyLike | Sequence[PolicyLike] | None = None,
    *,
    target_column: str | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] = "runs/ope",
    on_step: OnStep = lambda done, total, what: None,
) -> PolicyValue:
    """Evaluate policies on a bandit log, and write a run folder.

    Args:
        logs: a bandit log, as `ctrkit.ope.read_bandit_log` takes it; by default the sample log.
        policy: one or several of these: an artifact or a path to one, whose model scores the candidates and
            whose policy chooses; any `Policy`; `uniform`, `logging`, `action:ID` or `column:NAME`. By default
            `model.pt`, unless there is a target column.
        target_column: the column with the new policy's probability of the logged action, in its place.
        out: the run folder. on_step: called while candidates are scored.

    Raises:
        ConfigError: when both a policy and a target column are given, or no policy is.
    """
    settings = load_config(OpeConfig, config, overrides)
    if policy is not None and target_column is not None:
        raise ConfigError(
            "a policy and a target column are given", mend="Give one of --policy and --target-column"
        )
    log = read_bandit_log(logs if logs is not None else bundled("logs_sample", "bandit.parquet"))
    notes: tuple[str, ...] = () if logs is not None else ("The log is the sample that ships with ctrkit.",)
    if policy is None and (target_column is not None or TARGET.name in log.table.columns):
        policy = f"{COLUMN}{target_column or TARGET.name}"
    elif policy is None:
        policy = "model.pt"
    given = [policy] if isinstance(policy, (str, os.PathLike, Model, Policy)) else list(policy)
    if not given:
        raise ConfigError("no policy is given", mend="Give at least one")
    specs = policy_specs(given)
    names, policies = [], []
    for number, spec in enumerate(specs):
        made = spec.given
        if isinstance(made, Model):
            column = f"{SCORE}_{number}"
            log = _with_scores(log, made, column, on_step)
            own = settings.policy or PolicyConfig.model_validate(made.artifact.policy)
            made = make_policy(own, _Scores(column))
            spec = Spec(made.name if len(specs) == 1 else f"{spec.name}: {made.name}", made)
        names.append(spec.name)
        policies.append(made)
    evaluation = evaluate(
        log,
        policies,
        settings.estimators,
        confidence=settings.confidence,
        reward_range=settings.reward_range,
        context_columns=settings.context_columns,
        folds=settings.folds,
        seed=settings.seed,
        names=names,
    )
    result = PolicyValue(evaluation, tuple(_truth(log, one) for one in policies), notes)
    write_run(out, "ope", settings.model_dump(mode="json"), result)
    return result


def _with_scores(log: BanditLog, model: Model, column: str, on_step: OnStep) -> BanditLog:
    """The log with the model's calibrated log-odds of a click for every candidate, as a list column."""
    scores: list[pl.Series] = []
    for start in range(0, len(log), _ROWS):
        rows = slice(start, min(start + _ROWS, len(log)))
        candidates = log.candidates(rows)
        found = model.score_candidates(log.table[rows], candidates, file=log.file)
        log_odds = logit(found.probabilities[model.tasks[0]])
        scores.append(ragged(log_odds, candidate_mask(candidates)).alias(column))
        on_step(rows.stop, len(log), "scoring candidates")
    return replace(log, table=log.table.with_columns(pl.concat(scores)))


@dataclass(frozen=True)
class _Scores:
    """The scorer of an artifact's policy: reads what `_with_scores` wrote."""

    column: str

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        return padded(context[self.column])


def _truth(log: BanditLog, policy: Policy | str) -> float | None:
    """The policy's true value, mean of Σ π(a) E[r | a], where the log carries the truth of its rewards."""
    if isinstance(policy, str) or TRUTH not in log.table.columns:
        return None
    total = of_logged = noise = 0.0
    for start in range(0, len(log), _ROWS):
        rows = slice(start, min(start + _ROWS, len(log)))
        expected = padded(log.table[TRUTH][rows], fill=0.0)
        logged = np.take_along_axis(expected, log.action_index[rows, None], axis=1)
        of_logged += float(logged.sum())
        noise += float((logged * (1.0 - logged)).sum())
        total += float((policy.probabilities(log.table[rows], log.candidates(rows)) * expected).sum())
    # The column tells of clicks. Rewards of another kind are far from it, and it is not their truth.
    if abs(float(log.reward.sum()) - of_logged) > 6.0 * np.sqrt(noise):
        return None
    return total / len(log)
