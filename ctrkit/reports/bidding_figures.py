"""Figures of a bidding simulation, as SVG text: one function a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ctrkit.arrays import Floats
from ctrkit.bidding.market.auctions import DAY, HOUR
from ctrkit.bidding.simulation.regret import PARTS, RegretSplit
from ctrkit.bidding.simulation.repeats import Repeats
from ctrkit.bidding.simulation.sweep import OPTIMUM
from ctrkit.reports.document import Figure
from ctrkit.reports.figures import _GREY, COLOURS, _canvas, _colour, _draw, _label

_DASHES: tuple[Any, ...] = ("-", "--", ":", "-.")
_LABEL = 30
# Equal parts of the stream, for auctions without times.
_PIECES = 24
_BINS = 60
# A bin of bids this many times higher than the highest bin of prices is cut, since some strategies always
# bid the same.
_CUT = 2.5
# The line that all strategies are compared with; drawn over theirs, so that many do not hide it.
_MEASURE: dict[str, Any] = {"color": "#1c2430", "linewidth": 1.2, "linestyle": "--", "zorder": 3}
# Inches of a row of a legend.
_LEGEND_ROW = 0.215
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.3g}%")
_NUMBER = FuncFormatter(lambda value, _: f"{value:,.10g}")
# Budgets that are further apart than this stand on a logarithmic axis.
_WIDE = 20.0
_REGRET_COLOURS = {
    "allocation": COLOURS[2], "estimation": COLOURS[4], "overbidding": COLOURS[1], "underbidding": COLOURS[0],
    "exhausted": COLOURS[5], "overpaying": COLOURS[3], "unspent": _GREY,
}  # fmt: skip


def spend_curves(curves: Mapping[str, Floats], budget: float, plan: Floats | None = None) -> Figure:
    """Cumulative spend over the share of auctions seen, each strategy against the plan.

    Args:
        curves: strategy -> spend since the start at the end of each of its ticks, in units of money.
        plan: [m], the share of the budget that each of m equal parts of the auctions is to spend, as in
            `SpendPlan.share`; by default an even line.
    """
    canvas, (axes,) = _lines_canvas(len(curves), 7.8, 3.6)
    planned = np.ones(1) if plan is None else np.asarray(plan, np.float64)
    planned = np.append(0.0, np.cumsum(planned) / planned.sum())
    label = "even pacing" if plan is None else "plan"
    axes.plot(np.linspace(0.0, 1.0, planned.size), budget * planned, label=label, **_MEASURE)
    for index, (name, spend) in enumerate(curves.items()):
        axes.plot(np.linspace(0.0, 1.0, spend.size + 1), np.append(0.0, spend), **_line(index, name))
    axes.set(xlabel="share of auctions", ylabel="money spent", xlim=(0, 1), ylim=(0, 1.05 * budget))
    _legend(axes)
    against = "even line" if plan is None else "plan"
    return _draw("spend", f"Spend compared with the {against}; no strategy exceeds the budget.", canvas)


def multiplier_paths(paths: Mapping[str, Floats], optimum: float | None) -> Figure:
    """The Lagrange multiplier μ over time, compared with that of the hindsight optimum.

    Args:
        paths: strategy -> its path; empty for a strategy without μ, which so keeps its colour everywhere.
        optimum: μ of the hindsight optimum; None draws no line for it.
    """
    caption = "Path of the budget's multiplier μ: a bid is the value divided by μ."
    if not any(path.size for path in paths.values()):
        return _nothing("multiplier", caption, "No strategy paces")
    canvas, (axes,) = _lines_canvas(len(paths), 7.8, 3.2)
    for index, (name, path) in enumerate(paths.items()):
        if path.size:
            # A single point is no line.
            axes.plot(
                np.linspace(0.0, 1.0, path.size),
                path,
                marker="o" if path.size == 1 else "",
                **_line(index, name),
            )
    if optimum is not None:
        axes.axhline(optimum, label=OPTIMUM, **_MEASURE)
    axes.set(xlabel="share of auctions", ylabel="μ, value per unit of money", xlim=(0, 1))
    if any((path > 0).any() for path in paths.values()):
        axes.set_yscale("log")
        _label_decades(axes.yaxis, *axes.get_ylim())
    _legend(axes)
    return _draw("multiplier", caption, canvas)


def win_rate_figure(events: pl.DataFrame) -> Figure:
    """The share of auctions won by hour of the day (UTC), or by part of the stream without times.

    Args:
        events: `strategy`, `auction`, `won` and, where known, `timestamp` in unix seconds; times that span
            less than two hours are not used.
    """
    names = _strategies(events)
    canvas, (axes,) = _lines_canvas(len(names), 7.8, 3.3)
    has_hours = "timestamp" in events.columns and _span(events["timestamp"]) >= 2 * HOUR
    place = pl.col("timestamp").mod(DAY) // HOUR if has_hours else _piece(_PIECES)
    rates = events.group_by("strategy", place.alias("place"), maintain_order=True).agg(pl.col("won").mean())
    for index, name in enumerate(names):
        of_name = rates.filter(strategy=name).sort("place")
        where, rate = of_name["place"].to_numpy().astype(np.float64), of_name["won"].to_numpy()
        if has_hours:  # an hour without auctions is a gap in the line
            where, rate = np.arange(24.0), _at(where, rate, 24)
        else:
            where = (where + 0.5) / _PIECES
        axes.plot(where, rate, marker="o", markersize=3.5, **_line(index, name))
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set(ylabel="auctions won", ylim=(0, None))
    if has_hours:
        axes.set(xlabel="hour of the day, UTC", xlim=(-0.5, 23.5), xticks=range(0, 24, 3))
    else:
        axes.set(xlabel="share of auctions", xlim=(0, 1))
    _legend(axes)
    by = "hour of the day" if has_hours else f"part of the stream, {_PIECES} in all"
    return _draw("win_rate", f"Share of auctions won by {by}.", canvas)


def landscape_figure(events: pl.DataFrame) -> Figure:
    """Market prices with bids (left) and with prices paid (right), in bins of a log axis.

    Args:
        events: `strategy`, `market_price`, `bid`, `won`, `spend`.
    """
    names = _strategies(events)
    market = events.filter(strategy=names[0])["market_price"].to_numpy()
    amounts = {
        name: {
            "bid": (one := events.filter(strategy=name)).filter(pl.col("bid") > 0)["bid"].to_numpy(),
            "paid": one.filter(pl.col("won") & (pl.col("spend") > 0))["spend"].to_numpy(),
        }
        for name in names
    }
    drawn = np.concatenate([market[market > 0], *(one["paid"] for one in amounts.values())])
    if not drawn.size:
        return _nothing("landscape", "Market prices and bids.", "All prices are 0")
    canvas, panels = _lines_canvas(len(names), 9.4, 3.4, columns=2)
    # Far tails, and bids above all prices, would leave no room for the rest: the outermost bins hold them.
    low, high = np.quantile(drawn, [0.001, 0.999])
    # One price alone has neighbours to be seen by.
    middle = np.sqrt(low) * np.sqrt(high)
    edges = np.geomspace(min(low, middle / 2) * 0.999, max(high, middle * 2) * 1.001, _BINS + 1)
    priced = market[market > 0]

    def share(of: Floats) -> Floats:
        counts = np.histogram(np.clip(of, edges[0], edges[-1]), edges)[0]
        found: Floats = counts / len(market)
        return found

    for axes, part, title in zip(panels, ("bid", "paid"), ("bids", "prices paid"), strict=True):
        axes.stairs(share(priced), edges, fill=True, color=_GREY, alpha=0.45, label="market price")
        for index, name in enumerate(names):
            axes.stairs(share(amounts[name][part]), edges, linewidth=1.4, **_line(index, name))
        axes.set(xscale="log", xlabel="units of money", ylabel="share of auctions", title=title)
        _label_decades(axes.xaxis, *axes.get_xlim())
        axes.set_axisbelow(True)
        axes.yaxis.set_major_formatter(_PERCENT)
        if priced.size:
            highest = float(share(priced).max()) * len(market) / len(priced)
            axes.set(ylim=(0, min(axes.get_ylim()[1], _CUT * highest)))
    _legend(panels[1])
    free = float((market <= 0).mean())
    note = f" {free:.1%} of the market prices are 0 and not drawn." if free >= 0.0005 else ""
    return _draw("landscape", f"Market prices with bids above 0, and with prices paid.{note}", canvas)


def exploration_figure(events: pl.DataFrame) -> Figure:
    """The share of wins whose ad was chosen to explore, over the stream.

    Args:
        events: `strategy`, `auction`, `won`, `spend` and `explored`: whether the ad is another than the one
            of the best posterior mean; null for strategies that do not explore.
    """
    names = _strategies(events)
    # Pieces are those of the whole stream, so they are found before the lost auctions are dropped.
    won = events.with_columns(place=_piece(_PIECES)).filter(pl.col("won") & pl.col("explored").is_not_null())
    caption = "Share of wins with another ad than the one of the highest estimate."
    if not won.height:
        return _nothing("exploration", caption, "No strategy that explores won an auction")
    canvas, (axes,) = _lines_canvas(won["strategy"].n_unique(), 7.8, 3.2)
    told: list[str] = []
    for index, name in enumerate(names):
        of_name = won.filter(strategy=name)
        if not of_name.height:
            continue
        shares = of_name.group_by("place").agg(pl.col("explored").mean()).sort("place")
        where = (shares["place"].to_numpy() + 0.5) / _PIECES
        axes.plot(where, shares["explored"].to_numpy(), marker="o", markersize=3.5, **_line(index, name))
        spend = float(of_name["spend"].sum())
        explored = float(of_name.filter(pl.col("explored"))["spend"].sum())
        if spend > 0:
            told.append(f"{name} {explored / spend:.1%}")
    axes.set(xlabel="share of auctions", ylabel="wins that explore", xlim=(0, 1), ylim=(0, None))
    axes.yaxis.set_major_formatter(_PERCENT)
    _legend(axes)
    money = f" Share of the spend: {', '.join(told)}." if told else ""
    return _draw("exploration", f"{caption}{money}", canvas)


def value_by_budget_figure(table: pl.DataFrame) -> Figure:
    """What each budget buys, and what one more unit of money buys.

    Args:
        table: as `ctrkit.bidding.simulation.sweep.sweep_table` gives it.
    """
    caption = "Value by budget (left), and its slope between budgets (right)."
    if table["budget"].n_unique() < 2:
        return _nothing("value_by_budget", caption, "A curve needs two budgets")
    names = [name for name in _strategies(table) if name != OPTIMUM]
    budgets = table["budget"].to_numpy()
    canvas, (left, right) = _lines_canvas(len(names), 9.4, 3.5, columns=2)
    for index, name in [*enumerate(names), (-1, OPTIMUM)]:
        rows = table.filter(strategy=name).sort("budget")
        budget, value, slope = (rows[c].to_numpy() for c in ("budget", "value", "marginal_value"))
        style = {"linewidth": 1.6, **(_line(index, name) if index >= 0 else {**_MEASURE, "label": name})}
        left.plot(budget, value, marker="o", markersize=3.5, **style)
        # A slope belongs to the range between two budgets; below the first there is none.
        right.stairs(slope[1:], budget, baseline=None, **style)
    for axes in (left, right):
        axes.set(xlabel="budget", ylim=(0, None))
        if budgets.max() > _WIDE * budgets.min():
            axes.set(xscale="log")
            _label_decades(axes.xaxis, *axes.get_xlim())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(_NUMBER)
    left.set(ylabel="value bought")
    right.set(ylabel="value of one more unit of money")
    _legend(right)
    return _draw("value_by_budget", caption, canvas)


def regret_figure(splits: Mapping[str, RegretSplit], optimum: float) -> Figure:
    """What each strategy lost against the hindsight optimum, and why, as stacked bars.

    Args:
        splits: strategy -> its regret by cause.
        optimum: value of the hindsight optimum, above 0; losses are drawn as shares of it.
    """
    canvas, (axes,) = _canvas(7.8, 1.5 + 0.42 * len(splits))
    places = np.arange(len(splits))[::-1]
    drawn = [
        part for part in PARTS if any(abs(getattr(one, part)) > 1e-4 * optimum for one in splits.values())
    ]
    left, right = np.zeros(len(splits)), np.zeros(len(splits))
    for part in drawn:
        lost = np.array([getattr(one, part) for one in splits.values()]) / optimum
        # A part below 0 is drawn to the left of 0; only one part can be below 0.
        axes.barh(
            places, lost, 0.6, left=np.where(lost > 0, right, 0.0), color=_REGRET_COLOURS[part], label=part
        )
        left, right = np.minimum(left, lost), right + np.maximum(lost, 0.0)
    widest = max(float(right.max()), 1e-3)
    room = 0.012 * widest
    for place, end, split in zip(places, right, splits.values(), strict=True):
        axes.text(end + room, place, f"{split.total / optimum:.1%}", va="center", fontsize=9)
    axes.set_yticks(places, [_label(name, _LABEL) for name in splits])
    axes.set(
        xlabel="lost, as a share of the optimum's value", xlim=(1.05 * float(left.min()), 1.12 * widest),
        ylim=(-0.6, len(splits) - 0.4),
    )  # fmt: skip
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_axisbelow(True)
    axes.grid(axis="y", visible=False)
    if drawn:
        _legend(axes)
    return _draw("regret", "Value lost against the hindsight optimum, by cause.", canvas)


def kpi_figure(repeats: Repeats, kpis: Sequence[str]) -> Figure:
    """KPIs with their intervals over seeds, one panel per KPI and one row per strategy.

    Intervals of two strategies may overlap though one is better seed by seed. So the mark is filled where
    the paired difference from the reference is significant.

    Args:
        repeats: the results over seeds.
        kpis: the KPIs to draw. A KPI that no strategy has gets no panel; a strategy without it gets no mark.
    """
    over = "simulated markets" if repeats.kind == "markets" else "resamples of one log"
    caption = f"KPIs with {repeats.confidence:.0%} intervals over {repeats.seeds} {over}."
    if repeats.differences:
        caption += f" Hollow marks: no significant difference from {repeats.reference}, seed by seed."
    kpis = [kpi for kpi in kpis if any(kpi in means for means in repeats.means.values())]
    if not kpis:
        return _nothing("kpis", caption, "No strategy has any of these KPIs")
    canvas, panels = _canvas(2.2 + 2.4 * len(kpis), 1.2 + 0.36 * len(repeats.means), columns=len(kpis))
    places = np.arange(len(repeats.means))[::-1]
    level = 1 - repeats.confidence
    significant = {
        (one.strategy, one.kpi)
        for one in repeats.differences
        if one.adjusted_p_value is not None and one.adjusted_p_value <= level
    }
    for column, (axes, kpi) in enumerate(zip(panels, kpis, strict=True)):
        for index, (place, (name, means)) in enumerate(zip(places, repeats.means.items(), strict=True)):
            if (mean := means.get(kpi)) is None:
                continue
            colour = _colour(index)
            if mean.low is not None and mean.high is not None:
                axes.plot([mean.low, mean.high], [place, place], color=colour, linewidth=2.2)
            filled = name == repeats.reference or (name, kpi) in significant
            face = colour if filled else "white"
            axes.plot(mean.value, place, "o", color=colour, markerfacecolor=face, markersize=6)
        labels = [_label(name, _LABEL) for name in repeats.means] if not column else [""] * len(places)
        axes.set_yticks(places, labels)
        axes.set(ylim=(-0.6, len(places) - 0.4))
        axes.set_title(kpi.replace("_", " "), fontsize=11)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(_NUMBER)
        axes.grid(axis="y", visible=False)
    return _draw("kpis", caption, canvas)


def _label_decades(axis: Axis, low: float, high: float) -> None:
    """Number the ticks of a logarithmic axis: several per decade where it spans few decades."""
    decades = np.log10(high / low)
    parts = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 4 else (1.0,)
    axis.set_major_locator(LogLocator(subs=parts))
    axis.set_major_formatter(_NUMBER)
    axis.set_minor_formatter(NullFormatter())


def _lines_canvas(lines: int, width: float, height: float, columns: int = 1) -> tuple[Canvas, list[Axes]]:
    """A canvas that is high enough for a legend of these lines and one more."""
    return _canvas(width, max(height, 1.0 + _LEGEND_ROW * (lines + 1)), columns)


def _nothing(name: str, caption: str, says: str) -> Figure:
    """A figure that only says why there is nothing to draw."""
    canvas, (axes,) = _canvas(7.8, 0.6)
    axes.set_axis_off()
    axes.text(0.0, 0.5, says, va="center", transform=axes.transAxes)
    return _draw(name, caption, canvas)


def _line(index: int, name: str) -> dict[str, Any]:
    """Colour, dashes and label of a strategy's line; lines of the same colour differ in their dashes."""
    dashes = _DASHES[index // len(COLOURS) % len(_DASHES)]
    return {"color": _colour(index), "linestyle": dashes, "label": _label(name, _LABEL)}


def _legend(axes: Axes) -> None:
    """A legend next to the picture, where it covers no line."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _strategies(table: pl.DataFrame) -> list[str]:
    return table["strategy"].unique(maintain_order=True).to_list()


def _span(column: pl.Series) -> float:
    """The largest value less the smallest; 0 without rows."""
    values = column.to_numpy()
    return float(np.ptp(values)) if values.size else 0.0


def _piece(pieces: int) -> pl.Expr:
    """The index of the equal part of the stream that an auction is in, from 0."""
    auction = pl.col("auction").cast(pl.Int64)
    return auction * pieces // (auction.max() + 1)


def _at(places: Floats, values: Floats, size: int) -> Floats:
    """Values by place, NaN where there is none."""
    found = np.full(size, np.nan)
    found[places.astype(int)] = values
    return found
