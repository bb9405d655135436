"""`POST /v1/score`, its faults, and what is asked beside it."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.online.catalog import Described, describe
from ctrkit.online.sqlite import SqliteStore
from ctrkit.online.store import FeatureRow, FeatureSet
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.logs import JsonLines
from ctrkit.serving.http.models import SingleModel
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.requests.features import OnlineFeatures
from ctrkit.serving.scoring import RequestScorer, Scores
from tests.serving.http.conftest import asked, running, service_of


def test_probabilities_are_those_of_the_model(
    client: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    some = rows.head(30)
    some = some.with_columns(some[[0] * 30].select(one.name for one in model.spec.sequences))
    body = asked(model, some)
    reply = client.post("/v1/score", json={**body, "request_id": "a"})
    assert reply.status_code == 200, reply.text
    wanted = model.predict(some)
    found = reply.json()
    assert found["request_id"] == "a"
    assert found["model"]["version"] == client.get("/v1/model").json()["models"][0]["version"]
    assert list(found["scores"]) == wanted.columns
    for task in wanted.columns:
        np.testing.assert_allclose(found["scores"][task], wanted[task].to_numpy(), atol=1e-5)
    columns = {name: [one[name] for one in body["candidates"]] for name in body["candidates"][0]}
    by_column = client.post("/v1/score", json={**body, "candidates": columns}).json()
    assert by_column["scores"] == found["scores"]


def test_requests_that_are_computed_at_once_get_their_own_scores(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    service = service_of(bundle, ServeConfig(time_limit=20, parallel=4))
    bodies = [asked(model, rows[place : place + 3]) for place in range(24)]
    with running(service) as client, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda body: client.post("/v1/score", json=body).json()["scores"], bodies))
    scorer = RequestScorer(bundle)
    for body, scores in zip(bodies, found, strict=True):
        alone = scorer.score(msgspec.convert(body, ScoreBody)).outputs
        for task, values in alone.items():
            np.testing.assert_allclose(scores[task], values, rtol=1e-6)


def test_features_by_id_come_from_a_store_which_may_fail(
    bundle: Bundle, model: ctrkit.Model, rows: pl.DataFrame, tmp_path: Path
) -> None:
    body = asked(model, rows.head(1))
    name, version = bundle.known["name"], bundle.known["features"]
    known, store = FeatureSet(name, version, "user_id"), SqliteStore(str(tmp_path / "features.db"))
    store.put_many(known, [FeatureRow("u", 0.0, body["context"])])
    describe(store, Described(known, {}))
    online = OnlineFeatures(store, bundle.encoder.spec, name, version, user="user_id")
    scorer, service = RequestScorer(bundle, online), service_of(bundle)
    service.models = SingleModel(scorer)
    with running(service) as client:
        whole = client.post("/v1/score", json=body).json()
        by_id = client.post("/v1/score", json={"candidates": body["candidates"], "user": "u"}).json()
        nobody = client.post("/v1/score", json={"candidates": body["candidates"], "user": "v"}).json()
        store.close()
        store.path.write_bytes(b"no database" * 100)
        failed = client.post("/v1/score", json={"candidates": body["candidates"], "user": "u"}).json()
        metrics = client.get("/metrics").text
    assert by_id["scores"] == whole["scores"] != nobody["scores"]
    assert (by_id["cold"], nobody["cold"], failed["cold"]) == ([], ["user_id"], [])
    assert "unread" not in nobody
    assert failed["unread"] == ["user_id"]
    assert failed["scores"] == nobody["scores"]
    assert 'ctrkit_cold_requests_total{key="user_id"} 1.0' in metrics
    assert 'ctrkit_unread_requests_total{key="user_id"} 1.0' in metrics


FAULTS: dict[str, tuple[dict[str, Any] | bytes, str | None]] = {
    "unknown field": ({"candidatez": []}, "candidatez"),
    "unknown feature": ({"candidates": [{"nonsense": 1}]}, "candidates[0].nonsense"),
    "wrong type": ({"candidates": [{"ad_price": "cheap"}]}, "candidates[0].ad_price"),
    "no object": ({"candidates": [3]}, "candidates[0]"),
    "no body": (b"", None),
    "no JSON": (b"{", None),
    "no text": (b"\xff\xfe", None),
    "NaN": (b'{"candidates": [{"ad_price": NaN}]}', None),
    "infinity": (b'{"candidates": [{"ad_price": 1e999}]}', None),
    "id beyond range": ({"candidates": [{"ad_id": 10**30}]}, "candidates[0].ad_id"),
    "list": ({"candidates": [{"ad_id": [1]}]}, "candidates[0].ad_id"),
    "no list": ({"candidates": [{}], "context": {"history_ads": 3}}, "context.history_ads"),
    "history of a candidate": ({"candidates": [{"history_ads": [3]}]}, "candidates[0].history_ads"),
    "in both": ({"candidates": [{"ad_id": 1}], "context": {"ad_id": 1}}, "context.ad_id"),
    "no candidates": ({"candidates": []}, "candidates"),
    "too many": ({"candidates": [{}] * 101}, "candidates"),
    "long history": ({"candidates": [{}], "context": {"history_ads": [1] * 99}}, "context.history_ads"),
    "in a column": ({"candidates": {"ad_price": [1.0, "cheap"]}}, "candidates[1].ad_price"),
    "context": ({"candidates": [{}], "context": {"ad_price": "cheap"}}, "context.ad_price"),
    "uneven": ({"candidates": {"ad_price": [1.0, 2.0], "ad_id": [1]}}, "candidates.ad_id"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_body_is_refused_with_the_path_of_its_field(client: httpx.Client, fault: str) -> None:
    body, path = FAULTS[fault]
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    reply = client.post("/v1/score", **given)
    assert reply.status_code == 422, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "path", "hint"}
    if path is not None:
        assert error["path"] == path, error


def test_what_is_too_large_compressed_or_elsewhere_is_refused(client: httpx.Client) -> None:
    assert client.post("/v1/score", content=b" " * 200_001).status_code == 413
    assert client.post("/v1/score", content=iter([b" " * 150_000] * 2)).status_code == 413
    compressed = client.post("/v1/score", content=b"{}", headers={"Content-Encoding": "gzip"})
    assert compressed.status_code == 415
    assert client.get("/v1/score").status_code == 405
    assert client.get("/v1/scores").json() == {"error": {"message": "Not Found", "path": None, "hint": None}}


def test_without_a_model_nothing_is_scored(bundle: Bundle) -> None:
    with running(service_of(None)) as client:
        reply = client.post("/v1/score", json={"candidates": [{}]})
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_a_fault_of_ours_shows_nothing_and_is_logged_without_its_message(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    service = service_of(bundle)

    def broken(user: str | None) -> Any:
        raise ValueError("user 17 of /etc/passwd")

    service.models.served = broken  # type: ignore[method-assign]
    with running(service) as client, caplog.at_level("INFO", "ctrkit.serving"):
        reply = client.post("/v1/score?user=17", json={"candidates": [{}], "user": "17"})
    assert reply.status_code == 500
    assert reply.json() == {"error": {"message": "the request failed", "path": None, "hint": None}}
    lines = [json.loads(JsonLines().format(one)) for one in caplog.records if one.name == "ctrkit.serving"]
    failed, request = lines[-2:]
    assert failed["error"] == "ValueError"
    assert any("test_score.py" in place for place in failed["places"])
    assert request["status"] == 500
    assert "passwd" not in json.dumps(lines)


def test_a_slow_body_is_refused_and_other_callers_are_answered(bundle: Bundle) -> None:
    with (
        running(service_of(bundle, ServeConfig(body_limit=0.2))) as client,
        socket.create_connection((client.base_url.host, client.base_url.port), timeout=5) as slow,
    ):
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert client.post("/v1/score", json={"candidates": [{}]}).status_code == 200
        assert slow.recv(1000).startswith(b"HTTP/1.1 408")


def gated(service: Service) -> threading.Event:
    """Requests of this service wait until the event is set."""
    gate, scorer = threading.Event(), service.models.served(None).scorer
    score = scorer.score

    def slow(body: ScoreBody) -> Scores:
        gate.wait()
        return score(body)

    scorer.score = slow  # type: ignore[method-assign]
    return gate


def test_more_requests_than_may_wait_are_told_to_come_again(bundle: Bundle) -> None:
    service = service_of(bundle, ServeConfig(waiting=1, time_limit=30))
    gate = gated(service)
    with running(service) as client, ThreadPoolExecutor(2) as others:
        asked = [others.submit(client.post, "/v1/score", json={"candidates": [{}]}) for _ in range(2)]
        while service.lane.inside < 2:
            time.sleep(0.001)
        refused = client.post("/v1/score", json={"candidates": [{}]})
        assert client.get("/healthz").status_code == 200
        gate.set()
        assert [one.result().status_code for one in asked] == [200, 200]
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"


def test_requests_end_before_the_server_does(bundle: Bundle) -> None:
    service = service_of(bundle, ServeConfig(time_limit=30))
    gate = gated(service)
    with ThreadPoolExecutor(1) as other:
        with running(service) as client:
            asked = other.submit(httpx.post, f"{client.base_url}/v1/score", json={"candidates": [{}]})
            while not service.lane.inside:
                time.sleep(0.001)
            threading.Timer(0.1, gate.set).start()
        assert asked.result().status_code == 200
