"""Figures of an audit, as SVG text: one function a question."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from matplotlib.ticker import FuncFormatter

from ctrkit.arrays import Floats
from ctrkit.ope.audit.checks import TimeBins
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw

_BINS = 40


def propensity_figure(propensities: Floats) -> Figure:
    """How many rows have which propensity, and what share of all 1/p they carry."""
    canvas, (left, right) = _canvas(8.4, 3.2, columns=2)
    low = min(float(propensities.min()), 0.5)
    edges = np.geomspace(0.98 * low, 1.02, _BINS + 1)
    inverse = 1 / propensities
    for axes, weights, label in (
        (left, None, "rows"),
        (right, inverse / inverse.sum(), "share of all inverse propensities"),
    ):
        counts, _ = np.histogram(propensities, edges, weights=weights)
        axes.stairs(counts, edges, fill=True, color=COLOURS[0])
        axes.set(xscale="log", xlabel="propensity", ylabel=label)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    caption = (
        f"Propensities of {len(propensities):,} rows. Where the right side stands far left of the left one, "
        "few rows decide."
    )
    return _draw("propensities", caption, canvas)


def time_figure(time: TimeBins) -> Figure:
    """Mean reward and mean propensity by spans of equal rows, with two standard errors of the reward."""
    canvas, (left, right) = _canvas(8.4, 3.2, columns=2)
    hours = ((time.start + time.end) / 2 - time.start[0]) / 3600
    unit = "hours" if hours[-1] <= 96 else "days"
    places = hours if unit == "hours" else hours / 24
    overall = float(time.rows @ time.reward / time.rows.sum())
    error = 2 * time.reward_deviation / np.sqrt(time.rows)
    left.errorbar(
        places, time.reward, error, fmt="o", markersize=4, color=COLOURS[0], ecolor=COLOURS[5], elinewidth=1.2
    )
    left.axhline(overall, color=_GREY, linewidth=1, linestyle="--", label="all rows")
    left.set(ylabel="mean reward")
    left.legend(frameon=False)
    right.plot(places, time.propensity, "o-", markersize=4, linewidth=1, color=COLOURS[1])
    right.set(ylabel="mean propensity", ylim=(0, None))
    for axes in (left, right):
        axes.set(
            xlabel=f"{unit} since {datetime.fromtimestamp(float(time.start[0]), UTC):%Y-%m-%d %H:%M} UTC"
        )
    spans = f"{len(time.rows)} spans of equal rows"
    caption = f"Rewards and propensities over time: {spans}; bars are two standard errors."
    return _draw("over_time", caption, canvas)
