"""Figures of an off-policy evaluation as SVG text; the title of each figure states its result."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ctrkit.arrays import Floats
from ctrkit.ope.diagnostics.segments import ColumnSegments
from ctrkit.ope.diagnostics.timeline_results import RunningEstimate, TimelineResult
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw, _label

_INK = "#1c2430"
# An action may be named where its policy share is at least this many times its logged share.
_POOR = 3.0
_NAMED = 6
_LABEL = 28


def weight_figure(name: str, policy: str, weights: WeightSketch) -> Figure:
    """The share of the rows, and of all weight, by size of the weight."""
    canvas, (axes,) = _canvas(7.0, 3.3)
    if not weights.largest > 0:
        _say(axes, "All weights are 0" if weights.rows else "There are no rows")
        return _draw(name, f"Weights of {policy}: no logged action is one that it would choose.", canvas)
    bins = weights.coarse()
    axes.stairs(bins.rows, bins.edges, fill=True, color=_GREY, alpha=0.45, label="share of the rows")
    axes.stairs(bins.weight, bins.edges, color=COLOURS[0], linewidth=1.8, label="share of all weight")
    low, high = min(float(bins.edges[0]), 0.5), max(float(bins.edges[-1]), 2.0)
    axes.set(xscale="log", xlim=(low, high), xlabel="weight of a row", ylabel="share in a bin")
    axes.axvline(1, color=_INK, linewidth=1, linestyle="--", label="1, the expected mean")
    axes.axvline(
        weights.largest, color=COLOURS[1], linewidth=1, label=f"{weights.largest:.3g}, the largest weight"
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False)
    summary = weights.summary()
    equal = weights.largest - weights.least <= 1e-9 * weights.largest
    axes.set_title(
        f"All rows have weight {weights.largest:.3g}"
        if equal
        else f"The heaviest 1 % of the rows carry {summary.top_share:.1%} of all weight",
        fontsize=11,
    )
    below = f" {bins.below:.1%} of the rows have weight 0 or almost 0." if bins.below >= 0.0005 else ""
    caption = (
        f"Weights of {policy}: {summary.rows:,} rows are worth {summary.effective_sample_size:,.0f} rows of "
        f"equal weight.{below}"
    )
    return _draw(name, caption, canvas)


def timeline_figure(name: str, policy: str, timeline: TimelineResult, confidence: float = 0.95) -> Figure:
    """The estimates of policy and logging policy from all rows so far, with bounds for all times together."""
    canvas, (axes,) = _canvas(7.4, 3.5)
    start = timeline.periods[0].start
    unit, length = _unit(timeline.policy.time[-1] - start)
    for running, label, colour in (
        (timeline.logging, "logging policy", _GREY),
        (timeline.policy, _label(policy, 40), COLOURS[0]),
    ):
        places = (running.time - start) / length
        # A single point is no line.
        axes.plot(places, running.value, color=colour, label=label, marker="o" if len(places) < 3 else "")
        known = np.isfinite(running.low) & np.isfinite(running.high) & (running.low <= running.high)
        low, high = (np.where(known, ends, np.nan) for ends in (running.low, running.high))
        if len(places) == 1:
            axes.vlines(places, low, high, color=colour, alpha=0.5)
        axes.fill_between(places, low, high, color=colour, alpha=0.18, linewidth=0)
    top, bottom = _frame(timeline)
    axes.set(xlabel=f"{unit} since {_date(start)}", ylabel="value per row so far", ylim=(bottom, top))
    axes.legend(frameon=False)
    axes.set_title(_course(timeline), fontsize=11)
    caption = (
        f"{policy} and the logging policy over {timeline.policy.rows[-1]:,.0f} rows. Each band holds at all "
        f"times together with {confidence:.0%} confidence ({timeline.policy.method})."
    )
    return _draw(name, caption, canvas)


def _course(timeline: TimelineResult) -> str:
    """The result of the bands, in words."""
    policy, logging = timeline.policy, timeline.logging
    if policy.broken or logging.broken:
        return "The bounds contradict each other: propensities or the reward range are wrong"
    for word, apart in (
        ("above", policy.low > logging.high),
        ("below", policy.high < logging.low),
    ):
        if apart.any():
            share = policy.rows[np.argmax(apart)] / policy.rows[-1]
            return f"Clear {word} the logging policy from {share:.0%} of the rows on"
    return "At no time clear of the logging policy"


def _frame(timeline: TimelineResult) -> tuple[float, float]:
    """Top and bottom of the figure; the first bounds, which are wide, may be cut off."""

    def ends(running: RunningEstimate) -> Floats:
        late = slice(len(running.value) // 5, None)
        found = np.concatenate([running.value[late], running.low[late][-1:], running.high[late][-1:]])
        middle = len(running.low) // 3
        return np.concatenate([found, running.low[middle : middle + 1], running.high[middle : middle + 1]])

    values = np.concatenate([ends(timeline.policy), ends(timeline.logging)])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return high + room, low - room


def segment_figure(name: str, policy: str, found: ColumnSegments, confidence: float = 0.95) -> Figure:
    """The difference from the logging policy by segment, with single and simultaneous intervals."""
    shown = found.segments
    canvas, (axes,) = _canvas(7.2, 1.5 + 0.36 * max(len(shown), 1))
    title = _label(found.column, 40)
    if not shown:
        _say(axes, _label(found.note or "There are no rows", 70))
        return _draw(name, f"{policy} by {found.column}: no segments.", canvas)
    places = np.arange(len(shown))[::-1]
    value = np.array([one.estimate.difference for one in shown])
    for intervals, width, colour in (
        ([one.simultaneous for one in shown], 1.2, COLOURS[5]),
        ([one.estimate.difference_interval for one in shown], 3.0, COLOURS[0]),
    ):
        low, high = (np.array([getattr(one, end) for one in intervals]) for end in ("low", "high"))
        drawn = np.isfinite(low) & np.isfinite(high)
        axes.hlines(places[drawn], low[drawn], high[drawn], color=colour, linewidth=width)
    axes.plot(value, places, "o", color=_INK, markersize=4.5)
    axes.axvline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set_yticks(places, [f"{_label(one.label, _LABEL)}  ({one.rows:,})" for one in shown])
    axes.set(xlabel="difference from the logging policy, per row", ylim=(-0.7, len(shown) - 0.3))
    axes.grid(axis="y", visible=False)
    level = 1 - confidence
    told = [one for one in shown if one.adjusted_p_value <= level]
    if found.note:
        verdict = "do not trust, see below"
    elif found.heterogeneity.adjusted_p_value <= level:
        verdict = "the difference varies between segments"
    elif told:
        verdict = f"{len(told)} of {len(shown)} differ from 0, not from each other"
    else:
        verdict = "no significant difference"
    axes.set_title(f"By {title}: {verdict}", fontsize=11)
    caption = (
        f"Difference of {policy} from the logging policy by {found.column}, rows in brackets, with "
        f"{confidence:.0%} intervals: single (thick) and simultaneous over all segments (thin). {found.note}"
    ).strip()
    return _draw(name, caption, canvas)


def overlap_figure(name: str, policy: str, actions: pl.DataFrame, unit: str = "action") -> Figure:
    """The policy's share of each action against its share of the log.

    Args:
        name: name of the figure.
        policy: name of the policy.
        actions: the table of `ActionOverlap.result`.
        unit: what an action is called in texts.
    """
    canvas, (axes,) = _canvas(5.6, 4.4)
    logged, wanted = (actions[column].to_numpy() for column in ("logged_share", "policy_share"))
    if not actions.height or not (wanted > 0).any():
        _say(axes, "There are no rows" if not actions.height else f"The policy chooses no logged {unit}")
        return _draw(name, f"Shares of {policy} by {unit}: there is nothing to compare.", canvas)
    held = wanted > 0
    floor = float(min(logged.min(), wanted[held].min())) / 2
    top = 1.6 * float(max(logged.max(), wanted.max()))
    axes.plot([floor, top], [floor, top], color=_GREY, linewidth=1, linestyle="--", label="as logged")
    axes.plot(logged, np.maximum(wanted, floor * 1.15), "o", color=COLOURS[0], markersize=5, alpha=0.7)
    # The worst supported actions: a large share of the policy on few effective rows.
    risk = np.where(
        wanted >= _POOR * logged, wanted / np.sqrt(actions["effective_sample_size"].to_numpy() + 1), 0.0
    )
    worst = [int(place) for place in np.argsort(-risk, kind="stable")[:_NAMED] if risk[place] > 0]
    labels = [_label(label or "missing", 18) for label in actions["action"].cast(pl.String)]
    named: list[Floats] = []
    for place in worst:
        axes.plot(logged[place], wanted[place], "o", color=COLOURS[1], markersize=6)
        spot = np.log10([logged[place], wanted[place]]) / np.log10(top / floor)
        # Names of neighbours would overlap: only the worse one is shown.
        if all(np.abs(spot - other).max() > 0.06 for other in named):
            named.append(spot)
            axes.annotate(
                labels[place], (logged[place], wanted[place]), xytext=(-6, 4), textcoords="offset points",
                ha="right", fontsize=8,
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(floor, top), ylim=(floor, top))
    axes.set(xlabel="share of the log", ylabel="share of the policy (by weight)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.legend(frameon=False, loc="lower right")
    if worst:
        shares = f"{wanted[worst[0]]:.1%} of the policy, {100 * logged[worst[0]]:.2g}% of the log"
        axes.set_title(f"{labels[worst[0]]}: {shares}", fontsize=11)
    else:
        axes.set_title(f"No {unit} has {_POOR:g} times its share of the log", fontsize=11)
    idle = int((~held).sum())
    beside = f" {idle:,} that it never chooses are at the bottom." if idle else ""
    caption = f"{actions.height:,} {unit}s: share of {policy} against share of the log.{beside}"
    return _draw(name, caption, canvas)


def _unit(seconds: float) -> tuple[str, float]:
    """The unit for a length of time, and its seconds."""
    for name, length in (("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0)):
        if seconds <= 96 * length:
            return name, length
    return "days", 86_400.0


def _date(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def _say(axes: Axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=_INK)
