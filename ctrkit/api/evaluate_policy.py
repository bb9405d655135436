"""`ctrkit ope`: what would a new policy have earned on the decisions that a log holds?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.api.evaluate_bids import BidsConfig, evaluate_bids
from ctrkit.api.keywords import takes_settings
from ctrkit.api.log_columns import columns_asked
from ctrkit.api.models.model import load
from ctrkit.api.policies.artifact_rewards import ArtifactRewards
from ctrkit.api.policies.config import ARTIFACT, OpeConfig
from ctrkit.api.policies.given import COLUMN, Given, bound
from ctrkit.api.policies.seen import seen_check, unseen_rows
from ctrkit.api.policies.specs import PolicyLike, Spec, policy_specs
from ctrkit.api.policies.value import PolicyValue
from ctrkit.api.run_folder import run_folder
from ctrkit.api.sample_logs import bundled
from ctrkit.config import ConfigLike, settings_of
from ctrkit.data.unlike import LOOK_AT
from ctrkit.errors import ConfigError
from ctrkit.ope import DEFAULT_ESTIMATORS, evaluate, log_parts
from ctrkit.ope.bids.bid_log import is_bid_log
from ctrkit.ope.diagnostics.checks import Check
from ctrkit.ope.estimators.registry import reads_candidates
from ctrkit.ope.estimators.rows import RewardPredictor
from ctrkit.ope.evaluation.engine import make_engine
from ctrkit.ope.evaluation.parts import LogPart, WholeLog
from ctrkit.ope.logs.bandit_log import TARGET
from ctrkit.ope.models.learners import LEARNERS
from ctrkit.policies import Policy
from ctrkit.progress import OnStep, silent
from ctrkit.schema import CANDIDATE_PREFIX
from ctrkit.tables import IsText, TableLike

REWARDS, DOUBLY_ROBUST = "the reward model", "dr"


@takes_settings(OpeConfig, BidsConfig)
def evaluate_policy(
    logs: TableLike | None = None,
    policy: PolicyLike | Sequence[PolicyLike] | None = None,
    *,
    target_column: str | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep = silent,
    **keywords: Any,
) -> PolicyValue:
    """Evaluate policies on a bandit log.

    Args:
        logs: a bandit log, as `ctrkit.ope.read_bandit_log` takes it; by default the sample log. Parquet files
            need not fit into memory. A log of bids (`ctrkit.ope.bids.bid_log.is_bid_log`) goes to
            `ctrkit.api.evaluate_bids.evaluate_bids`, and has its settings.
        policy: one or several of what `policy_specs` reads: an artifact or a path to one, whose model scores
            the candidates and whose policy chooses; any `Policy`, or a function that gives probabilities;
            `uniform`, `logging`, `action:ID` or `column:NAME`. By default `model.pt`, unless there is a
            target column.
        target_column: the column with the new policy's probability of the logged action, in its place.
        out: the run folder; None for none.
        on_step: told of progress.

    Raises:
        ConfigError: when both a policy and a target column are given, or no policy is.

    Example:
        >>> import ctrkit
        >>> result = ctrkit.evaluate_policy(policy="uniform", estimators=["ips", "snips"])  # the sample log
        >>> result.evaluation.policies[0].verdict.verdict
        'worse'
    """
    asked = columns_asked(config, overrides, keywords)
    if is_bid_log(logs, asked.map, asked.constants):
        return evaluate_bids(
            logs,
            policy,
            target_column=target_column,
            config=config,
            overrides=overrides,
            out=out,
            **keywords,
        )
    settings = settings_of(OpeConfig, config, overrides, keywords)
    if policy is not None and target_column is not None:
        raise ConfigError(
            "both a policy and a target column are given", hint="Give one of --policy and --target-column"
        )
    with run_folder(out, "ope") as run:
        result = _evaluated(logs, policy, target_column, settings, on_step)
        run.write(settings, result)
    return result


def _evaluated(
    logs: TableLike | None,
    policy: PolicyLike | Sequence[PolicyLike] | None,
    target_column: str | None,
    settings: OpeConfig,
    on_step: OnStep,
) -> PolicyValue:
    source = logs if logs is not None else bundled("logs_sample", "bandit.parquet")
    read = partial(
        log_parts,
        source,
        cluster_by=settings.cluster_by,
        context_columns=settings.context_columns,
        skip_bad_lines=settings.skip_bad_lines,
        schema=settings.schema_of_log,
    )
    notes: tuple[str, ...] = () if logs is not None else ("The log is the sample that ships with ctrkit.",)
    if policy is None:
        named = target_column is not None or TARGET.name in read()[0].names
        policy = f"{COLUMN}{target_column or TARGET.name}" if named else "model.pt"
    specs = policy_specs(policy, settings.policy)
    engine = make_engine(settings.engine)
    model = _reward_model(settings.reward_model, specs)
    given = [found for spec in specs if isinstance(spec.policy, Given) and (found := spec.policy.of_log)]
    own = read()[0].names if any(one.starred for one in given) else [one.text for one in given]
    excluded = [name for name in own if any(one.fits(name) for one in given)]
    parts = read(also_text=_ids(specs, model), excluded=(*excluded, *settings.outcomes))
    log_columns, estimated = parts[0].names, _estimated(parts)
    policies, parts, told = bound([spec.policy for spec in specs], parts)
    notes += told
    artifacts = {spec.name: spec.scorer.model for spec in specs if spec.scorer is not None}
    if isinstance(model, ArtifactRewards):
        artifacts[REWARDS] = model.scorer.model
    learnt = unseen_rows(artifacts, parts, engine, on_step, settings.unseen)
    parts, notes = learnt.parts, notes + learnt.notes
    notes += _unused(settings, estimated, modelled=any(isinstance(one, Policy) for one in policies))
    notes += _unlike(specs, parts)
    evaluation = evaluate(
        parts,
        policies,
        settings.estimators,
        interval=settings.interval,
        confidence=settings.confidence,
        reward_range=settings.reward_range,
        reward_model=model,
        context_columns=settings.context_columns,
        excluded=[*excluded, *(parts[0].names - log_columns)],
        folds=settings.folds,
        segments=settings.segments,
        outcomes=settings.outcomes,
        action_feature=settings.action_feature,
        seed=settings.seed,
        names=[spec.name for spec in specs],
        known=_known(specs, settings.estimators or DEFAULT_ESTIMATORS, learnt.shares),
        engine=engine,
        on_step=on_step,
    )
    return PolicyValue(evaluation, notes)


def _known(
    specs: Sequence[Spec], estimators: Sequence[str], shares: Mapping[str, float]
) -> dict[str, list[Check]]:
    """Name of a policy -> the doubts that it, or the reward model, was trained on the rows."""
    found = {
        spec.name: [seen_check(spec.name, shares[spec.name], "the policy")]
        for spec in specs
        if spec.name in shares
    }
    if REWARDS in shares and DOUBLY_ROBUST in estimators:
        check = seen_check("of the artifact", shares[REWARDS], "the reward model")
        for spec in specs:
            found.setdefault(spec.name, []).append(check)
    return found


def _unused(settings: OpeConfig, estimated: bool, modelled: bool) -> tuple[str, ...]:
    """A sentence on settings that are given and of which nothing is made."""
    estimators = settings.estimators or DEFAULT_ESTIMATORS
    if modelled and any(reads_candidates(spec) for spec in estimators):
        return ()
    # Missing propensities are estimated by the context columns.
    about_models = {"reward_model", "folds", *(() if estimated else ("context_columns",))}
    given = sorted(about_models & settings.model_fields_set)
    if not given:
        return ()
    return (f"Not used: {', '.join(given)}. No estimator of these policies reads a fitted model.",)


def _estimated(parts: Sequence[LogPart]) -> bool:
    """Whether the log's propensities are estimates."""
    return isinstance(parts[0], WholeLog) and parts[0].log.balance is not None


def _ids(specs: Sequence[Spec], model: str | RewardPredictor) -> IsText | None:
    """Which columns of a log the artifacts read as ids, so that those of a text file are not numbers."""
    scorers = [spec.scorer for spec in specs if spec.scorer is not None]
    if isinstance(model, ArtifactRewards):
        scorers.append(model.scorer)
    known: list[IsText] = [scorer.model.spec.is_text for scorer in scorers]
    known += [spec.is_text for spec in specs if spec.is_text is not None]
    return (lambda name: any(is_text(name) for is_text in known)) if known else None


def _reward_model(named: str, specs: Sequence[Spec]) -> str | RewardPredictor:
    """The kind of reward model to fit, or an artifact's."""
    if named in LEARNERS:
        return named
    if named != ARTIFACT:
        if not Path(named).is_file():
            raise ConfigError(
                f"reward_model '{named}' is neither a kind of model nor a file",
                hint=f"Give {', '.join(LEARNERS)}, {ARTIFACT}, or the path of an artifact",
            )
        return ArtifactRewards(load(named))
    scorer = next((spec.scorer for spec in specs if spec.scorer is not None), None)
    if scorer is None:
        raise ConfigError(
            "reward_model is 'artifact', but no policy is an artifact",
            hint="Give reward_model the path of an artifact, or trees",
        )
    return ArtifactRewards(scorer)


def _unlike(specs: Sequence[Spec], parts: Sequence[LogPart]) -> tuple[str, ...]:
    """Sentences on how the log differs from what the artifacts among the policies were trained on."""
    models = {id(spec.scorer.model): spec.scorer.model for spec in specs if spec.scorer is not None}
    if not models:
        return ()
    features = {name for model in models.values() for name in model.spec.feature_columns}
    read = {"candidates", *features, *(f"{CANDIDATE_PREFIX}{name}" for name in features)}
    # Rows from all over the log, about as many as are looked at.
    every = max(sum(part.rows for part in parts) // LOOK_AT, 1)
    rows = [log.table.gather_every(every) for part in parts for log in part.batches(read)]
    table = pl.concat(rows, how="vertical_relaxed")
    return tuple(dict.fromkeys(note for model in models.values() for note in model.encoder.unlike(table)))
