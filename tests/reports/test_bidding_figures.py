"""What the figures of a bidding simulation say, where their marks stand, and that odd runs are drawn too."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import polars as pl
import pytest

from ctrkit.bidding.simulation.regret import PARTS, RegretSplit
from ctrkit.bidding.simulation.repeats import Repeats, over_seeds
from ctrkit.bidding.simulation.sweep import OPTIMUM, BudgetRun, sweep_table
from ctrkit.reports import Figure
from ctrkit.reports.bidding_figures import (
    exploration_figure,
    kpi_figure,
    landscape_figure,
    multiplier_paths,
    regret_figure,
    spend_curves,
    value_by_budget_figure,
    win_rate_figure,
)
from ctrkit.reports.figures import COLOURS

INK = "#1c2430"

# As many as there are, and one whose text is longer than a label.
MANY = (*(f"strategy-{k}" for k in range(22)), "thompson:value_per_click=1.0,draws=12,exploration=0.25")
NAMES = {"one": ("dual",), "odd": ("a<b> & \"c'", "$p$ids$", "汉字"), "many": MANY}


SVG = "{http://www.w3.org/2000/svg}"


def words(figure: Figure) -> list[str]:
    """All that is written in the picture, which has to be well formed."""
    root = ET.fromstring(figure.svg)
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]


def label(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:29]}…"


def path(figure: Figure, colour: str) -> str:
    """The longest line of a colour, as SVG writes it: M moves there, and L draws."""
    paths = [
        one.get("d") or ""
        for one in ET.fromstring(figure.svg).iter(f"{SVG}path")
        if f"stroke: {colour.lower()}" in (one.get("style") or "") and one.get("clip-path")
    ]
    return max(paths, key=len)


def line(figure: Figure, colour: str) -> np.ndarray:
    """Its points [m, 2], as the page has them: y grows downwards."""
    numbers = re.findall(r"-?\d+\.?\d*", path(figure, colour))
    return np.array([float(number) for number in numbers]).reshape(-1, 2)


def events(
    names: Sequence[str], n: int = 600, seconds: float = 2 * 86_400, explore: bool = True
) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    price = np.round(rng.lognormal(3, 1, n) * 4) / 4
    frames = []
    for index, name in enumerate(names):
        bid = rng.lognormal(3, 0.7, n) if index % 3 else np.full(n, 20.0)
        explored = rng.random(n) < 0.2 if explore else [None] * n
        frames.append(
            pl.DataFrame(
                {
                    "strategy": [name] * n,
                    "auction": np.arange(n, dtype=np.uint32),
                    "timestamp": 1.7e9 + np.arange(n) * seconds / n,
                    "market_price": price,
                    "bid": bid,
                    "won": bid >= price,
                    "spend": np.where(bid >= price, price, 0.0),
                    "explored": pl.Series(explored, dtype=pl.Boolean),
                }
            )
        )
    return pl.concat(frames)


def repeats(names: Sequence[str], seeds: int = 8) -> Repeats:
    """Each is worth 10 less than the one before it, but the second, which is worth as much as the first."""
    rng = np.random.default_rng(1)
    return over_seeds(
        [
            {
                name: {"value": 1000.0 + luck - 10 * (k if k > 1 else 0) + rng.normal(), "clicks": None}
                for k, name in enumerate(names)
            }
            for luck in rng.normal(0, 30, seeds)
        ]
    )


def sweep(names: Sequence[str], budgets: Sequence[float] = (100.0, 300.0, 4000.0)) -> pl.DataFrame:
    return sweep_table(
        [
            BudgetRun(budget, {name: {"value": 0.9 * budget**0.5} for name in names}, budget**0.5)
            for budget in budgets
        ]
    )


def splits(names: Sequence[str]) -> dict[str, RegretSplit]:
    return {name: RegretSplit(*np.arange(1.0, 8.0) * (1 + k)) for k, name in enumerate(names)}


FIGURES: dict[str, Callable[[Sequence[str]], Figure]] = {
    "spend": lambda names: spend_curves({name: np.linspace(1, 10, 20) for name in names}, 10.0),
    "multiplier": lambda names: multiplier_paths({name: np.linspace(1, 2, 20) for name in names}, 1.5),
    "win_rate": lambda names: win_rate_figure(events(names)),
    "landscape": lambda names: landscape_figure(events(names)),
    "exploration": lambda names: exploration_figure(events(names)),
    "value_by_budget": lambda names: value_by_budget_figure(sweep(names)),
    "regret": lambda names: regret_figure(splits(names), 1000.0),
    "kpis": lambda names: kpi_figure(repeats(names), ("value",)),
}


@cache
def of(figure: str, kind: str) -> Figure:
    return FIGURES[figure](NAMES[kind])


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("kind", NAMES)
def test_every_strategy_is_named_once_and_as_it_is(figure: str, kind: str) -> None:
    drawn = of(figure, kind)
    assert drawn.name == figure
    written = words(drawn)
    for name in NAMES[kind]:
        assert written.count(label(name)) == 1


@pytest.mark.parametrize("figure", FIGURES)
def test_the_same_numbers_give_the_same_bytes(figure: str) -> None:
    assert FIGURES[figure](NAMES["odd"]).svg == of(figure, "odd").svg


@pytest.mark.parametrize("figure", FIGURES)
def test_no_two_labels_of_many_strategies_touch(figure: str) -> None:
    """Legends and rows are as far apart as their letters are high."""
    svg = of(figure, "many").svg
    places = [
        float(match.group(1))
        for match in re.finditer(r'translate\([\d.]+ ([\d.]+)\)">(?:strategy|thompson)', svg)
    ] or [
        float(found.group(1))
        for found in re.finditer(r'<text[^>]* y="([\d.]+)"[^>]*>(?:strategy|thompson)', svg)
    ]
    assert len(places) == len(MANY)
    assert np.diff(sorted(places)).min() > 10


@pytest.mark.parametrize(
    ("plan", "share", "says"),
    [(None, [0, 1], "even line"), ([3.0, 1.0, 0.0, 0.0], [0, 0.75, 1, 1, 1], "plan")],
)
def test_spend_against_what_was_planned(plan: list[float] | None, share: list[float], says: str) -> None:
    spent = np.array([1.0, 4.0])
    figure = spend_curves({"dual": spent}, 8.0, None if plan is None else np.array(plan))
    assert figure.caption == f"Spend compared with the {says}; no strategy exceeds the budget."
    assert ("plan" if plan else "even pacing") in words(figure)
    planned, curve = line(figure, INK), line(figure, COLOURS[0])
    left, bottom = curve[0]
    width, high = curve[-1] - curve[0]
    # In shares of the auctions and units of money.
    np.testing.assert_allclose(
        (curve - [left, bottom]) / [width, high / 4], [[0, 0], [0.5, 1], [1, 4]], atol=1e-4
    )
    places = np.linspace(0, 1, len(share))
    found = (planned - [left, bottom]) / [width, high / 4]
    np.testing.assert_allclose(found, np.stack([places, 8.0 * np.array(share)], axis=1), atol=1e-4)


@pytest.mark.parametrize(
    ("path", "optimum"),
    [
        (np.full(1, 0.3), 0.31),
        (np.zeros(5), None),
        (np.zeros(5), 0.3),
        (np.r_[0.0, 1.0], None),
        (np.linspace(0.0115, 0.0118, 9), None),
        (np.geomspace(1e-6, 1e6, 9), 0.3),
    ],
)
def test_odd_multipliers(path: np.ndarray, optimum: float | None) -> None:
    written = words(multiplier_paths({"dual": path, "truthful": np.empty(0)}, optimum))
    assert ("dual" in written, "truthful" in written) == (True, False)
    assert (OPTIMUM in written) == (optimum is not None)


def test_no_strategy_paces() -> None:
    assert words(multiplier_paths({"truthful": np.empty(0)}, 0.3)) == ["No strategy paces"]


@pytest.mark.parametrize("seconds", [7300.0, 2 * 86_400.0])
def test_win_rate_by_hour(seconds: float) -> None:
    figure = win_rate_figure(events(["dual"], seconds=seconds))
    assert figure.caption == "Share of auctions won by hour of the day."
    assert "hour of the day, UTC" in words(figure)


def test_the_win_rate_is_that_of_its_hour() -> None:
    # All is won from 10:00 to 11:00, and nothing else: a peak at the tenth of the 24 points.
    hours = pl.DataFrame({"timestamp": 86_400.0 * 3 + 1800.0 * np.arange(48), "auction": np.arange(48)})
    won = hours.with_columns(strategy=pl.lit("dual"), won=pl.col("timestamp").mod(86_400) // 3600 == 10)
    heights = line(win_rate_figure(won), COLOURS[0])[:, 1]
    assert len(heights) == 24
    assert int(heights.argmin()) == 10
    assert len(np.unique(heights)) == 2


@pytest.mark.parametrize("table", [events(["dual"]).drop("timestamp"), events(["dual"], seconds=7100)])
def test_win_rate_where_no_hours_are_told(table: pl.DataFrame) -> None:
    figure = win_rate_figure(table)
    assert figure.caption == "Share of auctions won by part of the stream, 24 in all."
    assert "share of auctions" in words(figure)


def test_hours_without_auctions_are_no_line() -> None:
    first, last = events(["dual"], n=60, seconds=3600), events(["dual"], n=60, seconds=3600)
    apart = pl.concat([first, last.with_columns(pl.col("timestamp") + 6 * 3600.0)])
    # From 22:13 to 23:13, and from 4:13 to 5:13.
    assert re.findall("[ML]", path(win_rate_figure(apart), COLOURS[0])) == ["M", "L", "M", "L"]


def test_landscape() -> None:
    figure = landscape_figure(events(["dual"]))
    assert figure.caption == "Market prices with bids above 0, and with prices paid."
    assert {"bids", "prices paid", "market price", "dual"} <= set(words(figure))


PRICES = {
    "a quarter free": pl.when(pl.col("auction") % 4 == 0).then(0.0).otherwise("market_price"),
    "one price": pl.lit(20.0),
    "free but for a floor": pl.lit(0.0),
    "tiny": 1e-9 * pl.col("market_price"),
}


@pytest.mark.parametrize("prices", PRICES)
def test_odd_landscapes(prices: str) -> None:
    table = events(["dual", "pid"]).with_columns(market_price=PRICES[prices])
    figure = landscape_figure(table)
    assert {"bids", "pid"} <= set(words(figure))
    share = {"a quarter free": "25.0%", "free but for a floor": "100.0%"}.get(prices)
    assert ("not drawn" in figure.caption) == (share is not None)
    assert (share or "") in figure.caption


def test_nothing_is_won_or_bid() -> None:
    lost = events(["dual"]).with_columns(won=pl.lit(False), bid=pl.lit(0.0), spend=pl.lit(0.0))
    assert "dual" in words(landscape_figure(lost))
    assert "dual" in words(win_rate_figure(lost))
    assert words(exploration_figure(lost)) == ["No strategy that explores won an auction"]


def test_all_prices_are_0() -> None:
    free = events(["dual"]).with_columns(market_price=pl.lit(0.0), spend=pl.lit(0.0))
    assert words(landscape_figure(free)) == ["All prices are 0"]
    assert exploration_figure(free).caption.endswith("of the highest estimate.")


def test_exploration_s_share_of_the_money() -> None:
    table = pl.concat([events(["thompson"]), events(["dual"], explore=False)])
    figure = exploration_figure(table)
    won = table.filter(pl.col("won"), strategy="thompson")
    share = won.filter("explored")["spend"].sum() / won["spend"].sum()
    assert figure.caption == (
        "Share of wins with another ad than the one of the highest estimate. Share of the spend: "
        f"thompson {share:.1%}."
    )
    assert "dual" not in words(figure)


def test_no_strategy_explores() -> None:
    assert words(exploration_figure(events(["dual"], explore=False))) == [
        "No strategy that explores won an auction"
    ]


@pytest.mark.parametrize("budgets", [(100.0, 300.0, 4000.0), (1000.0, 2000.0), (0.5, 2e4, 1e7)])
def test_value_by_budget(budgets: Sequence[float]) -> None:
    figure = value_by_budget_figure(sweep(["dual"], budgets))
    assert figure.caption == "Value by budget (left), and its slope between budgets (right)."
    assert {"dual", OPTIMUM, "value bought", "value of one more unit of money"} <= set(words(figure))


def test_one_budget_is_no_curve() -> None:
    assert words(value_by_budget_figure(sweep(["dual"], [100.0]))) == ["A curve needs two budgets"]


def test_regret_by_cause() -> None:
    figure = regret_figure({"dual": RegretSplit(overbidding=20.0, unspent=5.0), "pid": RegretSplit()}, 200.0)
    written = words(figure)
    assert {"12.5%", "0.0%", "overbidding", "unspent"} <= set(written)
    assert not set(PARTS) - {"overbidding", "unspent"} & set(written)
    assert figure.caption == "Value lost against the hindsight optimum, by cause."


def test_money_that_the_optimum_keeps_for_other_episodes() -> None:
    written = words(regret_figure({"dual": RegretSplit(overbidding=20.0, unspent=-5.0)}, 100.0))
    assert {"15.0%", "-5%"} <= set(written)


def test_no_regret() -> None:
    assert "0.0%" in words(regret_figure({"dual": RegretSplit()}, 200.0))


def test_kpis_over_seeds() -> None:
    found = repeats(["dual", "pid", "rlb"])
    figure = kpi_figure(found, ("value", "clicks", "unheard_of"))
    assert figure.caption == (
        "KPIs with 95% intervals over 8 simulated markets. Hollow marks: no significant difference from "
        "dual, seed by seed."
    )
    # Clicks are known of none.
    assert {"value", "dual", "pid", "rlb"} <= set(words(figure))
    assert "clicks" not in words(figure)
    # The second is as good as the first, and the third is not, though all intervals overlap.
    means = [found.means[name]["value"] for name in ("dual", "rlb")]
    assert (means[0].low or 0) < (means[1].high or 0)
    marks = re.findall(r'<use [^>]*style="fill: (#\w+); stroke: (#\w+)', figure.svg)
    hollow = [fill == "#ffffff" for fill, stroke in marks if stroke not in ("#000000", "#262626")]
    assert hollow == [False, True, False]


def test_odd_kpis() -> None:
    alone = kpi_figure(repeats(["dual"]), ("value",))
    assert alone.caption == "KPIs with 95% intervals over 8 simulated markets."
    assert words(kpi_figure(repeats(["dual"]), ("clicks",))) == ["No strategy has any of these KPIs"]
    runs = [
        {"dual": {"value": 1.0, "cpa": 3.0 if seed else None}, "pid": {"value": 1.0, "cpa": None}}
        for seed in range(2)
    ]
    resampled = kpi_figure(over_seeds(runs, kind="resamples"), ("value", "cpa"))
    assert "over 2 resamples of one log." in resampled.caption
    assert {"value", "cpa"} <= set(words(resampled))
