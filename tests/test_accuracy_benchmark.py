"""The judge of `benchmarks/accuracy.py`: counts beside loops, causes and measures beside the truth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from scipy.special import logit

pytest.importorskip("lightgbm")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the folder, which is no package."""
    names = ("data_sets", "hand_made", "causes", "accuracy")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield {name: import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def market(benchmarks: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(benchmarks["data_sets"], "FRESH_ROWS", 4_000)
    return benchmarks["data_sets"].market(None, rows=3_600)


def test_counts_are_those_of_a_loop(benchmarks: dict[str, ModuleType], market: object) -> None:
    made = benchmarks["hand_made"].hand_made(market)
    counts = dict(zip(made.count_names, made.counts.T, strict=True))
    table: pl.DataFrame = market.table  # type: ignore[attr-defined]
    pairs = {
        "history_ads": "ad_id",
        "history_categories": "ad_category",
        "history_advertisers": "ad_advertiser",
    }
    assert len(counts) == 1 + 3 * 5
    for number, row in enumerate(table.head(300).iter_rows(named=True)):
        assert counts["events"][number] == pytest.approx(np.log1p(len(row["history_ads"])))
        for name, field in pairs.items():
            for decay in (0.0, 0.2, 0.7, 3.0):
                total = 0.0
                for age, event in enumerate(reversed(row[name])):
                    total += np.exp(-decay * age) if event == row[field] else 0.0
                assert counts[f"{name}, decay {decay:g}"][number] == pytest.approx(np.log1p(total))
            newest = row[name][-1:] == [row[field]]
            assert counts[f"{name}, newest"][number] == newest


def test_the_truth_has_found_all_of_each_cause(benchmarks: dict[str, ModuleType], market: object) -> None:
    judge = benchmarks["accuracy"].Judge(market, threads=1)
    truth = market.truth  # type: ignore[attr-defined]
    measures = judge.measures(truth)
    assert measures["excess"] == 0.0
    assert measures["pcoc"] == pytest.approx(1.0)
    # Probabilities are rounded to four decimals and cut off below 0.001, so a little is lost.
    assert measures["causes"] == pytest.approx(dict.fromkeys(measures["causes"], 1.0), abs=0.03)
    half = judge.measures(1 / (1 + np.exp(-logit(truth) / 2)))
    assert half["auc"] == pytest.approx(measures["auc"])
    assert half["causes"] == pytest.approx({k: v / 2 for k, v in measures["causes"].items()})


@pytest.mark.slow
def test_measures_on_the_market_are_expectations_over_clicks(
    benchmarks: dict[str, ModuleType], market: object
) -> None:
    """Beside the mean over many draws of clicks from the true probabilities."""
    from sklearn.metrics import log_loss, roc_auc_score

    truth = market.truth  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    p = np.clip(truth * np.exp(rng.normal(0, 0.5, truth.size)), 1e-4, 0.9)
    measures = benchmarks["accuracy"].Judge(market, threads=1).measures(p)
    draws = [rng.random(truth.size) < truth for _ in range(200)]
    areas, losses = ([measure(y, p) for y in draws] for measure in (roc_auc_score, log_loss))
    for name, found in (("auc", areas), ("log_loss", losses)):
        assert abs(measures[name] - np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_intervals_over_seeds_are_those_of_scipy(benchmarks: dict[str, ModuleType]) -> None:
    from scipy import stats

    values = [0.71, 0.72, 0.725]
    mean, half = benchmarks["accuracy"].interval(values)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert benchmarks["accuracy"].interval([0.7]) == (pytest.approx(0.7), None)
