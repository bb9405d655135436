"""Policies of an ONNX file: a model that scores candidates, or one that gives all actions probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import field_validator
from scipy.special import logit

from ctrkit.api.policies.artifact_policy import LastBlock
from ctrkit.arrays import Floats
from ctrkit.config import Config
from ctrkit.errors import ConfigError, DataError, RunError, nearest
from ctrkit.onnx_graph import OnnxGraph
from ctrkit.policies import GreedyConfig, Policy, PolicyConfig, candidate_mask
from ctrkit.policies.candidates import candidate_rows
from ctrkit.policies.given import SUM_TOLERANCE
from ctrkit.schema import CANDIDATE_PREFIX, TRUTH_PREFIX
from ctrkit.tables.cells import values_of

ACTION = "action"
# Known after the decision, or about how it was made.
_LATER = {"reward", "propensity", "logging_probabilities"}
# Probabilities are float32 in most files.
_ROUNDING = 1e-4


class OnnxSettings(Config):
    """What a graph may leave open; by default its metadata say it, or there is no need to.

    Attributes:
        features: the names of the columns of a single input, in order.
        output: the name of the output to read.
        actions: the actions of a policy, in the order of its output; not for a scorer.
        positive: the index, 0 or 1, of the probability of a reward; by default 1 for a classifier.
        candidate: the feature that is the action's id, for a model that was trained under another name; by
            default `candidate` of the metadata, or `action`.
    """

    features: tuple[str, ...] | None = None
    output: str | None = None
    actions: tuple[str, ...] | None = None
    positive: Literal[0, 1] | None = None
    candidate: str | None = None

    @field_validator("features", "actions", mode="before")
    @classmethod
    def _apart(cls, names: object) -> object:
        return names.split("|") if isinstance(names, str) else names

    @field_validator("positive", mode="before")
    @classmethod
    def _number(cls, column: object) -> object:
        return int(column) if column in ("0", "1") else column


class OnnxScorer:
    """The log-odds of a reward of each candidate, by a model of rows; the last block's are kept.

    Args:
        model: gives a probability a row, or two of which one is that of a reward.
    """

    def __init__(self, model: OnnxGraph, settings: OnnxSettings) -> None:
        self.model, self.settings = model, settings
        self.chosen = settings.candidate or model.metadata.get("candidate", ACTION)
        if self.chosen not in {ACTION, *model.features}:
            raise ConfigError(
                f"{model.file}: the model reads no '{self.chosen}', which is to be the action's id",
                hint=nearest(self.chosen, model.features),
            )
        self._last: LastBlock[Floats] = LastBlock()

    def is_text(self, name: str) -> bool:
        """Whether a column of the log holds what the model reads as text; ids that it does not read are."""
        is_id = name in (ACTION, "candidates")
        read = self.chosen if is_id else name.removeprefix(CANDIDATE_PREFIX)
        return self.model.is_text(read) if read in self.model.features else is_id

    def __call__(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """Scores [B, K]."""
        # A probability of float32 may round to 0 or 1, and a score is a finite number.
        return logit(self.probabilities(context, candidates).clip(1e-12, 1 - 1e-12))

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of a reward, [B, K], NaN at missing places.

        Raises:
            DataError: a column is missing, or known only after the decision.
            RunError: the model gives no probability, or more of them than of a reward and of none.
        """
        return self._last.of(context, candidates, lambda: self._probabilities(context, candidates))

    def _probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        rows = self._rows(context, candidates)
        found = self.model(rows)
        name = f"{self.model.file}: output '{self.model.output}'"
        if found.shape[1] > 2:
            raise RunError(f"{name} has {found.shape[1]} numbers a row, and a reward has one probability")
        flat = found[:, -1 if self.settings.positive is None else self.settings.positive]
        wrong = flat[~((flat >= -_ROUNDING) & (flat <= 1 + _ROUNDING))]
        if wrong.size:
            raise RunError(f"{name} holds {wrong[0]:g}, which is no probability")
        mask = candidate_mask(candidates)
        wide = np.full(mask.shape, np.nan)
        wide[mask] = flat.clip(0, 1)
        return wide

    def _rows(self, context: pl.DataFrame, candidates: pl.Series) -> pl.DataFrame:
        """One row a candidate, of the model's features."""
        listed, shared = {}, []
        for name in self.model.features:
            if name in (self.chosen, ACTION):
                continue
            if f"{CANDIDATE_PREFIX}{name}" in context.columns:
                listed[name] = f"{CANDIDATE_PREFIX}{name}"
            else:
                _require(name, context, self.model, f"{self.model.file}:candidate={name}")
                shared.append(name)
        rows = candidate_rows(context, candidates, shared, listed, self.chosen)
        return rows.with_columns(pl.col(self.chosen).alias(ACTION))


class OnnxPolicy(Policy):
    """A model that gives the probabilities of all actions from the context.

    A row's are those of its candidates, over their sum: an action that the row cannot choose leaves its
    share to those that it can. Candidates that the model does not know are never chosen.

    Args:
        model: gives [B, A] from the columns of the context.
        actions: their ids, [A].
    """

    name: ClassVar[str] = "onnx"

    def __init__(self, model: OnnxGraph, actions: Sequence[str]) -> None:
        if len(set(actions)) < len(actions):
            raise ConfigError(f"{model.file}: of its actions one is named twice: {_some(actions)}")
        if model.width not in (None, len(actions)):
            raise ConfigError(
                f"{model.file}: output '{model.output}' has {model.width} numbers a row for {len(actions)} "
                f"actions, {_some(actions)}",
                hint="Name each action once, in the order of the output",
            )
        self.model, self.actions = model, tuple(actions)

    def probabilities(self, context: pl.DataFrame, candidates: pl.Series) -> Floats:
        """The probability of choosing each candidate, [B, K] (see `Policy`).

        Raises:
            DataError: a column is missing, or no candidate of a row is among the actions.
            RunError: the model's rows are no distributions.
        """
        for name in self.model.features:
            _require(name, context, self.model)
        found = self.model(context.select(self.model.features))
        total = found.sum(axis=1)
        # A NaN fails every comparison, so that what is asked is whether all is well.
        if found.shape[1] != len(self.actions) or not (
            (found >= 0).all() and (np.abs(total - 1) <= max(_ROUNDING, SUM_TOLERANCE)).all()
        ):
            raise RunError(
                f"{self.model.file}: output '{self.model.output}' is not in every row a distribution over "
                f"{len(self.actions)} actions: at least 0, and of sum 1"
            )
        mask = candidate_mask(candidates)
        ids = values_of(candidates).cast(pl.String)
        place = dict(zip(self.actions, range(len(self.actions)), strict=True))
        column = ids.replace_strict(place, default=len(place), return_dtype=pl.Int64).to_numpy()
        row = np.nonzero(mask)[0]
        chosen = np.zeros(mask.shape)
        chosen[mask] = np.column_stack([found, np.zeros(len(found))])[row, column]
        mass = chosen.sum(axis=1, keepdims=True)
        if not mass.all():
            lost = int(np.argmin(mass))
            raise DataError(
                f"the policy gives no candidate a probability; its actions are {_some(self.actions)}",
                column="candidates",
                row=lost,
                hint=f"Name the actions as the log does: {self.model.file}:actions=a|b|c",
            )
        return np.asarray(chosen / mass)


def onnx_policy(
    scorer: OnnxScorer, config: PolicyConfig | None = None, default: PolicyConfig | None = None
) -> Policy:
    """The policy that a graph is, or the policy of a config over its scores.

    Args:
        scorer: the graph's, which several policies share.
        config: asked for by name.
        default: in place of it, for a scorer; greedy where there is none.

    Raises:
        ConfigError: the graph is a policy and a config was given, or what it is cannot be told.
    """
    model, settings = scorer.model, scorer.settings
    actions = settings.actions or model.listed("actions")
    if actions is None and model.classes is not None and len(model.classes) > 2:
        actions = model.classes
    if actions is not None:
        if config is not None:
            raise ConfigError(
                f"{model.file} gives the probabilities of all actions itself",
                hint=f"Leave out '{config.name}'",
            )
        return OnnxPolicy(model, actions)
    width, asked = model.width, f"{model.file}:actions=a|b|c"
    if width is not None and width > 2:
        raise ConfigError(
            f"{model.file}: output '{model.output}' has {width} numbers a row, those of actions in an order "
            "that the model does not say",
            hint=f"Give the order, {asked}, or name them in its metadata `actions`",
        )
    if width == 2 and not model.classifies and settings.positive is None:
        raise ConfigError(
            f"{model.file}: output '{model.output}' has two numbers a row, those of two actions, or of a "
            "reward and of none",
            hint=f"Say which: {asked}, or {model.file}:positive=1 where the second is that of a reward",
        )
    if width == 1 and settings.positive is not None:
        raise ConfigError(
            f"{model.file}: output '{model.output}' has one number a row", hint="Leave out `positive`"
        )
    return (config or default or GreedyConfig()).policy(scorer)


def _require(name: str, context: pl.DataFrame, model: OnnxGraph, as_id: str | None = None) -> None:
    """Refuse a feature that the log has not, or has only since the decision.

    Args:
        as_id: of a scorer, how to say that the feature is the action's id.
    """
    if name in _LATER or name.startswith(TRUTH_PREFIX):
        raise DataError(
            f"the model {model.file} reads it, and it was not known when the policy decides", column=name
        )
    if name not in context.columns:
        there = {one.removeprefix(CANDIDATE_PREFIX) if as_id else one for one in context.columns}
        known = {one for one in there - _LATER if not one.startswith((TRUTH_PREFIX, CANDIDATE_PREFIX))}
        more = f". Where it is the action's id, write {as_id}" if as_id else ""
        raise DataError(
            f"the model {model.file} reads it, and the log has no such column",
            column=name,
            hint=nearest(name, known) + more,
        )


def _some(actions: Sequence[str]) -> str:
    return ", ".join(actions[:10]) + (f" and {len(actions) - 10} more" if len(actions) > 10 else "")
