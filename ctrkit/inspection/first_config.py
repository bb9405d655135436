"""A first config for a table: YAML to be edited, that says what each column was taken for, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ctrkit.inspection.columns import ADS, InspectedColumn

_TASKS = ("click", "conversion")
_MOST_EVENTS = 50


def first_config(
    columns: Sequence[InspectedColumn],
    data: str | None,
    skewed: frozenset[str] = frozenset(),
    source: str | None = None,
) -> str:
    """The config of a training run.

    Args:
        columns: the columns.
        data: path of the table; None for one in memory.
        skewed: numbers to be read as logarithms.
        source: the public data set of which these are the files.
    """
    by_role: dict[str, list[InspectedColumn]] = {}
    for one in columns:
        by_role.setdefault(one.role.partition(" ")[0], []).append(one)
    features = by_role.get("feature", [])
    lines = [f"{key}: {_text(value)}" for key, value in (("source", source), ("data", data)) if value]
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
        ("categorical", [one for one in features if one.kind in ("category", "id")]),
        ("numeric", [one for one in features if one.kind in ("number", "binary")]),
        ("sequences", [one for one in features if one.kind == "list"]),
        ("vectors", [one for one in features if one.kind == "vector"]),
    )
    for key, mine in kinds:
        if mine:
            lines.append(f"  {key}:")
            lines += [f"    - {_feature(one, one.name in skewed)}  # {one.why}" for one in mine]
    ad = next((one.name for name in ADS for one in features if one.name.lower() == name), None)
    if ad is not None:
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
    if one.kind == "list":
        parts += [] if one.shares is None else [f"shares: {_text(one.shares)}"]
        parts.append(f"max_length: {_MOST_EVENTS}")
    if one.kind in ("list", "vector"):
        parts += [] if one.separator in (None, "|") else [f"separator: {json.dumps(one.separator)}"]
    return f"{{{', '.join(parts)}}}"


def _text(name: str) -> str:
    """A name in YAML: in quotes where it is not a plain word."""
    plain = name.replace("_", "").replace("-", "").isalnum() and not name[0].isdigit()
    return (
        name
        if plain and name.lower() not in ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
        else json.dumps(name)
    )
