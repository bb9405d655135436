"""The money and counts of a campaign: CTR, CVR, ROAS, eCPM, eCPC, CPA and win rate of any log.

The definitions are those of Wang, Zhang & Yuan 2017, "Display Advertising with Real-Time Bidding (RTB) and
Behavioural Targeting" (chapters 2 and 5), and of the iPinYou benchmark (Zhang et al. 2014, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError, arguments_named, nearest
from ctrkit.metrics.checks import as_column, digits, weight_column

Row: TypeAlias = Literal["impressions", "bids"]

# The names that each quantity may have in a log; the first one present is taken. `bid` is not one of them: in
# most logs it is an amount.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "impressions": ("impressions", "impression"),
    "clicks": ("clicks", "click"),
    "conversions": ("conversions", "conversion"),
    "revenue": ("revenue",),
    "cost": ("cost", "spend"),
    "bids": ("bids",),
    "wins": ("wins", "win", "won"),
}


@dataclass(frozen=True)
class Business:
    """Totals of a log and their ratios; None if a column is missing or the divisor is 0.

    Money is in the units of the log: if the log counts in thousandths, so do all amounts here.

    Attributes:
        impressions: number of impressions.
        clicks: number of clicks.
        conversions: number of conversions.
        revenue: what the advertiser earned by conversions.
        cost: what the advertiser paid for impressions.
        bids: number of bids.
        wins: number of auctions won.
        ctr: clicks / impressions.
        cvr: conversions / clicks.
        roas: return on ad spend, revenue / cost.
        ecpm: effective cost of a thousand impressions, 1000 · cost / impressions.
        ecpc: effective cost of a click, cost / clicks.
        cpa: cost of an acquisition, cost / conversions.
        win_rate: wins / bids.
    """

    impressions: float | None
    clicks: float | None
    conversions: float | None
    revenue: float | None
    cost: float | None
    bids: float | None
    wins: float | None
    ctr: float | None
    cvr: float | None
    roas: float | None
    ecpm: float | None
    ecpc: float | None
    cpa: float | None
    win_rate: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def business(
    columns: Any,
    rows: Row | None = None,
    names: Mapping[str, str] | None = None,
    weight: ArrayLike | None = None,
) -> Business:
    """Totals and ratios of a log with one row per event, or with rows that are already totals.

    Args:
        columns: a table with any of the columns impressions, clicks, conversions, revenue, cost, bids and
            wins, or their singular (`ALIASES`): a mapping from name to array, a pandas, Polars or Arrow
            table, or a path. Other columns are ignored.
        rows: what one row is, if no column counts it. `impressions`: each row is an impression. `bids`: each
            row is a bid, and its wins are the impressions. None: every count is a column.
        names: quantity -> column, if the log has another name for it, such as {"revenue": "value"}.
        weight: the weight of each row, [N]; a row of weight 2 counts as two.

    Raises:
        DataError: a named column is missing; a value is missing or no number; a count or a cost is negative;
            there are more clicks than impressions or more wins than bids.
        ConfigError: an unknown quantity or kind of row.
    """
    from ctrkit.tables import read_table

    if rows not in (None, "impressions", "bids"):
        raise ConfigError(f"unknown kind of row '{rows}'", hint=nearest(rows, ("impressions", "bids")))
    for quantity in names or {}:
        if quantity not in ALIASES:
            raise ConfigError(f"unknown quantity '{quantity}'", hint=nearest(quantity, ALIASES))
    if isinstance(columns, Mapping):
        columns = {name: np.atleast_1d(np.asarray(column)) for name, column in columns.items()}
        by_length = sorted(columns, key=lambda name: len(columns[name]))
        if by_length and len(columns[by_length[0]]) < len(columns[by_length[-1]]):
            short, long = by_length[0], by_length[-1]
            raise DataError(
                f"{long} has {len(columns[long])} rows and {short} has {len(columns[short])}", column=short
            )
    table = read_table(columns)
    w = np.ones(len(table)) if weight is None else weight_column(weight)
    if len(w) != len(table):
        raise DataError(f"the log has {len(table)} rows and weight has {len(w)}", argument="weight")
    total: dict[str, float | None] = {}
    for quantity, aliases in ALIASES.items():
        given = (names or {}).get(quantity)
        if given is not None and given not in table.columns:
            raise DataError(
                f"no such column; it should hold the {quantity}",
                column=given,
                hint=nearest(given, table.columns),
            )
        found = given or next((alias for alias in aliases if alias in table.columns), None)
        total[quantity] = None if found is None else float(w @ _amounts(table[found], found, quantity))
    if rows is not None and total[rows] is None:
        total[rows] = float(w.sum())
    if rows == "bids" and total["impressions"] is None:
        total["impressions"] = total["wins"]
    for part, whole in (("clicks", "impressions"), ("wins", "bids")):
        fewer, more = total[part], total[whole]
        if fewer is not None and more is not None and fewer > more:
            raise DataError(
                f"there are {digits(fewer)} {part} and only {digits(more)} {whole}",
                column=part,
                hint=f"Give the {whole} of the same events",
            )
    mille = None if total["impressions"] is None else total["impressions"] / 1000
    return Business(
        **total,
        ctr=_ratio(total["clicks"], total["impressions"]),
        cvr=_ratio(total["conversions"], total["clicks"]),
        roas=_ratio(total["revenue"], total["cost"]),
        ecpm=_ratio(total["cost"], mille),
        ecpc=_ratio(total["cost"], total["clicks"]),
        cpa=_ratio(total["cost"], total["conversions"]),
        win_rate=_ratio(total["wins"], total["bids"]),
    )


def _amounts(values: Any, column: str, quantity: str) -> Floats:
    """A checked column; only revenue may be negative (a refund)."""
    with arguments_named({column: column}):
        amounts = as_column(values, column)
    if quantity != "revenue" and (amounts < 0).any():
        row = int(np.argmax(amounts < 0))
        raise DataError(
            f"{quantity} cannot be {digits(amounts[row])}", column=column, row=row, hint="Fix such rows"
        )
    return amounts


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
