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
    ranking = content["ranking"]
    return Report(
        "Off-policy evaluation",
        "\n".join(f"Verdict on {one['name']}: {one['verdict']} ({one['reason']})." for one in policies),
        (_policies(policies, truths), *_ranked(ranking)) if several else tuple(tables),
        tuple(figures),
        (*content["notes"], *notes),
        details=(*_differences(ranking), *tables) if several else (),
    )


def _policies(policies: Sequence[dict[str, Any]], truths: Sequence[float | None]) -> Table:
    """One line a policy: its verdict, and the estimate that decides."""
    rows = []
    for policy, truth in zip(policies, truths, strict=True):
        by_name = {estimate["estimator"]: estimate for estimate in policy["estimates"]}
        decisive = next((by_name[name] for name in DECISIVE if name in by_name), None)
        told = ("–",) * 3
        if decisive is not None:
            told = (_interval(decisive), _interval(decisive["difference"]), decisive["estimator"])
        rows.append((policy["name"], policy["verdict"], *told, _number(truth)))
    header = ("policy", "verdict", "value of a decision", "less the logging policy's", "by", "truth")
    return Table("Policies", header, tuple(rows))


def _ranked(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """The policies and the logging policy, the best first, with the probability of each to be the best."""
    if ranking is None:
        return ()
    rows = tuple(
        (one["name"], _number(one["value"]), _number(one["probability_best"])) for one in ranking["policies"]
    )
    return (Table("Ranked on the same rows", ("policy", "value", "probability to be best"), rows),)


def _differences(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """Every pair, with the interval that holds for all pairs together, and the p-value adjusted for them."""
    if ranking is None:
        return ()
    rows = tuple(
        (
            f"{one['first']} less {one['second']}",
            _number(one["value"]),
            _number(one["simultaneous"]["low"]),
            _number(one["simultaneous"]["high"]),
            _number(one["adjusted_p_value"]),
        )
        for one in ranking["differences"]
    )
    header = ("policies", "difference", "low", "high", "adjusted p-value")
    return (Table("Paired differences, intervals for all of them together", header, rows),)


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


def _interval(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return "–" if None in (value, low, high) else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
