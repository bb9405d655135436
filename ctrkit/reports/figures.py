"""Figures as SVG text, one function for each. The same numbers give the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from ctrkit.metrics import Reliability
from ctrkit.names import cut, visible
from ctrkit.reports.document import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#8a94a0"
_SETTINGS: Any = {
    "svg.hashsalt": "ctrkit",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "grid.color": "#e4e8ed",
    "text.parse_math": False,
}


def _draw(name: str, caption: str, canvas: Canvas) -> Figure:
    """The figure. No dollar sign in a text starts a formula; the viewer finds letters that the font lacks."""
    text = io.StringIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for one in canvas.findobj(Text):
            one.set_parse_math(False)
        canvas.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return Figure(name, caption, text.getvalue())


def _label(text: str, most: int = 34) -> str:
    """A name from the data as a label: cut to fit, and shown in legends even if it begins with `_`."""
    shown = cut(visible(text), most) or "(no name)"
    return f"\u200b{shown}" if shown.startswith("_") else shown  # a space without width


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Canvas, list[Axes]]:
    with mpl.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        axes = canvas.subplots(1, columns, squeeze=False)
    return canvas, list(axes[0])


def training_curve(events: Sequence[Mapping[str, float]], best: float, unit: str) -> Figure:
    """Training and validation loss by epoch or number of trees, the `unit`; that at `best` was kept."""
    canvas, (axes,) = _canvas(6.0, 3.2)
    done = [event[unit] for event in events]
    axes.plot(
        done,
        [e.get("training_loss", np.nan) for e in events],
        "o-",
        color=_GREY,
        label="training",
        markersize=4,
    )
    axes.plot(
        done,
        [e["validation_loss"] for e in events],
        "o-",
        color=COLOURS[0],
        label="validation",
        markersize=4,
    )
    axes.axvline(best, color=COLOURS[1], linewidth=1, linestyle="--", label="best, kept")
    axes.set(xlabel=unit, ylabel="loss")
    axes.legend(frameon=False)
    return _draw(
        "training_curve", f"Loss by {unit}; the model with the best validation result is kept.", canvas
    )


def reliability_diagram(name: str, task: str, before: Reliability, after: Reliability) -> Figure:
    """Observed rate against predicted probability in bins of equal mass, before and after calibration."""
    canvas, panels = _canvas(8.4, 3.8, columns=2)
    top = 1.08 * max(float(np.max(r.high)) for r in (before, after))
    top = max(top, 1.08 * max(float(np.max(r.predicted)) for r in (before, after)))
    for axes, reliability, title in zip(panels, (before, after), ("before", "after"), strict=True):
        axes.plot([0, top], [0, top], color=_GREY, linewidth=1, linestyle="--", label="perfect")
        spread = np.stack([reliability.observed - reliability.low, reliability.high - reliability.observed])
        axes.errorbar(
            reliability.predicted, reliability.observed, np.clip(spread, 0.0, None), fmt="o", markersize=4,
            color=COLOURS[0], ecolor=COLOURS[5], elinewidth=1.2, label="bins, 95 % interval",
        )  # fmt: skip
        axes.set(
            xlabel="mean predicted probability",
            ylabel="observed rate",
            title=title,
            xlim=(0, top),
            ylim=(0, top),
        )
    panels[0].legend(loc="upper left", frameon=False)
    rows = int(after.count.sum())
    caption = f"Reliability of {task} on {rows:,} held-out rows, {after.count.size} bins of equal mass."
    return _draw(name, caption, canvas)


def forest_plot(
    name: str, logging: Mapping[str, float], rows: Sequence[Mapping[str, Any]], truth: float | None
) -> Figure:
    """Estimates with intervals, one line each, against the logging policy's value and its interval.

    Args:
        name: name of the figure.
        logging: `value`, `low` and `high` of the logging policy.
        rows: mappings with `label`, `value`, `low` and `high`, from top to bottom.
        truth: the policy's true value, if the log comes from a simulation.
    """
    canvas, (axes,) = _canvas(7.0, 1.2 + 0.42 * len(rows))
    axes.axvspan(logging["low"], logging["high"], color="#e9edf2", zorder=0)
    axes.axvline(logging["value"], color=_GREY, linewidth=1.2, label="logging policy")
    if truth is not None:
        axes.axvline(truth, color=COLOURS[2], linewidth=1.2, linestyle="--", label="truth")
    places = np.arange(len(rows))[::-1]
    values = np.array([row["value"] for row in rows])
    spread = np.stack([values - [row["low"] for row in rows], [row["high"] for row in rows] - values])
    axes.errorbar(
        values, places, xerr=np.clip(spread, 0.0, None), fmt="o", color=COLOURS[0], markersize=5, capsize=3
    )
    axes.set_yticks(places, [_label(row["label"]) for row in rows])
    axes.set(xlabel="value per decision", ylim=(-0.7, len(rows) - 0.3))
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2, frameon=False)
    return _draw(
        name, "Estimated value with 95 % interval; the band is the interval of the logging policy.", canvas
    )


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
