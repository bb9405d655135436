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

from ctrkit.api.model import Model, load
from ctrkit.api.results import Result, write_run
from ctrkit.api.sample_logs import bundled
from ctrkit.config import Config, load_config
from ctrkit.errors import ConfigError
from ctrkit.ope import DEFAULT_ESTIMATORS, BanditLog, Evaluation, evaluate, read_bandit_log
from ctrkit.policies import Policy, PolicyConfig, candidate_mask, make_policy, padded
from ctrkit.policies.candidates import Floats, ragged
from ctrkit.reports import Report, Table
from ctrkit.reports.figures import forest_plot
from ctrkit.tables import TableLike
from ctrkit.training.loop import OnStep

# The list column in which the model's score of each candidate waits for the policy.
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
    """What the log says about the policy, beside the truth where a simulated log carries it."""

    evaluation: Evaluation
    truth: float | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        content = self.evaluation.to_dict()
        for policy in content["policies"]:
            policy["truth"] = self.truth
        return {**content, "notes": [*content["notes"], *self.notes]}

    def report(self) -> Report:
        content = self.evaluation.to_dict()
        (policy,), logging = content["policies"], content["logging"]
        truth = () if self.truth is None else (("truth", _number(self.truth), "", "", ""),)
        rows = (
            ("logging policy", *_value(logging)),
            *((estimate["estimator"], *_value(estimate)) for estimate in policy["estimates"]),
            *truth,
        )
        title = f"Value of a decision under {policy['name']}"
        estimates = Table(title, ("estimator", "value", "low", "high", "interval"), rows)
        diagnostics = Table(
            "Diagnostics",
            ("what", "value"),
            tuple((name.replace("_", " "), _number(value)) for name, value in policy["diagnostics"].items()),
        )
        drawn = [
            {"label": estimate["estimator"], **{key: estimate[key] for key in ("value", "low", "high")}}
            for estimate in policy["estimates"]
            if None not in (estimate["value"], estimate["low"], estimate["high"])
        ]
        return Report(
            "Off-policy evaluation",
            f"Verdict on {policy['name']}: {policy['verdict']} ({policy['reason']}).",
            (estimates, diagnostics),
            (forest_plot("estimates", logging, drawn, self.truth),),
            (*content["notes"], *self.notes),
        )


def evaluate_policy(
    logs: TableLike | None = None,
    policy: str | os.PathLike[str] | Model | Policy | None = None,
    *,
    target_column: str | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] = "runs/ope",
    on_step: OnStep = lambda done, total, what: None,
) -> PolicyValue:
    """Evaluate a policy on a bandit log, and write a run folder.

    Args:
        logs: a bandit log (see `ctrkit.schema.BANDIT_LOG`); by default the sample log.
        policy: an artifact or a path to one, whose model scores the candidates and whose policy chooses; or
            any `Policy`. By default `model.pt`, unless there is a target column.
        target_column: the column with the new policy's probability of the logged action, in its place.
        out: the run folder. on_step: called while candidates are scored.

    Raises:
        ConfigError: when both a policy and a target column are given.
    """
    settings = load_config(OpeConfig, config, overrides)
    if policy is not None and target_column is not None:
        raise ConfigError(
            "a policy and a target column are given", mend="Give one of --policy and --target-column"
        )
    log = read_bandit_log(logs if logs is not None else bundled("logs_sample", "bandit.parquet"))
    notes: tuple[str, ...] = () if logs is not None else ("The log is the sample that ships with ctrkit.",)
    chosen: Policy | str
    if policy is None and (target_column is not None or "target_probability" in log.table.columns):
        chosen = target_column or "target_probability"
    elif isinstance(policy, Policy):
        chosen = policy
    else:
        model = policy if isinstance(policy, Model) else load(policy if policy is not None else "model.pt")
        log = _with_scores(log, model, on_step)
        chosen = make_policy(
            settings.policy or PolicyConfig.model_validate(model.artifact.policy), _scores_of
        )
    evaluation = evaluate(
        log,
        [chosen],
        settings.estimators,
        confidence=settings.confidence,
        reward_range=settings.reward_range,
        context_columns=settings.context_columns,
        folds=settings.folds,
        seed=settings.seed,
    )
    result = PolicyValue(evaluation, _truth(log, chosen), notes)
    write_run(out, "ope", settings.model_dump(mode="json"), result)
    return result


def _with_scores(log: BanditLog, model: Model, on_step: OnStep) -> BanditLog:
    """The log with the model's calibrated log-odds of a click for every candidate, as a list column."""
    scores: list[pl.Series] = []
    for start in range(0, len(log), _ROWS):
        rows = slice(start, min(start + _ROWS, len(log)))
        candidates = log.candidates(rows)
        found = model.score_candidates(log.table[rows], candidates, file=log.file)
        log_odds = logit(found.probabilities[model.tasks[0]])
        scores.append(ragged(log_odds, candidate_mask(candidates)).alias(SCORE))
        on_step(rows.stop, len(log), "scoring candidates")
    return replace(log, table=log.table.with_columns(pl.concat(scores)))


def _scores_of(context: pl.DataFrame, candidates: pl.Series) -> Floats:
    """The scorer of an artifact's policy: reads what `_with_scores` wrote."""
    return padded(context[SCORE])


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


def _value(estimate: dict[str, Any]) -> tuple[str, str, str, str]:
    value, low, high = (_number(estimate[key]) for key in ("value", "low", "high"))
    return value, low, high, estimate["interval"]


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
