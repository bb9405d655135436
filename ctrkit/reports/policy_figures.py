"""Figures of a policy judged by a log, as SVG text: one function a question, whose title is the answer."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ctrkit.arrays import Floats
from ctrkit.ope.diagnostics.segments import ColumnSegments
from ctrkit.ope.diagnostics.timeline import RunningEstimate, TimelineResult
from ctrkit.ope.diagnostics.weight_sketch import WeightSketch
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw, _label

_INK = "#1c2430"
# An action whose policy share is this many times its logged share is named, where it matters.
_POOR = 3.0
_NAMED = 6
_LABEL = 28


def weight_figure(name: str, policy: str, weights: WeightSketch) -> Figure:
    """How many rows have which weight, and what share of all weight they carry."""
    canvas, (axes,) = _canvas(7.0, 3.3)
    if not weights.largest > 0:
        _say(axes, "All weights are 0" if weights.rows else "There are no rows")
        return _draw(name, f"Weights of {policy}: the log holds nothing that it would have done.", canvas)
    bins = weights.coarse()
    axes.stairs(bins.rows, bins.edges, fill=True, color=_GREY, alpha=0.45, label="of the rows")
    axes.stairs(bins.weight, bins.edges, color=COLOURS[0], linewidth=1.8, label="of all weight")
    low, high = min(float(bins.edges[0]), 0.5), max(float(bins.edges[-1]), 2.0)
    axes.set(xscale="log", xlim=(low, high), xlabel="weight of a row", ylabel="share in a bin")
    axes.axvline(1, color=_INK, linewidth=1, linestyle="--", label="1, the mean of right weights")
    axes.axvline(weights.largest, color=COLOURS[1], linewidth=1, label=f"{weights.largest:.3g}, the largest")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False)
    summary = weights.summary()
    equal = weights.largest - weights.least <= 1e-9 * weights.largest
    axes.set_title(
        f"All rows weigh {weights.largest:.3g}"
        if equal
        else f"The heaviest 1 % of the rows carry {summary.top_share:.1%} of all weight",
        fontsize=11,
    )
    below = f" {bins.below:.1%} of the rows have weight 0 or next to it." if bins.below >= 0.0005 else ""
    caption = (
        f"Weights of {policy}: {summary.rows:,} rows count as {summary.effective_sample_size:,.0f} of equal "
        f"weight.{below}"
    )
    return _draw(name, caption, canvas)


def timeline_figure(name: str, policy: str, timeline: TimelineResult, confidence: float = 0.95) -> Figure:
    """The estimate from all rows so far, with bounds that hold at all times at once, beside the logging's."""
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
    axes.set(xlabel=f"{unit} since {_date(start)}", ylabel="value a row so far", ylim=(bottom, top))
    axes.legend(frameon=False)
    axes.set_title(_course(timeline), fontsize=11)
    caption = (
        f"{policy} and the logging policy over {timeline.policy.rows[-1]:,.0f} rows; the bands hold at all "
        f"times at once with {confidence:.0%} each ({timeline.policy.method})."
    )
    return _draw(name, caption, canvas)


def _course(timeline: TimelineResult) -> str:
    """What the bands say, in words."""
    policy, logging = timeline.policy, timeline.logging
    if policy.broken or logging.broken:
        return "The bounds contradict each other: propensities or rewards are not what they are taken for"
    for word, apart in (
        ("above", policy.low > logging.high),
        ("below", policy.high < logging.low),
    ):
        if apart.any():
            share = policy.rows[np.argmax(apart)] / policy.rows[-1]
            return f"Clear {word} the logging policy from {share:.0%} of the rows on"
    return "At no time clear of the logging policy"


def _frame(timeline: TimelineResult) -> tuple[float, float]:
    """Top and bottom of the picture: the first bounds, which are wide, may be cut."""

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
    """The difference from the logging policy by segment, with its interval and the one for all at once."""
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
    axes.set(xlabel="value a row, less the logging policy's", ylim=(-0.7, len(shown) - 0.3))
    axes.grid(axis="y", visible=False)
    level = 1 - confidence
    told = [one for one in shown if one.adjusted_p_value <= level]
    if found.note:
        verdict = "not to be trusted, see below"
    elif found.heterogeneity.adjusted_p_value <= level:
        verdict = "the difference is not the same everywhere"
    elif told:
        verdict = f"{len(told)} of {len(shown)} clear of none, all alike but for chance"
    else:
        verdict = "nothing beyond chance"
    axes.set_title(f"By {title}: {verdict}", fontsize=11)
    caption = (
        f"{policy} less the logging policy by {found.column}, rows in brackets: {confidence:.0%} intervals "
        f"(thick), and such as hold for all segments at once (thin). {found.note}"
    ).strip()
    return _draw(name, caption, canvas)


def overlap_figure(name: str, policy: str, actions: pl.DataFrame, unit: str = "action") -> Figure:
    """The policy's share of each action against the log's.

    Args:
        actions: as `ActionOverlap.result` gives them.
    """
    canvas, (axes,) = _canvas(5.6, 4.4)
    logged, wanted = (actions[column].to_numpy() for column in ("logged_share", "policy_share"))
    if not actions.height or not (wanted > 0).any():
        _say(axes, "There are no rows" if not actions.height else f"The policy takes no logged {unit}")
        return _draw(name, f"Shares of {policy} by {unit}: nothing to compare.", canvas)
    held = wanted > 0
    floor = float(min(logged.min(), wanted[held].min())) / 2
    top = 1.6 * float(max(logged.max(), wanted.max()))
    axes.plot([floor, top], [floor, top], color=_GREY, linewidth=1, linestyle="--", label="as logged")
    axes.plot(logged, np.maximum(wanted, floor * 1.15), "o", color=COLOURS[0], markersize=5, alpha=0.7)
    # Worst supported: what carries most of the policy on the fewest effective rows.
    risk = np.where(
        wanted >= _POOR * logged, wanted / np.sqrt(actions["effective_sample_size"].to_numpy() + 1), 0.0
    )
    worst = [int(place) for place in np.argsort(-risk, kind="stable")[:_NAMED] if risk[place] > 0]
    labels = [_label(label or "missing", 18) for label in actions["action"].cast(pl.String)]
    named: list[Floats] = []
    for place in worst:
        axes.plot(logged[place], wanted[place], "o", color=COLOURS[1], markersize=6)
        spot = np.log10([logged[place], wanted[place]]) / np.log10(top / floor)
        # Names of neighbours would stand on each other: the worse one has the place.
        if all(np.abs(spot - other).max() > 0.06 for other in named):
            named.append(spot)
            axes.annotate(
                labels[place], (logged[place], wanted[place]), xytext=(-6, 4), textcoords="offset points",
                ha="right", fontsize=8,
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(floor, top), ylim=(floor, top))
    axes.set(xlabel="share of the log", ylabel="share of the policy, by weight")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.legend(frameon=False, loc="lower right")
    if worst:
        shares = f"{wanted[worst[0]]:.1%} of the policy, {100 * logged[worst[0]]:.2g}% of the log"
        axes.set_title(f"{labels[worst[0]]}: {shares}", fontsize=11)
    else:
        axes.set_title(f"No {unit} has {_POOR:g} times the share that the log gives it", fontsize=11)
    idle = int((~held).sum())
    beside = f" {idle:,} that it never takes stand at the bottom." if idle else ""
    caption = f"{actions.height:,} {unit}s: what {policy} wants of each against what was logged.{beside}"
    return _draw(name, caption, canvas)


def _unit(seconds: float) -> tuple[str, float]:
    """The unit of a stretch of time, and its seconds."""
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
