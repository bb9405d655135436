"""Off-policy evaluation from end to end: a log and policies in, estimates and verdicts out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.diagnostics.segment_columns import SegmentColumn
from ctrkit.ope.diagnostics.timeline import BINS
from ctrkit.ope.estimators.interval_methods import AUTO, make_interval_method, other_methods, why
from ctrkit.ope.estimators.registry import make_estimator, reads_candidates
from ctrkit.ope.estimators.rows import Models, RewardPredictor
from ctrkit.ope.evaluation.engine import Engine, LocalEngine
from ctrkit.ope.evaluation.parts import LogPart, WholeLog
from ctrkit.ope.evaluation.passes import MODEL_ROWS, FirstPass, ModelSettings, SecondPass
from ctrkit.ope.evaluation.plan import Plan
from ctrkit.ope.evaluation.results import Evaluation, PolicyEvaluation
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.survey import LogFacts, Survey
from ctrkit.ope.models.density_ratio import DensityRatio
from ctrkit.ope.models.reward_model import RewardModel
from ctrkit.policies import Policy
from ctrkit.progress import OnStep, silent

DEFAULT_ESTIMATORS = ("ips", "snips", "dm", "dr")
NAMED_COLUMNS = 8
# Logs with one of these are read with all their columns.
OF_OTHER_KINDS = ("slate_id", "logger_id")


def evaluate(
    log: BanditLog | Sequence[LogPart],
    policies: Sequence[Policy | str],
    estimators: Sequence[str] | None = None,
    *,
    interval: str = AUTO,
    confidence: float = 0.95,
    reward_range: tuple[float, float] | None = None,
    reward_model: str | RewardPredictor = "trees",
    context_columns: Sequence[str] | None = None,
    excluded: Sequence[str] = (),
    folds: int = 3,
    segments: Sequence[str | SegmentColumn] = (),
    outcomes: Sequence[str] = (),
    action_feature: str | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    known: Mapping[str, Sequence[Check]] = MappingProxyType({}),
    engine: Engine | None = None,
    on_step: OnStep = silent,
) -> Evaluation:
    """Estimate what policies would have earned on a log.

    The log is read twice: for its ranges and the rows that models are fitted on, and for the estimates.

    Args:
        log: see `read_bandit_log`; or its parts, see `log_parts`, which need not fit into memory together.
        policies: policies, or names of columns with a policy's probability of the logged action. A column
            has no estimates by what needs the probabilities of the other candidates too, which notes tell.
        estimators: specs as `make_estimator` reads them, such as `dr` or `switch-dr:tau=10`; by default
            those of `DEFAULT_ESTIMATORS` that some policy can have.
        interval: a name of `interval_methods.INTERVALS`; `auto` leaves the choice to the estimator. Notes
            tell of estimators for which there is no such interval.
        confidence: confidence level of the two-sided intervals.
        reward_range: the smallest and the largest possible reward; by default 0 and 1 where all rewards are 0
            or 1. Else the range is unknown and intervals are normal.
        reward_model: a name of `learners.LEARNERS`, fitted on the log with cross-fitting, or a model.
        context_columns: what fitted models read; by default see `reward_features.context_columns`.
        excluded: columns that this default leaves out, such as those of policies.
        folds: number of folds of the cross-fitting.
        segments: columns by whose values estimates are split.
        outcomes: reward columns such as `click`, `conversion`, `value` and `cost`, to estimate with their
            ratios beside the reward itself.
        action_feature: what actions share, for MIPS and OffCEM: `candidate_<feature>` lists it.
        seed: seed of folds, draws and models.
        names: names of the policies in the result; by default their own names.
        known: name of a policy -> checks of it that are made already, such as whether it was trained on
            these rows; they count in its verdict.
        engine: where the parts are evaluated; by default one after another in this process.
        on_step: called with the progress.

    Raises:
        ConfigError: for an unknown estimator or interval, a confidence or range out of bounds, and an
            estimator or feature that is asked for and that no policy can have.
        DataError: for rewards outside `reward_range`, and bad columns.
        RunError: for a policy whose probabilities are no distribution.
    """
    _check(interval, confidence, reward_range)
    parts = [WholeLog(log)] if isinstance(log, BanditLog) else list(log)
    engine = engine or LocalEngine()
    total = sum(part.rows for part in parts)
    modelled = tuple(isinstance(policy, Policy) for policy in policies)
    asked = DEFAULT_ESTIMATORS if estimators is None else estimators
    estimators = _able(estimators, any(modelled))
    if action_feature is not None:
        _check_feature(action_feature, any(modelled), parts[0])
    views = _views(estimators) if any(modelled) else frozenset()
    fitted = views - ({"reward model"} if not isinstance(reward_model, str) else set())
    cut = tuple(SegmentColumn(one) if isinstance(one, str) else one for one in segments)
    for one in cut:
        if one.column not in parts[0].names:
            raise DataError(
                "no such column for segments",
                column=one.column,
                hint=nearest(one.column, parts[0].names),
            )

    called = names or [policy.name if isinstance(policy, Policy) else policy for policy in policies]
    if len(set(called)) < len(called):
        raise ConfigError(
            f"two policies have the same name: {', '.join(called)}", hint="Give each its own with names=[...]"
        )

    survey = Survey()
    look = FirstPass(
        MODEL_ROWS if fitted else 0,
        seed,
        narrow=fitted <= {"reward model"},
        named=tuple(context_columns or ()),
        columns=None if fitted else ("timestamp", "logger_id"),
        reward_range=reward_range,
    )
    for seen in engine.map(look, parts, lambda rows: on_step(rows, total, "reading the log")):
        survey.merge(seen)
    facts = survey.facts
    if reward_range is None and facts.binary:
        reward_range = (0.0, 1.0)
    targets = [policy for policy in policies if isinstance(policy, str)]
    unread = (*targets, *outcomes, *excluded)
    settings = ModelSettings(reward_model, context_columns, folds, seed, unread)
    models = settings.fit(survey.sample.log() if survey.sample else None, policies, views)

    plan = Plan(
        tuple(called),
        modelled,
        tuple(estimators),
        interval,
        confidence,
        seed,
        reward_range,
        _edges(facts),
        cut,
        tuple(outcomes),
        action_feature,
        parts[0].names,
        facts.propensities == (1.0, 1.0),
        facts.balance is not None,
        facts.clustered,
        facts.logging_policies,
        tuple(tuple(known.get(name, ())) for name in called),
    )
    plain = not any(modelled) and not outcomes and parts[0].names.isdisjoint(OF_OTHER_KINDS)
    columns = (*plan.columns, *targets) if plain else None
    judge = SecondPass(plan, policies, models, facts, columns)
    found = engine.map(judge, parts, lambda rows: on_step(rows, total, "evaluating"))
    sums = next(found)
    for more in found:
        sums.merge(more)
    sampled = survey.sample is not None and not survey.sample.whole
    results = sums.results()
    return Evaluation(
        sums.logging.result(confidence),
        results,
        confidence,
        (*_notes(facts, plan, models, sampled=sampled), *_left_out(plan, asked, results)),
        sums.rank(),
        facts.balance,
    )


def _able(estimators: Sequence[str] | None, modelled: bool) -> tuple[str, ...]:
    """The estimators that some policy can have, of the default ones or of those that are asked for."""
    if estimators is None:
        return tuple(spec for spec in DEFAULT_ESTIMATORS if modelled or not reads_candidates(spec))
    for spec in estimators:
        if reads_candidates(spec) and not modelled:
            raise ConfigError(
                f"estimator {spec} needs a policy's probabilities of all candidates; a column has only those "
                "of the logged action",
                hint=f"Give the policy itself, or leave out {spec}",
            )
    return tuple(estimators)


def _check_feature(feature: str, modelled: bool, part: LogPart) -> None:
    """Refuse what MIPS and OffCEM cannot be worked out from."""
    if not modelled:
        raise ConfigError(
            f"the weights of '{feature}' need a policy's probabilities of all candidates; a column has "
            "only those of the logged action",
            hint="Give the policy itself, or leave out action_feature",
        )
    if "logging_probabilities" not in part.names:
        raise DataError(
            f"the weights of '{feature}' need the logging policy's probabilities of all candidates",
            column="logging_probabilities",
            hint="Log the probability of every candidate, or leave out action_feature",
        )


def _views(estimators: Sequence[str]) -> frozenset[str]:
    """What estimators read beside the weights: `reward model`, and `View`s (`ctrkit.ope.estimators.base`)."""
    made = [make_estimator(spec, (0.0, 1.0)) for spec in estimators]
    plain = {"reward model" for one in made if one.needs_reward_model and one.view == "plain"}
    return frozenset(plain | {one.view for one in made} - {"plain"})


def _edges(facts: LogFacts) -> Floats | None:
    """Of time bins of equal length; None where the log has no times, or but one."""
    if facts.times is None or not facts.times[0] < facts.times[1]:
        return None
    return np.linspace(*facts.times, BINS + 1)


def _check(interval: str, confidence: float, reward_range: tuple[float, float] | None) -> None:
    make_interval_method(interval, (0.0, 1.0))
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence of {confidence} is not between 0 and 1", hint="Give 0.95, say")
    if reward_range is not None and not reward_range[0] < reward_range[1]:
        raise ConfigError(
            f"a reward range from {reward_range[0]:g} to {reward_range[1]:g} is empty",
            hint="Give the smaller reward first",
        )


def _notes(facts: LogFacts, plan: Plan, models: Models, sampled: bool) -> Iterator[str]:
    yield from facts.notes
    if facts.actions is not None and "candidates" not in plan.log_columns:
        yield f"The log names no candidates: each row has all {facts.actions.len()} actions of the log."
    yield why(plan.interval, plan.reward_range)
    if isinstance(models.reward, RewardModel):
        columns = models.reward.features.columns
        more = f" and {len(columns) - NAMED_COLUMNS} more" if len(columns) > NAMED_COLUMNS else ""
        read = ", ".join(columns[:NAMED_COLUMNS]) or "no context"
        yield f"The reward model reads {read}{more}, beside the candidates' features and ids."
    for fitted in (models.reward, *models.more_robust, *models.balanced):
        if isinstance(fitted, (RewardModel, DensityRatio)):
            yield from fitted.models.notes
    if sampled:
        yield f"Models were fitted on the rows of a sample of users, at most {MODEL_ROWS:,} rows."


def _left_out(plan: Plan, asked: Sequence[str], policies: Sequence[PolicyEvaluation]) -> Iterator[str]:
    """Sentences on what was asked for and what some policy or estimator cannot have."""
    columns = [name for name, modelled in zip(plan.names, plan.modelled, strict=True) if not modelled]
    missing = [spec for spec in asked if reads_candidates(spec)]
    if plan.action_feature is not None:
        missing.append(f"those by {plan.action_feature}")
    if columns and missing:
        yield (
            f"For {', '.join(columns)} there is no estimate by {', '.join(missing)}. Estimators with a "
            "reward model or modelled weights need a policy's probabilities of all candidates; a column of "
            "numbers has only those of the logged action. A list in each row, or a column for each action, "
            "has them all."
        )
    if plan.interval == AUTO:
        return
    others = dict.fromkeys(found for one in policies for found in other_methods(plan.interval, one.estimates))
    if others:
        yield f"There is no {plan.interval} interval for {', '.join(others)}: they keep their own intervals."
    yield (
        f"Only the estimates and the logging policy's value have {plan.interval} intervals. Rankings, "
        "segments and periods have other methods, which are named there."
    )
