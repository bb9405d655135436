"""A first config for a table: YAML to be edited, that says what each column was taken for, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ctrkit.inspection.columns import InspectedColumn
from ctrkit.inspection.proposals import MOST_EVENTS, Proposals, item_of

_TASKS = ("click", "conversion")
# Where a line that is proposed begins; without it the line takes effect.
PROPOSED = "#+ "
_DERIVED = (
    f"# Proposed: a line takes effect without its `{PROPOSED}`. Rates and histories hold rows of earlier",
    "# times; where clicks are known later, give `delay: SECONDS`. A table to predict needs the rows",
    "# before it, the user, the time, and the label, which may be empty.",
)


def first_config(
    columns: Sequence[InspectedColumn],
    data: str | None,
    skewed: frozenset[str] = frozenset(),
    source: str | None = None,
    proposals: Proposals | None = None,
) -> str:
    """The config of a training run.

    Args:
        columns: the columns.
        data: path of the table; None for one in memory.
        skewed: numbers to be read as logarithms.
        source: the public data set of which these are the files.
        proposals: what is derived.
    """
    proposals = proposals or Proposals()
    by_role: dict[str, list[InspectedColumn]] = {}
    for one in columns:
        by_role.setdefault(one.role.partition(" ")[0], []).append(one)
    features = by_role.get("feature", [])
    lines = [f"{key}: {_text(value)}" for key, value in (("source", source), ("data", data)) if value]
    if proposals.steps:
        lines += [*_DERIVED, f"{PROPOSED}derive:"]
        lines += [f"{PROPOSED}  - {_inline(step)}" for step in proposals.steps]
    lines.append("features:")
    labels = sorted(by_role["label"], key=lambda one: one.role)
    tasks = (f"{task}: {_text(one.name)}" for task, one in zip(_TASKS, labels, strict=False))
    lines.append(f"  labels: {{{', '.join(tasks)}}}")
    for role, key in (
        ("impressions", "impressions"),
        ("group", "group"),
        ("time", "timestamp"),
        ("weight", "weight"),
    ):
        lines += [f"  {key}: {_text(one.name)}" for one in by_role.get(role, ())]
    kinds = (
        ("categorical", ("category", "id"), ()),
        ("numeric", ("number", "binary"), proposals.numeric),
        ("sequences", ("list",), proposals.sequences),
        ("bags", ("bag",), ()),
        ("vectors", ("vector",), ()),
    )
    for key, of_kinds, derived in kinds:
        mine = [one for one in features if one.kind in of_kinds]
        if mine or derived:
            lines.append(f"{'' if mine else PROPOSED}  {key}:")
            lines += [f"    - {_feature(one, one.name in skewed)}  # {one.why}" for one in mine]
            lines += [f"{PROPOSED}    - {_inline(one)}" for one in derived]
    if (ad := item_of(columns)) is not None:
        lines.append(
            f"  candidate: {{id: {_text(ad)}}}  # what a policy chooses; list its other features here"
        )
    if left := [one for one in columns if one.role == "left out"]:
        lines.append("  # Not read:")
        lines += [f"  #   {one.name}: {one.why}" for one in left]
    return "\n".join(lines) + "\n"


def _feature(one: InspectedColumn, skewed: bool) -> str:
    parts = [f"name: {_text(one.name)}"]
    if skewed:
        parts.append("transform: log1p")
    if one.kind in ("list", "bag"):
        parts += [] if one.shares is None else [f"shares: {_text(one.shares)}"]
        parts += [] if one.domain is None else [f"domain: {_text(one.domain)}"]
        parts.append(f"max_length: {MOST_EVENTS}")
    if one.kind in ("list", "bag", "vector"):
        parts += [] if one.separator in (None, "|") else [f"separator: {json.dumps(one.separator)}"]
    return f"{{{', '.join(parts)}}}"


def _inline(settings: Mapping[str, Any]) -> str:
    """Settings in one line of YAML."""
    return yaml.safe_dump(dict(settings), default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _text(name: str) -> str:
    """A name in YAML: in quotes where it is not a plain word."""
    plain = name.replace("_", "").replace("-", "").isalnum() and not name[0].isdigit()
    return (
        name
        if plain and name.lower() not in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
        else json.dumps(name)
    )
