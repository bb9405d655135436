"""What a person reads of an off-policy evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from ctrkit.ope import Evaluation, PolicyEvaluation
from ctrkit.ope.diagnostics.overlap import LARGEST_TAIL_SHAPE
from ctrkit.ope.diagnostics.verdict import DECISIVE
from ctrkit.ope.evaluation.results import estimates_of, plain
from ctrkit.reports import Figure, Report, Table
from ctrkit.reports.figures import forest_plot
from ctrkit.reports.policy_figures import overlap_figure, segment_figure, timeline_figure, weight_figure

# Rows of a table that tells of every action, or of every pair of action and column.
SHOWN = 20


def policy_report(evaluation: Evaluation, notes: Sequence[str]) -> Report:
    """The tables and figures of each policy; of several, one table of all of them first."""
    content = evaluation.to_dict()
    policies, logging = content["policies"], content["logging"]
    several = len(policies) > 1
    tables: list[Table] = []
    figures: list[Figure] = []
    details: list[Table] = []
    for number, (found, policy) in enumerate(zip(evaluation.policies, policies, strict=True), start=1):
        tables += [_estimates(policy, logging), *_groups(found), diagnostics_table(policy)]
        figures += _figures(found, policy, logging, f"_{number}" if several else "", evaluation.confidence)
        details += [_overlap(found), *_segments(policy)]
    ranking = content["ranking"]
    return Report(
        "Off-policy evaluation",
        "\n".join(f"Verdict on {one['name']}: {one['verdict']} ({one['reason']})." for one in policies),
        (_policies(policies), *_ranked(ranking)) if several else tuple(tables),
        tuple(figures),
        (*content["notes"], *notes),
        details=(
            *_differences(ranking),
            *(tables if several else ()),
            *details,
            *_balance(evaluation.balance),
        ),
    )


def _figures(
    found: PolicyEvaluation, policy: dict[str, Any], logging: dict[str, Any], suffix: str, confidence: float
) -> Iterator[Figure]:
    """Which estimates, on which weights, since when, where, and on which actions."""
    drawn = drawn_estimates(policy)
    if drawn:
        yield forest_plot(f"estimates{suffix}", logging, drawn, found.truth)
    yield weight_figure(f"weights{suffix}", found.name, found.weights)
    if found.timeline is not None:
        yield timeline_figure(f"timeline{suffix}", found.name, found.timeline, confidence)
    yield overlap_figure(f"overlap{suffix}", found.name, found.overlap)
    for number, segments in enumerate(found.segments, start=1):
        yield segment_figure(f"segments_{number}{suffix}", found.name, segments, confidence)


def _policies(policies: Sequence[dict[str, Any]]) -> Table:
    """One line a policy: its verdict, and the estimate that decides."""
    rows = []
    for policy in policies:
        by_name = {estimate["estimator"]: estimate for estimate in policy["estimates"]}
        decisive = next((by_name[name] for name in DECISIVE if name in by_name), None)
        told = ("–",) * 3
        if decisive is not None:
            told = (interval_cell(decisive), interval_cell(decisive["difference"]), decisive["estimator"])
        rows.append((policy["name"], policy["verdict"], *told, number_cell(policy["truth"])))
    header = ("policy", "verdict", "value of a decision", "less the logging policy's", "by", "truth")
    return Table("Policies", header, tuple(rows))


def _ranked(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """The policies and the logging policy, the best first, with the probability of each to be the best."""
    if ranking is None:
        return ()
    rows = tuple(
        (one["name"], number_cell(one["value"]), number_cell(one["probability_best"]))
        for one in ranking["policies"]
    )
    return (Table("Ranked on the same rows", ("policy", "value", "probability to be best"), rows),)


def _differences(ranking: dict[str, Any] | None) -> tuple[Table, ...]:
    """Every pair, with the interval that holds for all pairs together, and the p-value adjusted for them."""
    if ranking is None:
        return ()
    rows = tuple(
        (
            f"{one['first']} less {one['second']}",
            number_cell(one["value"]),
            number_cell(one["simultaneous"]["low"]),
            number_cell(one["simultaneous"]["high"]),
            number_cell(one["adjusted_p_value"]),
        )
        for one in ranking["differences"]
    )
    header = ("policies", "difference", "low", "high", "adjusted p-value")
    return (Table("Paired differences, intervals for all of them together", header, rows),)


def _estimates(policy: dict[str, Any], logging: dict[str, Any]) -> Table:
    """Every estimate of one policy."""
    truth = policy["truth"]
    known = () if truth is None else (("truth", number_cell(truth), "", "", ""),)
    rows = (
        ("logging policy", *_value(logging)),
        *((estimate["estimator"], *_value(estimate)) for estimate in policy["estimates"]),
        *known,
    )
    header = ("estimator", "value", "low", "high", "interval")
    return Table(f"Value of a decision under {policy['name']}", header, rows)


def _groups(found: PolicyEvaluation) -> Iterator[Table]:
    """Estimates that this log allows beside the usual ones."""
    header = ("estimator", "value", "less the logging policy's", "what it is or takes for granted")
    for group in found.groups:
        rows = []
        for estimate in plain(estimates_of(group.estimates)):
            name = estimate["estimator"]
            ends = (interval_cell(estimate), interval_cell(estimate["difference"]))
            meaning = group.meaning.get(name.partition(":")[0], "")
            rows.append((name, *ends, meaning))
        yield Table(f"{group.title} under {found.name}", header, tuple(rows))


def diagnostics_table(policy: dict[str, Any]) -> Table:
    """What speaks for and against the estimates, with what it should be."""
    d, size, residual = policy["diagnostics"], policy["sample_size"], policy["residual"]
    tail, timeline = policy["weights"]["tail"]["shape"], policy["timeline"]
    rows: list[tuple[str, Any, str]] = [
        ("rows", d["rows"], ""),
        ("rows with a reward", d["positives"], "at least 10"),
        ("effective sample size", d["effective_sample_size"], "at least 100"),
        ("mean weight", d["mean_weight"], f"1 (z = {number_cell(d['mean_weight_z'])})"),
        ("largest weight", d["max_weight"], ""),
        ("weight of the heaviest 1 % of rows", d["top_share"], "0.01 where all weigh alike"),
        ("shape of the weights' tail", tail, f"below {LARGEST_TAIL_SHAPE}"),
        ("mass on what is never logged", d["unsupported_share"], "0"),
    ]
    if residual is not None:
        rows.append(("mean residual of dr", residual["mean"], f"0 (z = {number_cell(residual['z'])})"))
    if timeline is not None:
        drift = timeline["weight_drift"]
        rows.append(("drift of the mean weight, p-value", drift["p_value"], "not near 0"))
    if size is not None:
        rows.append(("rows needed to tell this difference", size["rows_needed"], "at 80 % power"))
    cells = tuple((what, number_cell(value), right) for what, value, right in rows if value is not None)
    return Table(f"Diagnostics of {policy['name']}", ("what", "value", "should be"), cells)


def _overlap(found: PolicyEvaluation) -> Table:
    """The actions that the policy wants most, and what the log has of them."""
    names = ("action", "rows", "logged_share", "policy_share", "effective_sample_size", "max_weight")
    rows = tuple(
        (str(row["action"]), *(number_cell(row[name]) for name in names[1:]))
        for row in plain(found.overlap.head(SHOWN).to_dicts())
    )
    header = tuple(name.replace("_", " ") for name in names)
    return Table(f"What {found.name} wants most, and what was logged", header, rows)


def _segments(policy: dict[str, Any]) -> Iterator[Table]:
    """A table for each column by which estimates are told apart."""
    header = (
        "segment",
        "verdict",
        "rows",
        "with a reward",
        "value",
        "less the logging policy's",
        "adjusted p-value",
    )
    for column in policy["segments"]:
        rows = []
        for one in column["segments"]:
            estimate = one["estimate"]
            ends = {**estimate["difference_interval"], "value": estimate["difference"]}
            counts = (number_cell(one["rows"]), number_cell(one["positives"]), number_cell(estimate["value"]))
            ends_and_p_value = (interval_cell(ends), number_cell(one["adjusted_p_value"]))
            rows.append((one["label"], one["verdict"]["verdict"], *counts, *ends_and_p_value))
        p_value = column["heterogeneity"]["adjusted_p_value"]
        title = f"{policy['name']} by {column['column']} (alike in all: p = {number_cell(p_value)})"
        yield Table(title, header, tuple(rows))


def _balance(balance: pl.DataFrame | None) -> tuple[Table, ...]:
    """Where the estimated propensities leave actions most out of balance."""
    if balance is None or not balance.height:
        return ()
    rows = tuple(
        (
            f"{row['column']} of {row['action']}",
            *(number_cell(row[name]) for name in ("before", "after", "noise")),
        )
        for row in plain(balance.head(SHOWN).to_dicts())
    )
    header = ("column of action", "unweighted", "weighted", "by chance")
    return (Table("Balance under the estimated propensities, in standard deviations", header, rows),)


def drawn_estimates(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """What a forest plot shows of a policy: the estimates that are determined."""
    return [
        {"label": estimate["estimator"], **{key: estimate[key] for key in ("value", "low", "high")}}
        for estimate in policy["estimates"]
        if None not in (estimate["value"], estimate["low"], estimate["high"])
    ]


def _value(estimate: dict[str, Any]) -> tuple[str, ...]:
    return (*three_cells(estimate), estimate["interval"])


def three_cells(estimate: dict[str, Any]) -> tuple[str, ...]:
    return tuple(number_cell(estimate[key]) for key in ("value", "low", "high"))


def interval_cell(estimate: dict[str, Any]) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    return "–" if None in (value, low, high) else f"{value:.4g} [{low:.3g}, {high:.3g}]"


def number_cell(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
