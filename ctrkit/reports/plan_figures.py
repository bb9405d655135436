"""Figures of a budget plan, as SVG text: one function a question."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.ticker import MaxNLocator

from ctrkit.bidding.pacing.response import ResponseCurve
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, _canvas, _colour, _draw, _label

# The campaigns beyond these are drawn as one, since more colours could not be distinguished.
DRAWN = 6
_OTHERS = "others"


def allocation_figure(campaigns: pl.DataFrame) -> Figure:
    """Each campaign's share of the spend and of the value.

    Args:
        campaigns: `campaign`, `spend`, `value`.
    """
    canvas, (axes,) = _canvas(7.0, 1.3 + 0.45 * campaigns.height)
    places = np.arange(campaigns.height)[::-1]
    for shift, name, colour in ((0.19, "spend", _GREY), (-0.19, "value", _colour(0))):
        amounts = campaigns[name].to_numpy()
        axes.barh(places + shift, amounts / (amounts.sum() or 1.0), 0.36, color=colour, label=name)
    axes.set_yticks(places, [_label(name) for name in campaigns["campaign"]])
    axes.xaxis.set_major_formatter(lambda part, _: f"{part:.0%}")
    axes.set(xlabel="share of the plan")
    axes.set_axisbelow(True)
    axes.grid(axis="y", visible=False)
    axes.legend(frameon=False)
    return _draw("allocation", "Each campaign's share of the planned spend and value.", canvas)


def response_figure(curves: Mapping[str, ResponseCurve], campaigns: pl.DataFrame) -> Figure:
    """The curve of each campaign over all hours, with the chosen point.

    Args:
        curves: campaign -> its curve, in the order of colours.
        campaigns: `campaign`, `spend`, `value`.
    """
    canvas, (axes,) = _canvas(7.0, 3.8)
    chosen = {
        name: (spend, value) for name, spend, value in campaigns.select("campaign", "spend", "value").rows()
    }
    for index, (name, curve) in enumerate(list(curves.items())[:DRAWN]):
        axes.plot(curve.spend, curve.value, color=_colour(index), label=_label(name))
        axes.plot(*chosen[name], "o", color=_colour(index), markersize=6)
    axes.set(xlabel="spend", ylabel="expected value", xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    more = f" Shown are the {DRAWN} campaigns that spend the most." if len(curves) > DRAWN else ""
    return _draw("curves", f"Expected value by spend of each campaign; points mark the plan.{more}", canvas)


def day_figure(lines: pl.DataFrame, campaigns: list[str]) -> Figure:
    """Planned spend by hour, stacked by campaign.

    Args:
        lines: `campaign`, `hour`, `spend`.
        campaigns: their names, in the order of colours.
    """
    canvas, (axes,) = _canvas(7.0, 3.4)
    hours = np.unique(lines["hour"].to_numpy())
    drawn = campaigns[:DRAWN]
    named = lines.with_columns(
        pl.when(pl.col("campaign").is_in(drawn)).then("campaign").otherwise(pl.lit(_OTHERS))
    )
    below = np.zeros(len(hours))
    for index, name in enumerate([*drawn, _OTHERS] if len(campaigns) > DRAWN else drawn):
        of_name = named.filter(campaign=name)
        spend = np.array([of_name.filter(hour=int(hour))["spend"].sum() for hour in hours])
        colour = _colour(index) if name != _OTHERS else _GREY
        axes.bar(hours, spend, 0.8, bottom=below, color=colour, label=_label(name))
        below = below + spend
    axes.set(xlabel="hour", ylabel="planned spend")
    axes.set_axisbelow(True)
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _draw("day", "Planned spend by hour and campaign.", canvas)
