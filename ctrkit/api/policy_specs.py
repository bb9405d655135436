"""Policies to evaluate, as a person names them: artifacts, columns, and the ones to compare with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ctrkit.api.model import Model, load
from ctrkit.policies import FixedPolicy, LoggingPolicy, Policy, UniformPolicy

PolicyLike: TypeAlias = "str | os.PathLike[str] | Model | Policy"

ACTION, COLUMN = "action:", "column:"
_BY_NAME = {policy.name: policy for policy in (UniformPolicy, LoggingPolicy)}


@dataclass(frozen=True)
class Spec:
    """A policy to evaluate.

    Attributes:
        name: in tables, one for each.
        given: a policy, the model of an artifact, or the name of a column.
    """

    name: str
    given: Policy | Model | str


def policy_specs(policies: Sequence[PolicyLike]) -> list[Spec]:
    """What is meant by each: `uniform`, `logging` (the policy of the log), `action:ID` (always that action),
    `column:NAME` (the probability of the logged action), or the path of an artifact.

    Raises:
        ArtifactError: no such artifact, or a damaged one.
    """
    specs = [_spec(policy) for policy in policies]
    known = Counter(spec.name for spec in specs)
    met: Counter[str] = Counter()
    unique = []
    for spec in specs:
        met[spec.name] += 1
        number = f" ({met[spec.name]})" if known[spec.name] > 1 else ""
        unique.append(Spec(f"{spec.name}{number}", spec.given))
    return unique


def _spec(policy: PolicyLike) -> Spec:
    if isinstance(policy, Policy):
        return Spec(policy.name, policy)
    if isinstance(policy, Model):
        return Spec("", policy)
    text = os.fspath(policy)
    if text in _BY_NAME:
        return Spec(text, _BY_NAME[text]())
    if text.startswith(ACTION):
        return Spec(text, FixedPolicy(text.removeprefix(ACTION)))
    if text.startswith(COLUMN):
        return Spec(text.removeprefix(COLUMN), text.removeprefix(COLUMN))
    return Spec(Path(text).stem, load(text))
