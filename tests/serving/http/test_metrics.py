"""What is counted, of one process and of several."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.metrics import SHARED, Metrics, _observe
from ctrkit.serving.http.window import Window
from tests.serving.http.conftest import asked, running, service_of


def numbers(text: str) -> dict[tuple[str, ...], float]:
    """Name and labels, in the order of their names -> number."""
    return {
        (sample.name, *(sample.labels[one] for one in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_scores_and_drift_are_counted(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    service, body = service_of(bundle), asked(model, rows.head(8))
    version = bundle.known["version"]
    for candidate in body["candidates"][:2]:
        candidate.pop("ad_price")
    body["candidates"][0]["device"] = "toaster"
    with running(service) as client:
        scores = client.post("/v1/score", json=body).json()["scores"]
        assert client.post("/v1/score", json={}).status_code == 422
        client.get("/nowhere")
        service.metrics.outcome(version, "click", predicted=0.3, observed=1.0)
        service.metrics.outcome(version, "click", predicted=0.2, observed=0.0)
        found = numbers(client.get("/metrics").text)
    assert found["ctrkit_requests_total", "/v1/score", "200"] == 1
    assert found["ctrkit_requests_total", "/v1/score", "422"] == 1
    assert found["ctrkit_requests_total", "none", "404"] == 1
    assert found["ctrkit_request_seconds_count", "/v1/score"] == 2
    assert found["ctrkit_stage_seconds_count", "score"] == 1
    assert found["ctrkit_rows_total", "features", version] == 8
    assert found["ctrkit_model", "features", version] == 1
    assert found["ctrkit_probability_count", "click"] == 8
    assert found["ctrkit_probability_sum", "click"] == pytest.approx(sum(scores["click"]))
    assert found["ctrkit_missing_rows_total", "ad_price"] == 2
    assert found["ctrkit_unknown_rows_total", "device"] == 1
    usual = bundle.encoder.usual_missing.get("ad_price", 0.0)
    assert found["ctrkit_drift", "ad_price", "missing", version] == pytest.approx(2 / 8 - usual)
    assert found["ctrkit_drift", "device", "unknown", version] > 0
    prices = bundle.encoder.encode(rows.head(8)[2:], labels=False).numeric
    place = [one.name for one in bundle.encoder.spec.numeric].index("ad_price")
    assert found["ctrkit_drift", "ad_price", "mean", version] == pytest.approx(
        prices[:, place].mean(), abs=1e-6
    )
    assert found["ctrkit_pcoc", "click", version] == pytest.approx(0.5)


def test_many_values_are_counted_as_one_by_one() -> None:
    values = np.random.default_rng(0).beta(1, 20, size=500)
    values[:3] = 0.01, 1.0, 0.0  # on a bound, and at the ends
    found = []
    for observe in (_observe, lambda histogram, all: [histogram.observe(one) for one in all]):
        registry = CollectorRegistry()
        histogram = Histogram("p", "-", ("task",), buckets=(0.01, 0.1, 1.0), registry=registry)
        observe(histogram.labels("click"), values)
        found.append({s.name + str(s.labels): s.value for m in registry.collect() for s in m.samples})
    for name, value in found[1].items():
        assert "created" in name or math.isclose(found[0][name], value), name


def test_a_window_forgets() -> None:
    now = 0.0
    window = Window[str](60, clock=lambda: now)
    window.add({"a": 1.0})
    now = 30.5
    window.add({"a": 2.0, "b": 0.5})
    assert window.sums() == {"a": 3.0, "b": 0.5}
    now = 60.5
    assert window.sums() == {"a": 2.0, "b": 0.5}
    now = 1000
    assert window.sums() == {}


WORKER = """
import json, os, sys
from ctrkit.serving.http.metrics import Metrics
metrics = Metrics(60)
metrics.answered("/v1/score", 200, 0.01)
metrics.outcome("1", "click", float(sys.argv[1]), 1.0)
metrics.refresh()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_numbers_of_workers_are_summed_and_those_of_dead_ones_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, SHARED: str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, predicted],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for predicted in ("0.2", "0.4")
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    monkeypatch.setenv(SHARED, str(tmp_path))
    read = Metrics(60)  # of this process, which shares nothing: its own values are in memory
    found = numbers(read.text().decode())
    assert found["ctrkit_requests_total", "/v1/score", "200"] == 2
    assert found["ctrkit_pcoc", "click", "1"] == pytest.approx(0.3)
    workers[0].kill()
    for worker in workers[:1]:
        worker.communicate()
    found = numbers(read.text().decode())
    assert found["ctrkit_requests_total", "/v1/score", "200"] == 2
    assert found["ctrkit_pcoc", "click", "1"] == pytest.approx(0.4)
    workers[1].communicate("\n")
