"""`ctrkit ope`: what would a new policy have earned on the decisions that a log holds?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field

from ctrkit.api.models.model import Model, load
from ctrkit.api.policies.artifact_rewards import ArtifactRewards, SeenRows
from ctrkit.api.policies.report import policy_figures, policy_report
from ctrkit.api.policies.specs import COLUMN, PolicyLike, Spec, listed, policy_specs
from ctrkit.api.results import Result
from ctrkit.api.run_folder import write_run, writes_run
from ctrkit.api.sample_logs import bundled
from ctrkit.config import Config, load_config
from ctrkit.data.unlike import LOOK_AT
from ctrkit.errors import ConfigError
from ctrkit.ope import DEFAULT_ESTIMATORS, Evaluation, evaluate, log_parts
from ctrkit.ope.bids.bid_log import is_bid_log
from ctrkit.ope.estimators.interval_methods import AUTO
from ctrkit.ope.estimators.registry import reads_candidates
from ctrkit.ope.estimators.rows import RewardPredictor
from ctrkit.ope.evaluation.engine import Engine, OnRows, make_engine
from ctrkit.ope.evaluation.parts import LogPart, WholeLog
from ctrkit.ope.logs.bandit_log import TARGET
from ctrkit.ope.models.learners import LEARNERS
from ctrkit.policies import Policy, PolicyConfig
from ctrkit.progress import OnStep, silent
from ctrkit.reports import Drawings, Report
from ctrkit.schema import CANDIDATE_PREFIX
from ctrkit.tables import IsText, TableLike

# In place of a kind of reward model: the artifact of the first policy that is one.
ARTIFACT = "artifact"


class OpeConfig(Config):
    """How to evaluate.

    Attributes:
        policy: in place of the artifacts' own, which score the candidates either way.
        estimators: by default those of `ctrkit.ope.DEFAULT_ESTIMATORS` that some policy can have.
        interval: of `ctrkit.ope.estimators.interval_methods.INTERVALS`; by `auto` the estimator chooses.
        reward_range: least and largest possible reward; by default 0 and 1 where all rewards are one of them.
        reward_model: of DM and DR: `trees` or `logistic`, fitted on the log; `artifact`, that of the policy;
            or the path of one.
        context_columns: what fitted models read; by default every column that says something about the row.
        folds: of their cross-fitting.
        cluster_by: the column whose values are independent of one another, or `row`; by default the user.
        segments: columns by whose values estimates are told apart.
        outcomes: reward columns such as click, conversion, value and cost, to estimate with their ratios.
        action_feature: what actions share, for MIPS and OffCEM: `candidate_<feature>` lists it.
        engine: `local`, or `ray` for a cluster.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, and counted in the notes.
    """

    policy: PolicyConfig | None = None
    estimators: tuple[str, ...] | None = None
    interval: str = AUTO
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    reward_range: tuple[float, float] | None = None
    reward_model: str = "trees"
    context_columns: tuple[str, ...] | None = None
    folds: int = Field(default=3, ge=2)
    cluster_by: str | None = None
    segments: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    action_feature: str | None = None
    engine: Literal["local", "ray"] = "local"
    skip_bad_lines: bool = False
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class PolicyValue(Result):
    """What the log says about one policy or several, beside the truth where a simulated log carries it."""

    evaluation: Evaluation
    notes: tuple[str, ...]

    @property
    def truth(self) -> float | None:
        """That of the first policy."""
        return self.evaluation.policies[0].truth

    def to_dict(self) -> dict[str, Any]:
        content = self.evaluation.to_dict()
        return {**content, "notes": [*content["notes"], *self.notes]}

    def report(self) -> Report:
        return policy_report(self.evaluation, self.notes)

    def figures(self) -> Drawings:
        return policy_figures(self.evaluation)


@writes_run
def evaluate_policy(
    logs: TableLike | None = None,
    policy: PolicyLike | Sequence[PolicyLike] | None = None,
    *,
    target_column: str | None = None,
    config: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] = "runs/ope",
    on_step: OnStep = silent,
) -> PolicyValue:
    """Evaluate policies on a bandit log, and write a run folder.

    Args:
        logs: a bandit log, as `ctrkit.ope.read_bandit_log` takes it; by default the sample log. Parquet files
            need not fit into memory. A log of bids (`ctrkit.ope.bids.bid_log.is_bid_log`) goes to
            `ctrkit.api.evaluate_bids.evaluate_bids`, and has its settings.
        policy: one or several of what `policy_specs` reads: an artifact or a path to one, whose model scores
            the candidates and whose policy chooses; any `Policy`, or a function that gives probabilities;
            `uniform`, `logging`, `action:ID` or `column:NAME`. By default `model.pt`, unless there is a
            target column.
        target_column: the column with the new policy's probability of the logged action, in its place.
        out: the run folder. on_step: told of progress.

    Raises:
        ConfigError: when both a policy and a target column are given, or no policy is.
    """
    if is_bid_log(logs):
        from ctrkit.api.evaluate_bids import evaluate_bids

        return evaluate_bids(
            logs, policy, target_column=target_column, config=config, overrides=overrides, out=out
        )
    settings = load_config(OpeConfig, config, overrides)
    if policy is not None and target_column is not None:
        raise ConfigError(
            "a policy and a target column are given", mend="Give one of --policy and --target-column"
        )
    source = logs if logs is not None else bundled("logs_sample", "bandit.parquet")
    given = policy if isinstance(policy, (list, tuple)) else [policy]
    targets = [one.removeprefix(COLUMN) for one in given if isinstance(one, str) and one.startswith(COLUMN)]
    apart = (*targets, *([target_column] if target_column else ()), *settings.outcomes)
    read = partial(
        log_parts,
        source,
        cluster_by=settings.cluster_by,
        context_columns=settings.context_columns,
        apart=apart,
        skip_bad_lines=settings.skip_bad_lines,
    )
    notes: tuple[str, ...] = () if logs is not None else ("The log is the sample that ships with ctrkit.",)
    if policy is None:
        named = target_column is not None or TARGET.name in read()[0].names
        policy = f"{COLUMN}{target_column or TARGET.name}" if named else "model.pt"
    specs = policy_specs(policy, settings.policy)
    engine = make_engine(settings.engine)
    model = _reward_model(settings.reward_model, specs)
    parts = read(also_text=_ids(specs, model))
    specs = [listed(spec, parts[0].lists) for spec in specs]
    if isinstance(model, ArtifactRewards):
        notes += _seen(model.scorer.model, parts, engine, on_step)
    notes += _unused(settings, parts, modelled=any(isinstance(spec.policy, Policy) for spec in specs))
    notes += _unlike(specs, parts)
    evaluation = evaluate(
        parts,
        [spec.policy for spec in specs],
        settings.estimators,
        interval=settings.interval,
        confidence=settings.confidence,
        reward_range=settings.reward_range,
        reward_model=model,
        context_columns=settings.context_columns,
        folds=settings.folds,
        segments=settings.segments,
        outcomes=settings.outcomes,
        action_feature=settings.action_feature,
        seed=settings.seed,
        names=[spec.name for spec in specs],
        engine=engine,
        on_step=on_step,
    )
    result = PolicyValue(evaluation, notes)
    write_run(out, "ope", settings.model_dump(mode="json"), result)
    return result


def _unused(settings: OpeConfig, parts: Sequence[LogPart], modelled: bool) -> tuple[str, ...]:
    """A sentence on settings that are given and of which nothing is made."""
    estimators = settings.estimators or DEFAULT_ESTIMATORS
    if modelled and any(reads_candidates(spec) for spec in estimators):
        return ()
    # Missing propensities are estimated by the context columns.
    about_models = {"reward_model", "folds", *(() if _estimated(parts) else ("context_columns",))}
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
    known = [scorer.model.spec.is_text for scorer in scorers]
    return (lambda name: any(is_text(name) for is_text in known)) if known else None


def _reward_model(named: str, specs: Sequence[Spec]) -> str | RewardPredictor:
    """The kind of reward model to fit, or an artifact's."""
    if named in LEARNERS:
        return named
    if named != ARTIFACT:
        if not Path(named).is_file():
            raise ConfigError(
                f"reward_model '{named}' is neither a kind of model nor a file",
                mend=f"Give {', '.join(LEARNERS)}, {ARTIFACT}, or the path of an artifact",
            )
        return ArtifactRewards(load(named))
    scorer = next((spec.scorer for spec in specs if spec.scorer is not None), None)
    if scorer is None:
        raise ConfigError(
            "the reward model is to be an artifact's, and no policy is an artifact",
            mend="Give reward_model the path of an artifact, or trees",
        )
    return ArtifactRewards(scorer)


def _unlike(specs: Sequence[Spec], parts: Sequence[LogPart]) -> tuple[str, ...]:
    """Sentences on how the log differs from what the artifacts among the policies were trained on."""
    models = {id(spec.scorer.model): spec.scorer.model for spec in specs if spec.scorer is not None}
    if not models:
        return ()
    features = {name for model in models.values() for name in model.spec.features}
    read = {"candidates", *features, *(f"{CANDIDATE_PREFIX}{name}" for name in features)}
    # Rows from all over the log, about as many as are looked at.
    every = max(sum(part.rows for part in parts) // LOOK_AT, 1)
    rows = [log.table.gather_every(every) for part in parts for log in part.batches(read)]
    table = pl.concat(rows, how="vertical_relaxed")
    return tuple(dict.fromkeys(note for model in models.values() for note in model.encoder.unlike(table)))


@dataclass(frozen=True)
class _LookForSeen:
    """Counts the rows of a part that an artifact was trained on."""

    model: Model

    def __call__(self, part: LogPart, on_rows: OnRows) -> SeenRows:
        seen = SeenRows(self.model)
        for log in part.batches():
            seen.update(log)
        return seen


def _seen(model: Model, parts: Sequence[LogPart], engine: Engine, on_step: OnStep) -> tuple[str, ...]:
    """A warning, where the reward model was trained on the log's rows."""
    seen = SeenRows(model)
    total = sum(part.rows for part in parts)
    for found in engine.map(_LookForSeen(model), parts, lambda n: on_step(n, total, "comparing rows")):
        seen.merge(found)
    note = seen.note()
    return () if note is None else (note,)
