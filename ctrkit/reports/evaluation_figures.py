"""Figures of an evaluation, as SVG text; one function per figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ctrkit.evaluation.drift import DRIFTED, WATCH, Drift
from ctrkit.evaluation.gain import Gain
from ctrkit.evaluation.scores import ScoreDistribution
from ctrkit.evaluation.slices import Slice
from ctrkit.metrics import MetricInterval, Reliability
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw, _label

# The colours of the heat map end where predictions are twice, or half, what is observed.
_FAR = 2.0
_LABEL = 14


def reliability_figure(name: str, task: str, diagrams: Mapping[str, Reliability]) -> Figure:
    """Observed rate against predicted probability, with intervals, and the number of rows in each bin.

    Args:
        name: the name of the figure's file.
        task: the task's name.
        diagrams: model -> its reliability; one model or two.
    """
    canvas, panels = _canvas(4.4 * len(diagrams), 3.9, columns=len(diagrams))
    top = 1.08 * max(float(max(r.high.max(), r.predicted.max())) for r in diagrams.values())
    for axes, (model, bins) in zip(panels, diagrams.items(), strict=True):
        axes.plot([0, top], [0, top], color=_GREY, linewidth=1, linestyle="--", label="perfect")
        spread = np.stack([bins.observed - bins.low, bins.high - bins.observed])
        axes.errorbar(
            bins.predicted, bins.observed, np.clip(spread, 0.0, None), fmt="o", markersize=4,
            color=COLOURS[0], ecolor=COLOURS[5], elinewidth=1.2, label="bins, with interval",
        )  # fmt: skip
        axes.set(xlabel="mean predicted probability", ylabel="observed rate", title=_label(model, 40))
        axes.set(xlim=(0, top), ylim=(0, top))
        counts = axes.twinx()
        counts.vlines(bins.predicted, 0, bins.count, color=_GREY, alpha=0.35, linewidth=5, zorder=0)
        counts.set(ylim=(0, 6 * float(bins.count.max())), ylabel="rows, bars")
        counts.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        counts.grid(visible=False)
    panels[0].legend(loc="upper left", frameon=False)
    first = next(iter(diagrams.values()))
    rows = f"{int(first.count.sum()):,} rows, {first.count.size} bins of equal mass"
    return _draw(name, f"Reliability of {task}: {rows}. A bar is the number of rows of a bin.", canvas)


def score_figure(name: str, task: str, scores: ScoreDistribution) -> Figure:
    """The distribution of predictions, for positive and for negative rows."""
    canvas, (axes,) = _canvas(6.2, 3.2)
    for values, label, colour in (
        (scores.negative, "negative rows", _GREY),
        (scores.positive, "positive rows", COLOURS[0]),
    ):
        axes.stairs(values, scores.edges, fill=True, alpha=0.45, color=colour, label=label)
    axes.set(xscale="logit", xlabel="predicted probability", ylabel="share of the class")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False)
    return _draw(name, f"Predictions of {task} by class: less overlap is better.", canvas)


def gain_figure(name: str, task: str, gains: Mapping[str, Gain]) -> Figure:
    """Cumulative gain and lift, one line per model."""
    canvas, (left, right) = _canvas(8.4, 3.6, columns=2)
    for index, (model, gain) in enumerate(gains.items()):
        label = _label(model, 40)
        left.plot(gain.share, gain.gain, color=COLOURS[index % len(COLOURS)], label=label)
        held = gain.share > 0
        lift = gain.gain[held] / gain.share[held]
        right.plot(gain.share[held], lift, color=COLOURS[index % len(COLOURS)], label=label)
    left.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="random order")
    right.axhline(1, color=_GREY, linewidth=1, linestyle="--")
    left.set(xlabel="share of rows, best first", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1.02))
    right.set(xlabel="share of rows, best first", ylabel="lift", xlim=(0, 1), ylim=(0, None))
    left.legend(frameon=False, loc="lower right")
    return _draw(name, f"Gain and lift of {task}: the share of all positives in the best rows.", canvas)


def field_heat_map(
    name: str, task: str, fields: Mapping[str, Sequence[tuple[str, MetricInterval, bool]]], columns: int = 12
) -> Figure:
    """PCOC by value of each field as a heat map: red is over-predicted, blue is under-predicted.

    Args:
        name: the name of the figure's file.
        task: the task's name.
        fields: field -> (value, PCOC, whether it is beyond noise), in the order to draw.
        columns: the largest number of values shown of a field.
    """
    shown = {field: list(values)[:columns] for field, values in fields.items() if values}
    width = max(len(values) for values in shown.values())
    canvas, (axes,) = _canvas(max(5.5, 1.6 + 0.82 * width), 1.3 + 0.62 * len(shown))
    factors = np.full((len(shown), width), np.nan)
    for row, values in enumerate(shown.values()):
        for column, (_, found, _) in enumerate(values):
            factors[row, column] = (
                np.log(min(max(found.value, 1 / _FAR), _FAR)) if found.value > 0 else -np.inf
            )
    colours = np.ma.masked_invalid(np.where(np.isneginf(factors), -np.log(_FAR), factors))
    norm = TwoSlopeNorm(0.0, -np.log(_FAR), np.log(_FAR))
    picture = axes.pcolormesh(colours, cmap="RdBu_r", norm=norm, edgecolors="white", linewidth=1.5)
    for row, values in enumerate(shown.values()):
        for column, (value, found, beyond) in enumerate(values):
            dark = abs(float(colours[row, column])) > 0.45 * np.log(_FAR) / np.log(2)
            axes.text(
                column + 0.5, row + 0.5, f"{_label(value, _LABEL)}\n{found.value:.2f}{'*' if beyond else ''}",
                ha="center", va="center", fontsize=7, color="white" if dark else "#1c2430",
                fontweight="bold" if beyond else "normal",
            )  # fmt: skip
    axes.set_yticks(np.arange(len(shown)) + 0.5, [_label(field, 24) for field in shown])
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.grid(visible=False)
    bar = canvas.colorbar(picture, ax=axes, ticks=np.log([0.5, 0.7, 1, 1.4, 2]), fraction=0.04, pad=0.01)
    bar.ax.set_yticklabels(["≤ 0.5", "0.7", "1", "1.4", "≥ 2"])
    bar.set_label("PCOC")
    caption = f"PCOC (predicted / observed) of {task} by field and value; * means miscalibrated beyond noise."
    return _draw(name, caption, canvas)


def slice_figure(name: str, task: str, title: str, slices: Sequence[Slice], metrics: Sequence[str]) -> Figure:
    """Metrics with intervals by slice, one panel per metric."""
    canvas, panels = _canvas(2.9 * len(metrics), 3.1, columns=len(metrics))
    for axes, metric in zip(panels, metrics, strict=True):
        held = [(position, one.values[metric]) for position, one in enumerate(slices)]
        points = [(position, found) for position, found in held if found is not None]
        values = np.array([found.value for _, found in points])
        low, high = (np.array([getattr(found, end) for _, found in points]) for end in ("low", "high"))
        spread = np.clip(np.stack([values - low, high - values]), 0.0, None)
        axes.errorbar(
            [position for position, _ in points], values, spread, fmt="o", color=COLOURS[0],
            ecolor=COLOURS[5], markersize=4, elinewidth=1.2,
        )  # fmt: skip
        if metric in ("pcoc", "normalized_entropy"):
            axes.axhline(1, color=_GREY, linewidth=1, linestyle="--")
        axes.set(title=metric.replace("_", " "), xlim=(-0.5, len(slices) - 0.5))
        names = [_label(one.name, _LABEL) for one in slices]
        axes.set_xticks(range(len(slices)), names, rotation=30, ha="right", fontsize=8)
    return _draw(name, f"Metrics of {task} by {title}, rarest first, with intervals.", canvas)


def drift_figure(drifts: Sequence[Drift], most: int = 25) -> Figure:
    """The population stability index by column, with its usual thresholds."""
    shown = list(drifts)[:most]
    canvas, (axes,) = _canvas(6.8, 1.2 + 0.28 * len(shown))
    places = np.arange(len(shown))[::-1]
    colour = {"stable": COLOURS[2], "watch": COLOURS[4], "drifted": COLOURS[1]}
    axes.barh(places, [one.psi for one in shown], color=[colour[one.level] for one in shown], height=0.65)
    axes.plot([one.noise for one in shown], places, "|", color="#1c2430", markersize=9, label="noise")
    for limit, label in ((WATCH, "watch"), (DRIFTED, "drifted")):
        axes.axvline(limit, color=_GREY, linewidth=1, linestyle="--")
        axes.annotate(label, (limit, 1.0), xycoords=("data", "axes fraction"), fontsize=8, color=_GREY)
    axes.set_yticks(places, [_label(one.column, 28) for one in shown])
    axes.set(xlabel="population stability index", xlim=(0, max(0.3, 1.05 * max(d.psi for d in shown))))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="lower right")
    return _draw("drift", "Drift from training to evaluated rows, by column.", canvas)


def difference_figure(name: str, task: str, rows: Sequence[tuple[str, MetricInterval]], what: str) -> Figure:
    """Differences between two sets of predictions, each divided by the half width of its own interval.

    Args:
        name: name of the figure.
        task: the task.
        rows: metric -> its difference.
        what: what is subtracted from what, as in "this artifact minus other artifact".
    """
    canvas, (axes,) = _canvas(6.8, 1.2 + 0.32 * len(rows))
    _intervals(axes, [label for label, _ in rows], [found for _, found in rows])
    axes.axvline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set(xlabel="difference / half width of its interval")
    caption = f"Differences on {task}: {what}. Two trainings of one method differ too."
    return _draw(name, caption, canvas)


def _intervals(axes: Axes, labels: Sequence[str], found: Sequence[MetricInterval]) -> None:
    places = np.arange(len(labels))[::-1]
    half = np.array([max((one.high - one.low) / 2, 1e-300) for one in found])
    value, low, high = (
        np.array([getattr(one, end) for one in found]) / half for end in ("value", "low", "high")
    )
    spread = np.clip(np.stack([value - low, high - value]), 0.0, None)
    axes.errorbar(value, places, xerr=spread, fmt="o", color=COLOURS[0], markersize=5, capsize=3)
    axes.set_yticks(places, [_label(label.replace("_", " ")) for label in labels])
    axes.grid(axis="y", visible=False)
