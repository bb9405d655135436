"""Figures of a log by period, as SVG text; one function per figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ctrkit.evaluation.drift import DRIFTED
from ctrkit.metrics import MetricInterval
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw, _label

# Names of periods that fit below a figure.
_NAMES = 12


def calibration_by_period(
    name: str, task: str, periods: Sequence[str], pcoc: Sequence[MetricInterval | None]
) -> Figure:
    """Predicted over observed by period, with intervals.

    Args:
        name: name of the figure.
        task: the task.
        periods: their names, in the order of time.
        pcoc: predicted over observed of each; None where it is not known.
    """
    canvas, (axes,) = _canvas(6.8, 3.2)
    known = [(place, one) for place, one in enumerate(pcoc) if one is not None]
    places, values = [place for place, _ in known], np.array([one.value for _, one in known])
    spread = np.array([[one.value - one.low, one.high - one.value] for _, one in known]).T
    spread = np.clip(spread, 0.0, None)
    axes.errorbar(places, values, spread, fmt="o-", markersize=4, color=COLOURS[0], ecolor=COLOURS[5])
    axes.axhline(1.0, color=_GREY, linewidth=1, linestyle="--")
    _name_periods(axes, periods)
    axes.set(ylabel="predicted / observed", xlabel="period (UTC)", xlim=(-0.5, len(periods) - 0.5))
    return _draw(name, f"Calibration of {task} by period: predicted over observed, with intervals.", canvas)


def drift_by_period(columns: Sequence[str], periods: Sequence[str], psi: NDArray[np.float64]) -> Figure:
    """The population stability index of each column and period.

    Args:
        columns: their names, the one that drifts most first.
        periods: their names, in the order of time.
        psi: the indices, [periods, columns], NaN where unknown.
    """
    canvas, (axes,) = _canvas(6.8, 1.4 + 0.28 * len(columns))
    picture = axes.pcolormesh(psi.T, cmap="OrRd", vmin=0.0, vmax=2 * DRIFTED)
    axes.set_yticks(np.arange(len(columns)) + 0.5, [_label(column, 24) for column in columns])
    axes.invert_yaxis()
    _name_periods(axes, periods, 0.5)
    axes.set(xlabel="period (UTC)")
    axes.grid(visible=False)
    bar = canvas.colorbar(picture, ax=axes, extend="max", fraction=0.04, pad=0.01)
    bar.set_label("population stability index")
    return _draw("drift_by_period", "Drift since training, by column and period.", canvas)


def _name_periods(axes: Axes, periods: Sequence[str], shift: float = 0.0) -> None:
    places = [*range(0, len(periods), -(-len(periods) // _NAMES))]
    names = [periods[place] for place in places]
    axes.set_xticks([place + shift for place in places], names, rotation=30, ha="right")
