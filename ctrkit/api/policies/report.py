"""The report and the figures of an off-policy evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import polars as pl

from ctrkit.ope import Evaluation, PolicyEvaluation
from ctrkit.ope.diagnostics.verdict import DECISIVE
from ctrkit.ope.evaluation.results import estimates_of, plain
from ctrkit.reports import DrawFigure, Drawings, Figure, Report, Table
from ctrkit.reports.cells import Value, interval, share, text
from ctrkit.reports.figures import forest_plot
from ctrkit.reports.policy_figures import overlap_figure, segment_figure, timeline_figure, weight_figure

# Most rows shown of a table with a row for every action, or for every pair of action and column.
SHOWN = 20


def policy_report(evaluation: Evaluation, notes: Sequence[str]) -> Report:
    """The tables of each policy; with several policies, one table of all of them comes first."""
    content = evaluation.to_dict()
    policies, logging = content["policies"], content["logging"]
    several = len(policies) > 1
    tables: list[Table] = []
    details: list[Table] = []
    for found, policy in zip(evaluation.policies, policies, strict=True):
        tables += [_estimates(policy, logging), *_groups(found), diagnostics_table(policy)]
        details += [_overlap(found), *_segments(policy)]
    ranking = content["ranking"]
    return Report(
        "Off-policy evaluation",
        "\n".join(f"Verdict on {one['name']}: {one['verdict']} ({one['reason']})." for one in policies),
        (_policies(policies), *_ranked(ranking)) if several else tuple(tables),
        (*content["notes"], *notes),
        details=(
            *_differences(ranking),
            *(tables if several else ()),
            *details,
            *_balance(evaluation.balance),
        ),
    )


def policy_figures(evaluation: Evaluation) -> Drawings:
    """The figures of every policy; with several policies a figure has the policy's number in its name."""
    content, drawings = evaluation.to_dict(), dict[str, DrawFigure]()
    policies = zip(evaluation.policies, content["policies"], strict=True)
    for number, (found, policy) in enumerate(policies, start=1):
        suffix = f"_{number}" if len(evaluation.policies) > 1 else ""
        for name, draw in _of_policy(found, policy, content["logging"], evaluation.confidence):
            drawings[f"{name}{suffix}"] = partial(draw, f"{name}{suffix}")
    return drawings


def _of_policy(
    found: PolicyEvaluation, policy: dict[str, Any], logging: dict[str, Any], confidence: float
) -> Iterator[tuple[str, Callable[[str], Figure]]]:
    """The figures of one policy: estimates, weights, time, actions, segments."""
    drawn, timeline = drawn_estimates(policy), found.timeline
    if drawn:
        yield "estimates", lambda name: forest_plot(name, logging, drawn, found.truth)
    yield "weights", lambda name: weight_figure(name, found.name, found.weights)
    if timeline is not None:
        yield "timeline", lambda name: timeline_figure(name, found.name, timeline, confidence)
    yield "overlap", lambda name: overlap_figure(name, found.name, found.overlap)
    for number, one in enumerate(found.segments, start=1):
        yield (
            f"segments_{number}",
            partial(segment_figure, policy=found.name, found=one, confidence=confidence),
        )


def _policies(policies: Sequence[dict[str, Any]]) -> Table:
    """One line per policy: its verdict, and the estimate that decides."""
    rows = []
    for policy in policies:
        by_name = {estimate["estimator"]: estimate for estimate in policy["estimates"]}
        decisive = next((by_name[name] for name in DECISIVE if name in by_name), None)
        told: tuple[Value, ...] = (None, None, None)
        if decisive is not None:
            told = (interval(decisive), interval(decisive["difference"]), decisive["estimator"])
        rows.append((policy["name"], policy["verdict"], *told, policy["truth"]))
    header = ("policy", "verdict", "value per decision", "difference", "estimator", "true value")
    return Table("Policies", header, tuple(rows))


def _ranked(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """The policies and the logging policy, the best first, each with its probability of being the best."""
    if ranking is None:
        return ()
    rows = tuple((one["name"], one["value"], one["probability_best"]) for one in ranking["policies"])
    return (Table("Ranked on the same rows", ("policy", "value", "probability of being best"), rows),)


def _differences(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """Every pair of policies: simultaneous interval of their difference, and adjusted p-value."""
    if ranking is None:
        return ()
    rows = tuple(
        (
            f"{one['first']} minus {one['second']}",
            one["value"],
            one["simultaneous"]["low"],
            one["simultaneous"]["high"],
            one["adjusted_p_value"],
        )
        for one in ranking["differences"]
    )
    header = ("policies", "difference", "low", "high", "adjusted p-value")
    return (Table("Paired differences, with simultaneous intervals", header, rows),)


def _estimates(policy: dict[str, Any], logging: dict[str, Any]) -> Table:
    """Every estimate of one policy."""
    truth = policy["truth"]
    known = () if truth is None else (("true value", truth, None, None, None),)
    rows = (
        ("logging policy", *_value(logging)),
        *((estimate["estimator"], *_value(estimate)) for estimate in policy["estimates"]),
        *known,
    )
    header = ("estimator", "value", "low", "high", "interval")
    return Table(f"Value per decision under {policy['name']}", header, rows)


def _groups(found: PolicyEvaluation) -> Iterator[Table]:
    """The estimates that only some logs allow."""
    header = ("estimator", "value", "difference", "meaning or assumption")
    for group in found.groups:
        rows = []
        for estimate in plain(estimates_of(group.estimates)):
            name = estimate["estimator"]
            ends = (interval(estimate), interval(estimate["difference"]))
            meaning = group.meaning.get(name.partition(":")[0], "")
            rows.append((name, *ends, meaning))
        yield Table(f"{group.title} under {found.name}", header, tuple(rows))


def diagnostics_table(policy: dict[str, Any]) -> Table:
    """What supports or weakens the estimates, with the expected values."""
    rows = []
    for check in policy["checks"]:
        value: Value = share(check["value"]) if check["share"] else check["value"]
        if value is not None:
            rows.append((check["what"], value, check["expected"]))
    return Table(f"Diagnostics of {policy['name']}", ("what", "value", "should be"), tuple(rows))


def _overlap(found: PolicyEvaluation) -> Table:
    """The actions that the policy chooses most, and their rows in the log."""
    names = ("action", "rows", "logged_share", "policy_share", "effective_sample_size", "max_weight")
    rows = tuple(
        (
            str(row["action"]),
            *(share(row[name]) if name.endswith("_share") else row[name] for name in names[1:]),
        )
        for row in plain(found.overlap.head(SHOWN).to_dicts())
    )
    header = tuple(name.replace("_", " ") for name in names)
    return Table(f"The actions that {found.name} chooses most", header, rows)


def _segments(policy: dict[str, Any]) -> Iterator[Table]:
    """One table per column that splits the rows into segments."""
    header = (
        "segment",
        "verdict",
        "rows",
        "with a reward",
        "value",
        "difference",
        "adjusted p-value",
    )
    for column in policy["segments"]:
        rows = []
        for one in column["segments"]:
            estimate = one["estimate"]
            ends = {**estimate["difference_interval"], "value": estimate["difference"]}
            counts = (one["rows"], one["positives"], estimate["value"])
            verdict = one["verdict"]["verdict"]
            rows.append((one["label"], verdict, *counts, interval(ends), one["adjusted_p_value"]))
        p_value = column["heterogeneity"]["adjusted_p_value"]
        title = (
            f"{policy['name']} by {column['column']} (same difference in all segments: p = {text(p_value)})"
        )
        yield Table(title, header, tuple(rows))


def _balance(balance: pl.DataFrame | None) -> tuple[Table, ...]:
    """The pairs of action and column that the estimated propensities balance worst."""
    if balance is None or not balance.height:
        return ()
    rows = tuple(
        (
            f"{row['column']} of {row['action']}",
            *(row[name] for name in ("before", "after", "noise")),
        )
        for row in plain(balance.head(SHOWN).to_dicts())
    )
    header = ("column of action", "unweighted", "weighted", "by chance")
    return (Table("Balance under the estimated propensities, in standard deviations", header, rows),)


def drawn_estimates(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """The estimates of a policy that a forest plot shows: those with a value and an interval."""
    return [
        {"label": estimate["estimator"], **{key: estimate[key] for key in ("value", "low", "high")}}
        for estimate in policy["estimates"]
        if None not in (estimate["value"], estimate["low"], estimate["high"])
    ]


def _value(estimate: dict[str, Any]) -> tuple[Value, ...]:
    return (estimate["value"], estimate["low"], estimate["high"], estimate["interval"])
