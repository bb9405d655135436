"""One budget divided over campaigns and hours, so that what it buys is worth the most.

    max Σ f_ch(s_ch)   subject to   Σ s_ch ≤ B   and the limits of `PlanLimits`

The curves f are concave and piecewise linear, so this is a linear program: each piece of a curve is a good
with a cost and a value per unit of money. The optimum buys the better pieces of a curve first without being
told to. The dual variable of the budget is the value of one more unit of money.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats
from ctrkit.bidding.pacing.response import ResponseCurve
from ctrkit.errors import ConfigError, RunError, nearest

# A solution this close to an end of a piece, as a share of the piece, is at that end.
_SNAP = 1e-7
# A limit binds if loosening it by a unit of money is worth more than this share of the best piece's value.
_BINDS = 1e-7


@dataclass(frozen=True)
class PlanLine:
    """One line of a plan: a campaign in an hour, and the value that it buys there by spend."""

    campaign: str
    hour: int
    curve: ResponseCurve


@dataclass(frozen=True)
class PlanLimits:
    """The limits of a plan. Money is in the unit of the curves' spends.

    Attributes:
        budget: the budget of the whole plan, above 0.
        minimum: campaign -> its smallest spend.
        maximum: campaign -> its largest spend.
        minimum_share: campaign -> its smallest share of the total spend.
        hour_maximum: hour -> its largest spend; a single number is the largest spend of every hour.
        evenness: the spend of each hour stays within (1 ± evenness) times the mean spend of an hour.
        ramp: largest change of spend from one hour to the next, in multiples of the mean spend of an hour.

    Raises:
        ConfigError: a number out of range.
    """

    budget: float
    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    minimum_share: Mapping[str, float] = field(default_factory=dict)
    hour_maximum: float | Mapping[int, float] | None = None
    evenness: float | None = None
    ramp: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.budget) and self.budget > 0):
            raise ConfigError(
                f"the budget is {self.budget:g} and must be above 0", hint="Give for example --budget 1000"
            )
        hours = self.hour_maximum
        every = [
            *((f"minimum of {name}", amount) for name, amount in self.minimum.items()),
            *((f"maximum of {name}", amount) for name, amount in self.maximum.items()),
            *((f"minimum share of {name}", share) for name, share in self.minimum_share.items()),
            *((f"maximum of hour {h}", m) for h, m in (hours.items() if isinstance(hours, Mapping) else ())),
            ("hour_maximum", 0.0 if hours is None or isinstance(hours, Mapping) else hours),
            ("evenness", self.evenness or 0.0),
            ("ramp", self.ramp or 0.0),
        ]
        for name, number in every:
            if not (np.isfinite(number) and number >= 0):
                raise ConfigError(f"the {name} is {number:g} and must be at least 0")
        if (shares := sum(self.minimum_share.values())) > 1 + 1e-12:
            raise ConfigError(
                f"the minimum shares add up to {shares:g}", hint="Lower them so that they add up to at most 1"
            )


@dataclass(frozen=True)
class Binding:
    """A limit that binds.

    Attributes:
        limit: the limit in words, for example `maximum of shoes (500)`.
        price: the value that loosening it by one unit of money would add.
    """

    limit: str
    price: float


@dataclass(frozen=True)
class BudgetPlan:
    """The best division of a budget.

    Attributes:
        lines: `campaign`, `hour`, `spend`, `value` and `marginal_value`, the value of the line's next unit
            of money, in the order of the given lines.
        budget: the money that may be spent.
        budget_price: the value of one more unit of budget; 0 where the budget does not bind.
        bindings: the limits that bind, the most valuable to loosen first.
    """

    lines: pl.DataFrame
    budget: float
    budget_price: float
    bindings: tuple[Binding, ...]

    @property
    def spend(self) -> float:
        return float(self.lines["spend"].sum())

    @property
    def value(self) -> float:
        return float(self.lines["value"].sum())

    def by_campaign(self) -> pl.DataFrame:
        """`campaign`, `spend`, `value`, and `marginal_value`: of the next unit of money in its best hour."""
        sums = (pl.col("spend").sum(), pl.col("value").sum(), pl.col("marginal_value").max())
        return self.lines.group_by("campaign", maintain_order=True).agg(*sums)

    def by_hour(self) -> pl.DataFrame:
        """The spend plan of the day: `hour`, `spend`, `share` of all spend, and `value`."""
        hours = self.lines.group_by("hour").agg(pl.col("spend").sum(), pl.col("value").sum()).sort("hour")
        share = pl.col("spend") / (self.spend or 1.0)
        return hours.select("hour", "spend", share.alias("share"), "value")


def plan_budget(lines: Sequence[PlanLine], limits: PlanLimits) -> BudgetPlan:
    """Divide a budget so that it buys the most value within the limits.

    Args:
        lines: the curve of each campaign in each hour; every pair once.
        limits: the budget and the other limits.

    Raises:
        ConfigError: no lines, a limit on a campaign or hour that no line has, or limits that contradict each
            other; the message names a smallest set of limits that cannot hold together.
        RunError: the solver finds no optimum for another reason.
    """
    if not lines:
        raise ConfigError("there are no curves to plan with", hint="Give at least one campaign")
    if len({(line.campaign, line.hour) for line in lines}) < len(lines):
        raise ConfigError(
            "a campaign has two curves for one hour", hint="Join them, or give them different names"
        )
    rows = _rows(lines, limits)
    program = _Program([line.curve for line in lines])
    found = program.best(rows)
    if found is None:
        raise _contradiction(program, rows, lines)
    spend, prices = found
    best = max((float(line.curve.slopes[0]) for line in lines if line.curve.largest_spend > 0), default=0.0)
    bindings = [
        Binding(f"{row.limit}{row.place}", price)
        for row, price in zip(rows, prices, strict=True)
        if price > _BINDS * best
    ]
    tops = np.array([line.curve.largest_spend for line in lines])
    table = pl.DataFrame(
        {
            "campaign": [line.campaign for line in lines],
            "hour": [line.hour for line in lines],
            "spend": spend,
            "value": [float(line.curve(s)) for line, s in zip(lines, spend, strict=True)],
            "marginal_value": [
                line.curve.marginal(s + 1e-9 * top) for line, s, top in zip(lines, spend, tops, strict=True)
            ],
        },
        schema_overrides={"hour": pl.Int64, "spend": pl.Float64, "value": pl.Float64},
    )
    return BudgetPlan(
        table,
        limits.budget,
        prices[0] if prices[0] > _BINDS * best else 0.0,
        tuple(sorted(bindings, key=lambda one: -one.price)),
    )


@dataclass(frozen=True)
class _Row:
    """One linear limit on the lines' spends: weights·s ≤ bound. Rows of one `limit` belong together."""

    limit: str
    weights: Floats
    bound: float
    place: str = ""


def _rows(lines: Sequence[PlanLine], limits: PlanLimits) -> list[_Row]:
    """The limits as rows; the first is the budget."""
    names = np.array([line.campaign for line in lines])
    hours = np.array([line.hour for line in lines])
    every = np.ones(len(lines))

    def of(known: NDArray[Any], name: Any, what: str) -> Floats:
        if name not in known:
            hint = nearest(str(name), {str(one) for one in known})
            raise ConfigError(f"there is no {what} '{name}' to limit", hint=hint)
        return np.asarray(known == name, np.float64)

    rows = [_Row(f"budget ({limits.budget:g})", every, limits.budget)]
    for name, least in limits.minimum.items():
        rows.append(_Row(f"minimum of {name} ({least:g})", -of(names, name, "campaign"), -least))
    for name, most in limits.maximum.items():
        rows.append(_Row(f"maximum of {name} ({most:g})", of(names, name, "campaign"), most))
    for name, share in limits.minimum_share.items():
        weights = share * every - of(names, name, "campaign")
        rows.append(_Row(f"minimum share of {name} ({share:g})", weights, 0.0))
    clock = [int(hour) for hour in np.unique(hours)]
    if isinstance(limits.hour_maximum, Mapping):
        for hour, most in limits.hour_maximum.items():
            rows.append(_Row(f"maximum of hour {hour} ({most:g})", of(hours, hour, "hour"), most))
    elif (most_an_hour := limits.hour_maximum) is not None:
        limit = f"maximum of each hour ({most_an_hour:g})"
        rows += [_Row(limit, of(hours, h, "hour"), most_an_hour, f", hour {h}") for h in clock]
    mean = every / len(clock)
    if (even := limits.evenness) is not None:
        limit = f"evenness ({even:g})"
        for h in clock:
            rows.append(_Row(limit, of(hours, h, "hour") - (1 + even) * mean, 0.0, f", most in hour {h}"))
            rows.append(_Row(limit, (1 - even) * mean - of(hours, h, "hour"), 0.0, f", least in hour {h}"))
    if (ramp := limits.ramp) is not None:
        limit = f"ramp ({ramp:g})"
        for before, after in pairwise(clock):
            rise = of(hours, after, "hour") - of(hours, before, "hour")
            place = f" from hour {before} to {after}"
            rows.append(_Row(limit, rise - ramp * mean, 0.0, f", rise{place}"))
            rows.append(_Row(limit, -rise - ramp * mean, 0.0, f", fall{place}"))
    return rows


class _Program:
    """The linear program over all pieces of all curves, each bought to a part in [0, 1]."""

    def __init__(self, curves: Sequence[ResponseCurve]) -> None:
        self.lines = len(curves)
        self.line = np.repeat(np.arange(len(curves)), [len(curve.spend) - 1 for curve in curves])
        self.cost = np.concatenate([np.diff(curve.spend) for curve in curves])
        self.worth = np.concatenate([np.diff(curve.value) for curve in curves])

    def best(self, rows: Sequence[_Row]) -> tuple[Floats, list[float]] | None:
        """Each line's spend and each row's price at the largest value; None where no plan is possible."""
        return self._solve(rows, self.worth)

    def possible(self, rows: Sequence[_Row]) -> bool:
        return self._solve(rows, np.zeros(len(self.cost))) is not None

    def cheapest(self, rows: Sequence[_Row]) -> float:
        """The least that a plan can cost."""
        found = self._solve(rows, -self.cost)
        return float(found[0].sum()) if found is not None else np.inf

    def _solve(self, rows: Sequence[_Row], gain: Floats) -> tuple[Floats, list[float]] | None:
        import cvxpy as cp  # slow to import, and only needed here

        if not len(self.cost):
            fits = all(row.bound >= 0 for row in rows)
            return (np.zeros(self.lines), [0.0] * len(rows)) if fits else None
        # The solver's tolerances are partly absolute, so all numbers are scaled to around 1.
        money = max(float(self.cost.max()), *(abs(row.bound) for row in rows))
        unit = float(np.abs(gain).max()) or 1.0
        part = cp.Variable(len(self.cost), bounds=[0, 1])
        weights = np.array([row.weights[self.line] * self.cost for row in rows])
        bounds = np.array([row.bound for row in rows])
        kept: Any = weights / money @ part <= bounds / money
        problem: Any = cp.Problem(cp.Maximize(gain / unit @ part), [kept])
        problem.solve(solver=cp.HIGHS)
        if problem.status == cp.INFEASIBLE:
            return None
        if part.value is None:
            raise RunError(f"the solver found no plan ({problem.status})")
        bought = np.asarray(part.value, np.float64)
        bought = np.where(bought < _SNAP, 0.0, np.where(bought > 1 - _SNAP, 1.0, bought))
        spend = np.bincount(self.line, self.cost * bought, self.lines).astype(np.float64)
        return spend, [float(dual) * unit / money for dual in kept.dual_value]


def _contradiction(program: _Program, rows: Sequence[_Row], lines: Sequence[PlanLine]) -> ConfigError:
    """The error for a smallest set of limits that no plan keeps.

    Each limit is left out in turn, and stays out if the rest still contradict each other.

    Source: J. W. Chinneck, Feasibility and infeasibility in optimization, Springer 2008, deletion filter.
    """

    def kept(limits: Collection[str]) -> list[_Row]:
        return [row for row in rows if row.limit in limits]

    names = list(dict.fromkeys(row.limit for row in rows))
    core = names
    for name in names:
        without = [one for one in core if one != name]
        if without and not program.possible(kept(without)):
            core = without
    if len(core) == 1:
        within = kept(core)[0].weights != 0
        most = sum(line.curve.largest_spend for line, here in zip(lines, within, strict=True) if here)
        return ConfigError(f"the {core[0]} cannot be met: only {most:g} can be spent there", hint="Lower it")
    budget, hint = rows[0].limit, "Loosen one of them"
    if budget in core:
        least = program.cheapest(kept([name for name in names if name != budget]))
        if np.isfinite(least):
            hint = f"Give a budget of at least {_rounded_up(least)}, or loosen one of the others"
    return ConfigError(f"these limits contradict each other: {', '.join(core)}", hint=hint)


def _rounded_up(amount: float) -> str:
    """The amount with six digits, rounded up."""
    text = f"{amount:.6g}"
    return text if float(text) >= amount * (1 - 1e-9) else f"{amount * (1 + 1e-5):.6g}"
