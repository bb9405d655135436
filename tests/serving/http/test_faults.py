"""What callers notice of faults while they ask: of a worker that is killed, and of a Redis that stops."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import Bidder
from ctrkit.serving.campaigns.config import CampaignsConfig
from ctrkit.serving.http.config import ServeConfig
from tests.online.conftest import free_port, redis_on
from tests.serving.http.conftest import asked, running, service_of
from tests.serving.http.test_processes import served, workers_of

CAMPAIGN = {"name": "c", "budget": 1e3, "auctions": 10_000, "strategy": "truthful", "value_of_click": 1.0,
            "hold": 1e6}  # fmt: skip
CALLERS = 4


class Callers:
    """Callers that bid and tell wins, each on a connection of its own, until they are told to stop."""

    def __init__(self, address: str, body: dict[str, Any]) -> None:
        self.address, self.body = address, body
        self.spent, self.bids, self.statuses = 0.0, 0, Counter[tuple[str, int]]()
        self.lost = 0.0  # told, and not answered
        self.broken = 0
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(one,)) for one in range(CALLERS)]

    def __enter__(self) -> Callers:
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for one in self._threads:
            one.join()

    def wait(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.02)

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where the connection broke."""
        try:
            reply = httpx.post(self.address + path, json=body, timeout=20)
        except httpx.TransportError:
            with self._lock:
                self.broken += 1
            return None
        with self._lock:
            self.statuses[path, reply.status_code] += 1
        return dict(reply.json())

    def _work(self, caller: int) -> None:
        number = 0
        while not self._stop.is_set():
            names = {"campaign": "c", "auction_id": f"{caller}-{number}"}
            number += 1
            found = self._ask("/v1/bid", {**self.body, **names})
            if found is None or not found["bid"]:
                continue
            price = found["bid"] / 2
            receipt = self._ask("/v1/win", {**names, "price": price})
            with self._lock:
                self.bids += 1
                if receipt is None:
                    self.lost += price
                elif "spent" in receipt:
                    self.spent += price


@pytest.mark.slow
def test_a_worker_killed_under_load_loses_no_spend(
    exported: Path, rows: pl.DataFrame, tmp_path: Path
) -> None:
    body = asked(ctrkit.load(exported / "model.pt"), rows.head(3))
    config = tmp_path / "campaigns.json"
    config.write_text(json.dumps({"ledger": f"sqlite:{tmp_path / 'money.db'}", "campaigns": [CAMPAIGN]}))
    options = "--workers", "2", "--campaigns", str(config), "--set", "log_requests=false"
    with served(exported / "export", *options) as (client, server):
        with Callers(str(client.base_url).rstrip("/"), body) as callers:
            callers.wait(lambda: callers.bids > 40 and len(workers_of(server)) == 2)
            os.kill(workers_of(server)[0], signal.SIGKILL)
            before = callers.bids
            callers.wait(lambda: callers.bids > before + 40 and len(workers_of(server)) == 2)
        [state] = client.get("/v1/state").json()["campaigns"]
    # Only what was in the worker broke, and each answer was one that is promised.
    assert callers.broken <= 2 * CALLERS
    assert {status for _, status in callers.statuses} == {200}
    assert callers.spent - 1e-9 <= state["spent"] <= callers.spent + callers.lost + 1e-9


@pytest.mark.slow
def test_a_redis_that_stops_costs_bids_and_no_money(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("redis")
    monkeypatch.setattr("ctrkit.serving.campaigns.redis._REST", 0.2)
    port, service = free_port(), service_of(bundle, ServeConfig(time_limit=10, log_requests=False))
    campaigns = CampaignsConfig.model_validate({"campaigns": [CAMPAIGN]})
    service.bidder = Bidder(campaigns, open_ledger(f"redis://127.0.0.1:{port}/0"))
    body = asked(model, rows.head(3))
    with running(service) as client, Callers(str(client.base_url).rstrip("/"), body) as callers:
        with redis_on(port, tmp_path, "--appendonly", "yes", "--appendfsync", "always"):
            callers.wait(lambda: callers.bids > 30)
        asked_so_far = callers.statuses["/v1/bid", 200]
        callers.wait(lambda: callers.statuses["/v1/bid", 200] > asked_so_far + 30)
        assert client.post("/v1/score", json=body).status_code == 200
        with redis_on(port, tmp_path, "--appendonly", "yes", "--appendfsync", "always"):
            before = callers.bids
            callers.wait(lambda: callers.bids > before + 30)
            callers.__exit__()
            [state] = client.get("/v1/state").json()["campaigns"]
    assert not callers.broken
    assert {*callers.statuses} <= {("/v1/bid", 200), ("/v1/win", 200), ("/v1/win", 503)}
    # A notice that got 503 may have been counted, as only its answer may be lost.
    assert callers.spent - 1e-9 <= state["spent"]
    assert state["spent"] <= callers.bids * 0.5 + 1e-9
