"""What holds of the result of every function: numbers are numbers, and it shows well without a figure."""

from __future__ import annotations

import html
import importlib
import json
import pkgutil
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

import ctrkit
import ctrkit.api
from ctrkit.api.export_model import ExportResult
from ctrkit.api.import_model import ImportResult
from ctrkit.api.join_feedback import COUNTS, JoinFeedbackResult
from ctrkit.api.list_models import ModelSize, ModelTable
from ctrkit.api.registered import RegistryResult
from ctrkit.api.results import Result
from ctrkit.api.sample_logs import SampleLogs
from ctrkit.api.serve import ServeResult
from ctrkit.reports.cells import text
from ctrkit.serving.parity import Parity
from ctrkit.serving.registry.state import State

# Numbers that were written down: with an interval, a percentage, with a point or commas.
WRITTEN = re.compile(r"–|[-+]?[\d,.]+(e[-+]?\d+)?%? \[.*|[-+]?[\d,.]+%|[-+]?\d+\.\d+|\d{1,3}(,\d{3})+")
MARKET = {"market": "auctions=800,ads=3,dimensions=3,click_rate=0.1", "budget": 3.0}


def kinds(base: type[Result] = Result) -> set[type[Result]]:
    """All classes of results in ctrkit."""
    for module in pkgutil.walk_packages(ctrkit.api.__path__, "ctrkit.api."):
        importlib.import_module(module.name)
    below = {one for one in base.__subclasses__() if one.__module__.startswith("ctrkit.")}
    return below.union(*(kinds(one) for one in below))


def new_rows(logs: Path) -> pl.DataFrame:
    """Rows like those of training, of other users."""
    table = pl.read_parquet(logs / "impressions.parquet").tail(3000)
    return table.with_columns(user_id=pl.lit("new ") + pl.col("user_id").cast(pl.String))


def candidates() -> pl.DataFrame:
    """Requests of five candidates, with clicks and two scores."""
    rng = np.random.default_rng(0)
    clicks, old, new = rng.random((3, 1000))
    columns = {"request_id": np.repeat(np.arange(200), 5), "click": (clicks < new / 2).astype(int)}
    return pl.DataFrame({**columns, "old": old, "new": new})


def bids() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    bid = rng.uniform(0, 2, 600)
    reward = (rng.random(600) < 0.3).astype(float)
    return pl.DataFrame({"bid": bid, "density": 0.5, "reward": reward, "target_bid": bid * 0.9})


@pytest.fixture(scope="module")
def results(trained: Path, logs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """A small result of every kind, and of those that show more or less by what was asked."""
    home = tmp_path_factory.mktemp("results")
    model = shutil.copy(trained, home / "model.pt")
    few = ["model={name: fm, embedding: 2}", "training.epochs=1"]
    quick = ["rows=200", "attributed_rows=5", "repeats=2", "top=0", "map=none"]
    bid = ["strategies=[dual,linear]", "compare_models=false"]
    learnt = ["learning.epochs=1", "model={name: fm, embedding: 2}"]
    curves = pl.DataFrame({"campaign": ["a", "b"], "spend": [3.0, 4.0], "value": [1.0, 2.0]})
    bandit, store = logs / "bandit.parquet", f"sqlite:{home / 'features.db'}"
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of too few rows
        patch.setattr(Result, "figures", lambda self: {})
        for kind in kinds():
            patch.setattr(kind, "figures", lambda self: {})
        found: dict[str, Result] = {
            "prepare": ctrkit.prepare(data=logs / "impressions.parquet", out=home / "d"),
            "train": ctrkit.train(
                data=logs / "impressions.parquet", model=home / "m.pt", out=home / "train", overrides=few
            ),
            "calibrate": ctrkit.calibrate(model, out=home / "c", overrides=["method=platt"]),
            "recalibrate": ctrkit.recalibrate(model, new_rows(logs), out=home / "r"),
            "interleave": ctrkit.interleave(candidates(), a="old", b="new", out=home / "il", draws=20),
            "monitor": ctrkit.monitor(model=model, by="day"),
            "evaluate": ctrkit.evaluate(model, out=home / "e", overrides=["draws=50"]),
            "compare": ctrkit.evaluate(
                model, against=home / "m.pt", out=home / "e2", overrides=["draws=50", "gates.auc.minimum=0.1"]
            ),
            "predict": ctrkit.predict(model, logs / "impressions.parquet"),
            "explain": ctrkit.explain(model, out=home / "x", overrides=quick),
            "rows": ctrkit.explain(model, logs / "impressions.parquet", rows=[3], out=home / "y"),
            "ope": ctrkit.evaluate_policy(
                bandit, "uniform", out=home / "o", overrides=["segments=[device]", "estimators=[ips,snips]"]
            ),
            "policies": ctrkit.evaluate_policy(
                bandit, ["uniform", "logging"], out=home / "o2", overrides=["estimators=[ips]"]
            ),
            "bids": ctrkit.evaluate_policy(bids(), out=home / "b", overrides=["bid_range=[0,2]"]),
            "check": ctrkit.check_log(bandit, out=home / "k"),
            "learn": ctrkit.learn_policy(bandit, model=home / "p.pt", out=home / "l", overrides=learnt),
            "plan": ctrkit.plan_budget(5.0, curves=curves, out=home / "pl"),
            "simulate": ctrkit.simulate_bidding(out=home / "s", overrides=bid, **MARKET),
            "seeds": ctrkit.simulate_bidding(out=home / "s3", overrides=[*bid, "seeds=3"], **MARKET),
            "sweep": ctrkit.simulate_bidding(out=home / "s2", overrides=bid, **{**MARKET, "budget": "1:4:3"}),
            "models": ModelTable(
                "the features", (ModelSize("fm", "sums", 10, 20, 1234), ModelSize("x", "y"))
            ),
            "samples": SampleLogs((bandit,)),
            "sources": ctrkit.list_sources(),
            "inspection": ctrkit.inspect(logs / "impressions.parquet"),
            "push": ctrkit.push_features(bandit, store=store, key="event_id", columns=["device"]),
            "get": ctrkit.get_features(["nobody"], store=store, key="event_id"),
            "export": ExportResult(
                "model.pt", "onnx", "export", ("rows.onnx",), {"random": Parity(512, 1e-7, 0)}
            ),
            "feedback": JoinFeedbackResult("journal", "log.parquet", 3, dict.fromkeys(COUNTS, 1)),
            "registry": RegistryResult("registry", State(), "Nothing was done."),
            "serve": ServeResult("export", "http://127.0.0.1:8000", 12.5),
            "import": ImportResult(
                None, "m.onnx", {"price": "number"}, {"click": "output 'p'"}, ctrkit.load(model).artifact
            ),
        }
        found["summary"] = ctrkit.summary(home)
    return found


NAMES = (
    "prepare", "train", "calibrate", "recalibrate", "evaluate", "compare", "predict", "explain", "rows",
    "ope", "policies", "bids", "check", "learn", "plan", "simulate", "seeds", "sweep", "models", "samples",
    "interleave", "monitor", "sources", "inspection", "push", "get", "export", "serve",
    "import", "feedback", "registry", "summary",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing here may draw."""

    def drawn(*_: object, **__: object) -> None:
        raise AssertionError("a figure was drawn")

    with monkeypatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", drawn)
        yield


def test_every_kind_of_result_is_held_to_this(results: dict[str, Result]) -> None:
    assert {type(one) for one in results.values()} == kinds()
    assert set(results) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_tables_hold_numbers_and_not_their_text(results: dict[str, Result], name: str) -> None:
    result = results[name]
    for table in result.tables:
        assert all(len(row) == len(table.header) for row in table.rows)
        written = [
            one for row in table.rows for one in row if isinstance(one, str) and WRITTEN.fullmatch(one)
        ]
        assert written == [], table.title
    frame = result.to_pandas()
    assert frame.columns.is_unique
    numbers = frame.select_dtypes("number")
    assert numbers.shape[1] > (0 if name not in ("check", "summary") else -1)
    for column in frame.columns.difference(numbers.columns):
        words = frame[column].dropna()
        if name != "summary":  # whose values are of many kinds
            assert words.map(lambda one: isinstance(one, str)).all(), column
    low = [name for name in frame.columns if name.endswith("_low")]
    for end in low:
        rows = frame[[end, end.removesuffix("_low"), end.removesuffix("low") + "high"]].dropna()
        assert rows.apply(pd.to_numeric).notna().all(axis=None)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_shown_as_one_line_and_in_a_notebook(results: dict[str, Result], name: str) -> None:
    result = results[name]
    line = repr(result)
    assert "\n" not in line
    assert len(line) < 200
    assert line.startswith(f"<{type(result).__name__}: ")
    page = result._repr_html_()
    report = result.report()
    for piece in (report.title, *report.answer.splitlines(), *report.notes):
        assert html.escape(piece) in page
    assert page.count("<table>") == len(report.tables)
    assert json.loads(result.to_json()) is not None


def test_intervals_and_counts_have_columns_of_their_own(results: dict[str, Result]) -> None:
    frame = results["evaluate"].to_pandas().set_index("metric")
    auc = frame.loc["auc"]
    assert auc["click_low"] < auc["click"] < auc["click_high"]
    assert frame.loc["rows", "click"] > 100
    trained = results["train"].to_pandas()
    assert trained["rows"].dtype == trained["positives"].dtype == "int64"
    shares = results["plan"].tables[0].to_pandas()["share"]
    assert shares.sum() == pytest.approx(1)
    assert results["seeds"].tables[1].title.startswith("Over 3 markets")
    assert {"value", "value_low", "value_high"} <= set(results["seeds"].tables[1].to_pandas().columns)


def test_the_same_number_looks_the_same_in_every_report(results: dict[str, Result]) -> None:
    """PCOC of the calibration, where it was measured and in the summary."""
    told = {row[0]: row[2] for row in results["calibrate"].tables[0].rows}
    seen = {row[0]: row[1] for row in results["summary"].tables[0].rows}
    assert text(told["pcoc"]) == text(seen["PCOC of click"])
    assert "[" in text(told["pcoc"])
