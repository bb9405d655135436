"""A real server in a thread, which the tests of a module share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import uvicorn

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.app import create_app
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.lane import Lane
from ctrkit.serving.http.metrics import Metrics
from ctrkit.serving.http.models import SingleModel
from ctrkit.serving.http.security import Tokens
from ctrkit.serving.http.service import Service
from ctrkit.serving.scoring import RequestScorer


def service_of(bundle: Bundle | None, config: ServeConfig | None = None) -> Service:
    """A service as `open_service` makes it."""
    config = config or ServeConfig()
    tokens = Tokens() if config.tokens is None else Tokens.read(config.tokens)
    models = SingleModel(None if bundle is None else RequestScorer(bundle))
    lane = Lane(config.waiting, config.time_limit, config.parallel)
    return Service(config, models, lane, Metrics(config.window), tokens)


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """A server on a free port, and a client of it."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(service), port=0, log_level="warning", lifespan="on", access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server has not started"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[httpx.Client]:
    """A client of a server of the model, with small limits."""
    config = ServeConfig(max_body=200_000, max_candidates=100, time_limit=10)
    with running(service_of(bundle, config)) as client:
        yield client


@pytest.fixture(scope="session")
def rows(logs: Path) -> pl.DataFrame:
    """Rows of one user at one time, so that they are candidates of one request."""
    table = pl.read_parquet(logs / "impressions.parquet")
    return table.filter(pl.col("history_ads").list.len() > 2)


def asked(model: ctrkit.Model, rows: pl.DataFrame) -> dict[str, Any]:
    """The body of a request with these rows as candidates, and the history of the first."""
    spec = model.spec
    return {
        "candidates": rows.select(spec.static_columns).to_dicts(),
        "context": {one.name: rows[one.name][0].to_list() for one in spec.sequences},
    }
