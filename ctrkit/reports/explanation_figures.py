"""Figures of explanations, as SVG text; one function per figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import PercentFormatter

from ctrkit.explanations import (
    Dependence,
    EmbeddingMap,
    FusionGate,
    FusionShares,
    GateDistribution,
    Importance,
    RowExplanation,
)
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, _SETTINGS, COLOURS, _canvas, _draw, _label

# The number of bars of a row; all smaller contributions share one more bar.
_BARS = 12
_CURVES = 40
# Points have names in maps of at most this many points.
_NAMED = 40


def row_figure(name: str, row: RowExplanation, task: str) -> Figure:
    """A row's probability, from the base to the row's own: one signed bar per feature or past event."""
    kept = row.contributions[:_BARS]
    rest = row.contributions[_BARS:]
    bars = [(_label(f"{step.feature} = {step.value}"), step.logit) for step in kept]
    if rest:
        bars.append((f"{len(rest)} more", sum(step.logit for step in rest)))
    canvas, (axes,) = _canvas(8.0, 1.5 + 0.32 * len(bars))
    sizes = np.array([size for _, size in bars])
    starts = row.base_logit + np.cumsum(sizes) - sizes
    places = np.arange(len(bars))[::-1]
    axes.barh(
        places, sizes, left=starts, height=0.7, zorder=2, color=[COLOURS[0 if s > 0 else 1] for s in sizes]
    )
    for place, start, size in zip(places, starts, sizes, strict=True):
        axes.plot([start + size] * 2, [place - 0.35, place - 1.35], color=_GREY, linewidth=0.7)
    for logit, label, style in ((row.base_logit, "base", "--"), (row.logit, "this row", "-")):
        axes.axvline(logit, color=_GREY, linewidth=1.0, linestyle=style, label=label)
    axes.set_yticks(places, [label for label, _ in bars])
    low, high = row.scale[0][0], row.scale[-1][0]
    margin = 0.06 * max(high - low, 1e-3)
    axes.set(xlabel="logit, before calibration", xlim=(low - margin, high + margin), ylim=(-1.4, len(bars)))
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False, loc="best")
    with mpl.rc_context(_SETTINGS):
        upper = axes.twiny()
    upper.set_xlim(axes.get_xlim())
    upper.set_xticks([logit for logit, _ in row.scale], [f"{p:.2%}" for _, p in row.scale])
    upper.set_xlabel("calibrated probability")
    upper.grid(visible=False)
    caption = (
        f"Row {row.row}: p({task}) is {row.base_probability:.2%} for the base and {row.probability:.2%} "
        "for this row. Blue raises the probability, orange lowers it."
    )
    return _draw(name, caption, canvas)


def importance_figure(importance: Sequence[Importance], shares: Mapping[str, float] | None) -> Figure:
    """The fall of AUC when a feature is shuffled, with intervals, and its mean |share| of the logit."""
    ordered = sorted(importance, key=lambda one: one.auc.value)
    panels = 2 if shares is not None else 1
    canvas, axes = _canvas(4.6 * panels + 1.0, 1.2 + 0.3 * len(ordered), columns=panels)
    places = np.arange(len(ordered))
    values = np.array([one.auc.value for one in ordered])
    spread = np.stack([values - [one.auc.low for one in ordered], [one.auc.high for one in ordered] - values])
    axes[0].errorbar(
        values, places, xerr=np.clip(spread, 0.0, None), fmt="o", color=COLOURS[0], markersize=5, capsize=3
    )
    axes[0].axvline(0.0, color=_GREY, linewidth=1.0)
    axes[0].set_yticks(places, [_label(one.feature) for one in ordered])
    axes[0].set(xlabel="fall of AUC when shuffled")
    if shares is not None:
        axes[1].barh(places, [shares[one.feature] for one in ordered], height=0.6, zorder=2, color=COLOURS[5])
        axes[1].set_yticks(places, [""] * len(ordered))
        axes[1].set(xlabel="mean |share| of the logit")
    for panel in axes:
        panel.grid(axis="y", visible=False)
        panel.set(ylim=(-0.6, len(ordered) - 0.4))
    return _draw(
        "importance", "Importance of each feature; the intervals cover the randomness of shuffling.", canvas
    )


def dependence_figure(name: str, found: Dependence, task: str) -> Figure:
    """Mean calibrated probability over a feature's values, and the spread of single rows."""
    canvas, (axes,) = _canvas(6.4, 3.4)
    mean, low, high = found.mean, found.quantile(0.1), found.quantile(0.9)
    if found.share is None:
        values = np.array([float(value) for value in found.values])
        step = -(-len(found.curves) // _CURVES)
        axes.plot(values, found.curves[::step].T, color=COLOURS[5], linewidth=0.4, alpha=0.5)
        axes.fill_between(values, low, high, color=COLOURS[5], alpha=0.25, label="80 % of rows")
        axes.plot(values, mean, "o-", color=COLOURS[0], markersize=4, label="mean")
    else:
        places = np.arange(len(found.values))
        axes.vlines(places, low, high, color=COLOURS[5], linewidth=4, alpha=0.5, label="80 % of rows")
        axes.plot(places, mean, "o", color=COLOURS[0], markersize=5, label="mean")
        axes.set_xticks(places, [_label(str(value), 14) for value in found.values], rotation=45, ha="right")
    axes.set(xlabel=_label(found.feature), ylabel=f"p({_label(task)})")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=2 if high.max() < 0.1 else 0))
    axes.legend(frameon=False)
    caption = f"Partial dependence of {task} on {found.feature}, over {len(found.curves):,} rows."
    return _draw(name, caption, canvas)


def gates_figure(gates: Sequence[FusionGate]) -> Figure:
    """The weights that each fusion gives its operations or branches."""
    canvas, axes = _canvas(4.6 * len(gates), 3.2, columns=len(gates))
    for panel, gate in zip(axes, gates, strict=True):
        if isinstance(gate, FusionShares):
            panel.bar(
                [_label(name) for name in gate.shares],
                list(gate.shares.values()),
                zorder=2,
                color=COLOURS[0],
                width=0.6,
            )
            panel.axhline(1.0 / len(gate.shares), color=_GREY, linewidth=1.0, linestyle="--", zorder=3)
            panel.set(ylabel="weight", ylim=(0, 1))
            panel.tick_params(axis="x", rotation=20)
        else:
            _histogram(panel, gate)
        panel.set_title(_label(gate.name), fontsize=9)
    return _draw("fusion", "Weights of the fused branches; the dashed line marks equal weights.", canvas)


def _histogram(panel: mpl.axes.Axes, gate: GateDistribution) -> None:
    panel.hist(gate.by_row, bins=30, range=(0.0, 1.0), zorder=2, color=COLOURS[0])
    panel.axvline(0.5, color=_GREY, linewidth=1.0, linestyle="--", zorder=3)
    panel.set(xlabel=f"gate: 1 is {gate.first}, 0 is {gate.second}", ylabel="rows", xlim=(0, 1))


def map_figure(found: EmbeddingMap, task: str, *, by_frequency: bool = False) -> Figure:
    """Points in the plane, coloured by the observed rate or by frequency."""
    canvas, (axes,) = _canvas(6.6, 5.0)
    if by_frequency:
        values, label = np.log10(found.rows.astype(np.float64)), "log10 of the number of rows"
    else:
        single = bool((found.rows == 1).all())
        values, label = (
            found.rate,
            f"predicted p({_label(task)})" if single else f"observed rate of {_label(task)}",
        )
    # A few extreme values would stretch the colour scale until all others look alike.
    low, high = np.quantile(values, [0.02, 0.98])
    sizes = 8.0 + 60.0 * np.sqrt(found.rows / found.rows.max()) if found.rows.max() > 1 else 10.0
    x, y = found.points.T
    dots = axes.scatter(x, y, c=values, s=sizes, cmap="viridis", vmin=low, vmax=high, linewidth=0)
    with mpl.rc_context(_SETTINGS):
        canvas.colorbar(dots, ax=axes, label=label)
    if len(found.names) <= _NAMED:
        for text, point in zip(found.names, found.points, strict=True):
            axes.annotate(_label(text, 14), tuple(point), (4, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="first direction", ylabel="second direction")
    kept = "" if found.explained is None else f", which keeps {found.explained:.0%} of the variance"
    what = "the last layer's inputs" if found.of == "hidden" else f"the embeddings of {found.of}"
    return _draw("embedding_map", f"Map of {what} by {found.method}{kept}.", canvas)
