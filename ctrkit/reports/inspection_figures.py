"""Figures of a look at a table, as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _draw, _label


def rate_figure(feature: str, label: str, parts: Sequence[Mapping[str, Any]], rate: float) -> Figure:
    """The rate of the label in each part of a feature's values.

    Args:
        feature: the feature.
        label: the label.
        parts: the parts: `part` in words, `rows`, and `rate`.
        rate: rate of all rows, drawn as a line.
    """
    canvas, (axes,) = _canvas(6.0, 1.0 + 0.3 * len(parts))
    places = np.arange(len(parts))[::-1]
    axes.barh(places, [one["rate"] for one in parts], color=COLOURS[0], height=0.65)
    axes.axvline(rate, color=_GREY, linewidth=1, linestyle="--")
    names = [f"{_label(one['part'])} ({one['rows']:,} rows)" for one in parts]
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlabel=f"rate of {_label(label)}", title=_label(feature))
    axes.grid(axis="y", visible=False)
    return _draw(f"rate_{feature}", f"Rate of {label} by {feature}; the line is that of all rows.", canvas)
