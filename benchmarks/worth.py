"""What each stage from logs to bids is worth in money, on a market that is made on the fly.

    python benchmarks/worth.py [--rows 400000] [--auctions 20000] [--budget 1000] [--network mdaf]

1. A simulated market gives a log of impressions, of which 3 % are clicked, and auctions of a later day.
2. As in large ad systems, models train on every click and one in ten of the other rows. That is quick, but
   their probabilities are several times too high.
3. Calibration on rows that were not thinned mends that.
4. Every model chooses the ad of each auction and bids for it, with the same budget: first its probability
   times the value of a click, then the same paced, so that the money lasts until the end of the day.

Beside ctrkit's models stand boosted trees and a logistic regression with counts of the history made by hand
(`hand_made.py`), and the market's own probabilities, which no model can beat.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl
from data_sets import CONFIGS, DataSet
from hand_made import boosted_trees, hand_made, logistic_regression
from rich.console import Console
from rich.table import Table
from scipy.special import logit

import ctrkit
from ctrkit.arrays import Floats
from ctrkit.calibration import PlattScaling
from ctrkit.config import read_yaml
from ctrkit.data.split import Split
from ctrkit.data.synthetic import Market
from ctrkit.metrics import auc, pcoc

KEPT_NEGATIVES = 0.1
VALUE_OF_A_CLICK = 6.0


class Rows:
    """The rows of the demonstration.

    Attributes:
        training: the impressions that models train on, thinned.
        calibration: later impressions, not thinned.
        test: the last impressions, not thinned.
        offers: one row for each auction and each ad that could fill it, with the columns of impressions.
    """

    def __init__(self, rows: int, auctions: int) -> None:
        market = Market(seed=0)
        log = market.impressions(rows)
        ends = [0, round(0.75 * rows), round(0.875 * rows), rows]
        logged, self.calibration, self.test = (log[start:end] for start, end in pairwise(ends))
        self.base_rate = float(logged["click"].to_numpy().mean())
        kept = np.random.default_rng(0).random(logged.height) < KEPT_NEGATIVES
        self.training = logged.filter((pl.col("click") == 1) | pl.Series(kept))
        self.offers = offers_of(market.auction_log(auctions))


def offers_of(auctions: pl.DataFrame) -> pl.DataFrame:
    """One row for each auction and each of its candidates, with the columns of impressions."""
    lists = [name for name in auctions.columns if name.startswith(("candidate", "true_"))]
    rows = auctions.with_row_index("auction").explode(lists)
    return rows.rename(
        {"candidates": "ad_id", "true_click": "click", "true_conversion": "conversion"}
    ).rename(lambda name: name.removeprefix("candidate_"))


def networks(rows: Rows, network: str) -> Iterator[tuple[str, Floats, Floats]]:
    """Name and click probabilities, on the test rows and on the offers, of ctrkit's models.

    Each comes twice: as trained, and calibrated.
    """
    static = {"features": {"sequences": [], "profile": []}, "network": "lr"}
    for name, settings in {
        "static: lr": static,
        f"with history: {network}": {"network": network},
    }.items():
        model = ctrkit.train("sample", rows.training, **settings).trained
        yield name, _clicks(model, rows.test), _clicks(model, rows.offers)
        ctrkit.calibrate(model, rows.calibration)
        yield f"{name}, calibrated", _clicks(model, rows.test), _clicks(model, rows.offers)


def _clicks(model: ctrkit.Model, table: pl.DataFrame) -> Floats:
    return model.predict(table)["click"].to_numpy()


def rivals(rows: Rows) -> Iterator[tuple[str, Floats, Floats]]:
    """The same of models with counts by hand, trained and calibrated on the same rows."""
    config = read_yaml(CONFIGS / "sample.yaml")
    parts = [rows.training, rows.calibration, rows.test, rows.offers]
    names = [name for name in rows.offers.columns if name in rows.training.columns]
    table = pl.concat([part.select(names) for part in parts], how="vertical_relaxed")
    ends = np.cumsum([0, *(part.height for part in parts)])
    chosen = np.random.default_rng(0).random(ends[1]) < 0.1
    split = Split(np.flatnonzero(~chosen), np.flatnonzero(chosen), np.arange(ends[1], ends[4]), "random")
    data = DataSet(table, config, split)
    made = hand_made(data)
    for name, p in {
        "logistic regression, counts by hand": logistic_regression(data, made, counts=True, pairs=True),
        "LightGBM, counts by hand": boosted_trees(data, made, seed=0, threads=1, history=True),
    }.items():
        calibration, test, offers = np.split(logit(p), ends[2:4] - ends[1])
        clicks = rows.calibration["click"].cast(pl.Float64).to_numpy()
        calibrated = PlattScaling().fit(calibration, clicks, np.ones_like(clicks))
        yield name, calibrated(test), calibrated(offers)


def bought(offers: pl.DataFrame, p: Floats, budget: float) -> tuple[float, float, float]:
    """The true value of what a model buys with plain bids and with paced bids, and of the hindsight optimum.

    In each auction the model shows the ad with its highest probability.

    Args:
        offers: from `offers_of`.
        p: the model's click probability of each.
        budget: of all auctions.
    """
    chosen = (
        offers.with_columns(pctr=p)
        .sort("auction", "pctr", descending=[False, True], maintain_order=True)
        .unique("auction", keep="first", maintain_order=True)
    )
    simulation = ctrkit.simulate_bidding(
        chosen.select("timestamp", "market_price", "pctr", "click"),
        budget=budget,
        strategies=["truthful", "dual"],
        value_per_click=VALUE_OF_A_CLICK,
        compare_models=False,
    ).simulation
    worth = VALUE_OF_A_CLICK * chosen["true_click_probability"].cast(pl.Float64).to_numpy()
    won = simulation.events.filter("won")
    plain, paced = (
        float(worth[won.filter(strategy=name)["auction"].to_numpy()].sum()) for name in ("truthful", "dual")
    )
    return plain, paced, simulation.optimum.value


def main() -> None:
    parser = argparse.ArgumentParser(description="what each stage from logs to bids is worth in money")
    parser.add_argument("--rows", type=int, default=400_000, help="impressions of the log")
    parser.add_argument("--auctions", type=int, default=20_000)
    parser.add_argument("--budget", type=float, default=1000.0)
    parser.add_argument("--network", default="mdaf", help="the network that reads histories")
    arguments = parser.parse_args()
    console, progress, started = Console(width=100), Console(stderr=True), time.perf_counter()

    rows = Rows(arguments.rows, arguments.auctions)
    y, truth = (rows.test[name].cast(pl.Float64).to_numpy() for name in ("click", "true_click_probability"))
    of_offers = rows.offers["true_click_probability"].cast(pl.Float64).to_numpy()
    *_, optimum = bought(rows.offers, of_offers, arguments.budget)
    shown = Table("model", "AUC", "PCOC", "bids p × value", "paced bids", "of the optimum")
    shown.title = f"true value bought with {arguments.budget:,.0f} in {arguments.auctions:,} auctions"

    def show(name: str, p: Floats, p_of_offers: Floats) -> None:
        plain, paced, _ = bought(rows.offers, p_of_offers, arguments.budget)
        measures = (f"{auc(y, p):.3f}", f"{pcoc(y, p):.2f}", f"{plain:,.0f}", f"{paced:,.0f}")
        progress.print(f"after {time.perf_counter() - started:.0f} seconds: {name}")
        shown.add_row(name, *measures, f"{paced / optimum:.0%}")

    show("the base rate", np.full_like(y, rows.base_rate), np.full_like(of_offers, rows.base_rate))
    for found in networks(rows, arguments.network):
        show(*found)
    shown.add_section()
    for found in rivals(rows):
        show(*found)
    shown.add_section()
    show("the truth", truth, of_offers)
    console.print(shown)
    console.print(
        f"Models train on {rows.training.height:,} rows: all clicks and {KEPT_NEGATIVES:.0%} of the others."
        f" AUC and PCOC (predicted over actual clicks) are of {y.size:,} later rows that were not thinned."
        f" A click is worth {VALUE_OF_A_CLICK:g}. The optimum, {optimum:,.0f}, knows all prices and all true"
        f" probabilities. This took {time.perf_counter() - started:.0f} seconds."
    )


if __name__ == "__main__":
    main()
