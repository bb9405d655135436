"""What a person reads of an off-policy evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrkit.ope.verdict import DECISIVE
from ctrkit.reports import Figure, Report, Table
from ctrkit.reports.figures import forest_plot


def policy_report(content: dict[str, Any], truths: Sequence[float | None], notes: Sequence[str]) -> Report:
    """The tables and the forest plot of each policy; of several, one table of all of them first.

    Args:
        content: `Evaluation.to_dict()`. truths: of the policies, in their order, where known.
    """
    policies, logging = content["policies"], content["logging"]
    several = len(policies) > 1
    tables: list[Table] = []
    figures: list[Figure] = []
    for number, (policy, truth) in enumerate(zip(policies, truths, strict=True), start=1):
        tables += [_estimates(policy, logging, truth), _diagnostics(policy)]
        drawn = _drawn(policy)
        if drawn:
            name = f"estimates_{number}" if several else "estimates"
            figures.append(forest_plot(name, logging, drawn, truth))
    return Report(
        "Off-policy evaluation",
        "\n".join(f"Verdict on {one['name']}: {one['verdict']} ({one['reason']})." for one in policies),
        (_policies(policies, truths),) if several else tuple(tables),
        tuple(figures),
        (*content["notes"], *notes),
        details=tuple(tables) if several else (),
    )


def _policies(policies: Sequence[dict[str, Any]], truths: Sequence[float | None]) -> Table:
    """One line a policy: its verdict, and the estimate that decides."""
    rows = []
    for policy, truth in zip(policies, truths, strict=True):
        by_name = {estimate["estimator"]: estimate for estimate in policy["estimates"]}
        decisive = next((by_name[name] for name in DECISIVE if name in by_name), None)
        estimate = ("–",) * 4 if decisive is None else (decisive["estimator"], *_value(decisive)[:3])
        difference = (
            ("–",) * 3 if decisive is None else _value({"interval": "", **decisive["difference"]})[:3]
        )
        rows.append((policy["name"], policy["verdict"], *estimate, *difference, _number(truth)))
    header = ("policy", "verdict", "by", "value", "low", "high", "difference", "low", "high", "truth")
    return Table("Value of a decision, and its difference from the logging policy's", header, tuple(rows))


def _estimates(policy: dict[str, Any], logging: dict[str, Any], truth: float | None) -> Table:
    """Every estimate of one policy."""
    known = () if truth is None else (("truth", _number(truth), "", "", ""),)
    rows = (
        ("logging policy", *_value(logging)),
        *((estimate["estimator"], *_value(estimate)) for estimate in policy["estimates"]),
        *known,
    )
    header = ("estimator", "value", "low", "high", "interval")
    return Table(f"Value of a decision under {policy['name']}", header, rows)


def _diagnostics(policy: dict[str, Any]) -> Table:
    rows = tuple((name.replace("_", " "), _number(value)) for name, value in policy["diagnostics"].items())
    return Table(f"Diagnostics of {policy['name']}", ("what", "value"), rows)


def _drawn(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """What a forest plot shows of a policy: the estimates that are determined."""
    return [
        {"label": estimate["estimator"], **{key: estimate[key] for key in ("value", "low", "high")}}
        for estimate in policy["estimates"]
        if None not in (estimate["value"], estimate["low"], estimate["high"])
    ]


def _value(estimate: dict[str, Any]) -> tuple[str, ...]:
    return (*_three(estimate), estimate["interval"])


def _three(estimate: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_number(estimate[key]) for key in ("value", "low", "high"))


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
