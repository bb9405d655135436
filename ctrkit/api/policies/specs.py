"""Policies to evaluate, as a person names them: artifacts, columns, functions, and some to compare with."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from ctrkit.api.models.model import Model, load
from ctrkit.api.policies.artifact_policy import CandidateScorer, policy_of_model
from ctrkit.api.policies.given import COLUMN, Given, TableSettings, settings_apart
from ctrkit.api.policies.onnx_policy import OnnxPolicy, OnnxScorer, OnnxSettings, onnx_policy
from ctrkit.arrays import Floats
from ctrkit.config import build
from ctrkit.errors import ArtifactError, ConfigError, RunError, nearest
from ctrkit.file_kinds import ONNX, file_kind
from ctrkit.onnx_graph import OnnxGraph
from ctrkit.policies import (
    POLICIES,
    FixedPolicy,
    LoggingPolicy,
    Policy,
    PolicyConfig,
    UniformPolicy,
    candidate_mask,
)
from ctrkit.policies.given import ColumnPattern
from ctrkit.settings import line_of
from ctrkit.tables import DELIMITED, PARQUET, IsText, kind_of

# Probabilities [B, K] of the candidates from B rows of the log and their lists of candidates.
PolicyFunction: TypeAlias = Callable[[pl.DataFrame, pl.Series], ArrayLike]
PolicyLike: TypeAlias = "str | os.PathLike[str] | Model | Policy | PolicyFunction | Mapping[str, Any]"

ACTION = "action:"
TABLES = (*PARQUET, *DELIMITED, ".jsonl", ".ndjson")
_BY_NAME = {policy.name: policy for policy in (UniformPolicy, LoggingPolicy)}


@dataclass(frozen=True)
class Spec:
    """A policy to evaluate.

    Attributes:
        name: in tables, one for each.
        policy: decides; or numbers of a policy that are found once the log is known.
        scorer: of an artifact's policy, the scores that all policies over the same artifact share.
        is_text: which columns an ONNX model reads as text.
    """

    name: str
    policy: Policy | Given
    scorer: CandidateScorer | None = None
    is_text: IsText | None = None


class FunctionPolicy(Policy):
    """A policy that a function decides.

    Args:
        function: gives the probabilities [B, K] of the candidates of B rows, 0 at missing places.
    """

    name: ClassVar[str] = "function"

    def __init__(self, function: PolicyFunction) -> None:
        self.function = function
        self.called = getattr(function, "__name__", type(function).__name__)

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            RunError: the function gives the wrong shape, or rows that are no distributions.
        """
        mask = candidate_mask(candidates)
        found = np.asarray(self.function(context, candidates), dtype=np.float64)
        if found.shape != mask.shape:
            raise RunError(
                f"policy {self.called}: probabilities of shape {found.shape} for candidates {mask.shape}"
            )
        # A NaN fails every comparison, so that what is asked is whether all is well.
        well = np.where(mask, found >= 0, found == 0).all(axis=1) & (np.abs(found.sum(axis=1) - 1) <= 1e-6)
        if not well.all():
            row = int(np.argmin(well))
            raise RunError(
                f"policy {self.called}: the probabilities of row {row} are no distribution: at least 0, "
                f"0 where there is no candidate, and of sum 1; they sum to {found[row].sum():.9g}"
            )
        return found


def policy_specs(
    policies: PolicyLike | Sequence[PolicyLike], config: PolicyConfig | None = None
) -> list[Spec]:
    """What is meant by one or each of these, opened and ready to use.

    - `uniform`, and `logging`, the policy of the log;
    - `action:ID`, always that action;
    - `column:NAME`, where the log has the probability of the logged action, or a list of those of all
      candidates, and `column:p_*`, where it has a column for each action; with `:POLICY` after it the numbers
      are scores, and the policy one over them, as in `column:score_*:softmax,temperature=0.5`;
    - the path of a table with the same columns and the log's `event_id`, alone or with `TableSettings` and a
      policy after it, as in `scores.parquet:column=score_*,softmax`;
    - the path of an artifact, or `PATH:NAME[,SETTING=VALUE...]` with a policy of `ctrkit.policies.POLICIES`
      in place of its own, as in `model.pt:softmax,temperature=0.5`;
    - the path of an ONNX file, alone or with a policy and settings of `OnnxSettings` after it, as in
      `model.onnx:softmax,features=age|price` or `model.onnx:actions=a|b|c`;
    - a mapping of `model` (a path or a model), and `name` and settings of its policy;
    - such a table in memory, or a mapping of `table`, its `TableSettings`, and `name` and settings of a
      policy over scores;
    - a model, a `Policy`, or a function of context and candidates that gives probabilities [B, K].

    Each file is opened once, and its policies share the scores of a block. Programs and pickles are refused,
    as they could run code.

    Args:
        config: the policy of artifacts, in place of their own, where the spec names none.

    Raises:
        ConfigError: a name or setting that there is not, or no policy at all.
        ArtifactError: no such file, or one that is damaged or no artifact.
    """
    models: dict[str | int, CandidateScorer] = {}
    graphs: dict[tuple[str, OnnxSettings], OnnxScorer] = {}
    many = isinstance(policies, Sequence) and not isinstance(policies, str)
    given: Sequence[PolicyLike] = policies if many else [policies]  # type: ignore[assignment, list-item]
    if not given:
        raise ConfigError("no policy is given", hint="Give at least one")
    specs = [_spec(policy, config, models, graphs) for policy in given]
    if len(specs) == 1 and specs[0].scorer is not None:
        # Alone, an artifact's policy needs not say of which artifact it is.
        return [replace(specs[0], name=specs[0].name.rpartition(": ")[2])]
    known = Counter(spec.name for spec in specs)
    taken, met = set(known), Counter[str]()
    unique = []
    for spec in specs:
        name = spec.name
        while known[spec.name] > 1 and name in taken:
            met[spec.name] += 1
            name = f"{spec.name} ({met[spec.name]})"
        taken.add(name)
        unique.append(replace(spec, name=name))
    return unique


def _spec(
    policy: PolicyLike,
    config: PolicyConfig | None,
    models: dict[str | int, CandidateScorer],
    graphs: dict[tuple[str, OnnxSettings], OnnxScorer],
) -> Spec:
    if isinstance(policy, Policy):
        return Spec(policy.name, policy)
    if isinstance(policy, Model):
        scorer = models.setdefault(id(policy), CandidateScorer(policy))
        made = policy_of_model(scorer, config)
        return Spec(made.name, made, scorer)
    if isinstance(policy, Mapping) and "table" in policy:
        return _of_table(policy)
    if isinstance(policy, Mapping):
        content = {key: value for key, value in policy.items() if key != "model"}
        if "model" not in policy:
            return _spec(line_of(content), config, models, graphs)
        return _spec(policy["model"], POLICIES.read(content), models, graphs)
    if not isinstance(policy, (str, os.PathLike)):
        if not callable(policy):
            return Spec("table", Given.of_table(policy, ""))
        function = FunctionPolicy(policy)
        return Spec(function.called, function)
    text = os.fspath(policy)
    if text in _BY_NAME:
        return Spec(text, _BY_NAME[text]())
    if text.startswith(ACTION):
        return Spec(text, FixedPolicy(text.removeprefix(ACTION)))
    if text.startswith(COLUMN):
        given = Given.of_column(text.removeprefix(COLUMN))
        return Spec(given.name, given)
    file, settings = _file_and_settings(text)
    if file_kind(file) is ONNX:
        return _onnx_spec(text, file, settings or "", config, graphs)
    stem = Path(file).stem
    if kind_of(Path(file)) in TABLES:
        return Spec(f"{stem}: {settings}" if settings else stem, Given.of_table(file, settings or ""))
    where = os.path.realpath(file)
    if where not in models:
        models[where] = CandidateScorer(load(file))
    made = policy_of_model(models[where], config if settings is None else POLICIES.read(settings))
    return Spec(f"{stem}: {settings or made.name}", made, models[where])


def _of_table(policy: Mapping[str, Any]) -> Spec:
    """The policy of a mapping of `table`, `TableSettings`, and `name` and settings of a policy."""
    own = {key: value for key, value in policy.items() if key in TableSettings.model_fields}
    rest = {key: value for key, value in policy.items() if key != "table" and key not in own}
    settings = build(TableSettings, own, what="policy")
    column = None if settings.column is None else ColumnPattern(settings.column)
    scores = POLICIES.read(rest) if rest else None
    return Spec("table", Given(column, scores, policy["table"], settings))


def _onnx_spec(
    text: str,
    file: str,
    settings: str,
    default: PolicyConfig | None,
    graphs: dict[tuple[str, OnnxSettings], OnnxScorer],
) -> Spec:
    """The policy of an ONNX file: what says how to read the graph, and the rest names the policy."""
    own, named = settings_apart(text, settings, OnnxSettings, "an ONNX model")
    read = build(OnnxSettings, own)
    where = os.path.realpath(file), read
    if where not in graphs:
        graphs[where] = OnnxScorer(OnnxGraph(file, read.features, read.output), read)
    chosen = POLICIES.read(",".join(named)) if named else None
    made, stem = onnx_policy(graphs[where], chosen, default), Path(file).stem
    name = stem if isinstance(made, OnnxPolicy) else f"{stem}: {','.join(named) or made.name}"
    return Spec(name, made, is_text=graphs[where].is_text)


def _file_and_settings(text: str) -> tuple[str, str | None]:
    """`PATH:SETTINGS` apart; a path may have colons of its own."""
    if Path(text).exists():
        return text, None
    for colon in (match.start() for match in re.finditer(":", text)):
        if Path(text[:colon]).is_file():
            return text[:colon], text[colon + 1 :]
    if re.fullmatch(r"[\w-]+(:.*)?", text):
        word = text.partition(":")[0]
        near = nearest(word, [*_BY_NAME, "action", "column"])
        raise ConfigError(
            f"'{text}' is neither a policy nor a file",
            hint=f"{near}, or give the path of an artifact or a table",
        )
    raise ArtifactError(
        "no such file", file=text, hint="Train one with `ctrkit train`, or give a policy such as uniform"
    )
