"""Feature servers of others, played by a local server that speaks the format of their pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ctrkit.errors import ConfigError, DataError
from ctrkit.online import FeatureRow, FeatureSet, StoreError, open_store

USERS = FeatureSet("features", "external", "user_id")
Answer = Callable[[str, dict[str, Any], Any], tuple[int, Any]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Host and port of a server; `answer` takes path, body and headers, and gives a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, said = answer(self.path, body, self.headers)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"http://127.0.0.1:{server.server_port}/elsewhere")
            self.end_headers()
            self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FEATURES = (
    ("users.clicks", {"type": "int64"}, "9007199254740993"),
    ("users.rate", {"type": "float64"}, 3),
    ("users.ads", {"type": "array", "elementType": {"type": "int64"}}, ["1", "2"]),
    ("users.city", {"type": "string"}, None),
)


def tecton(path: str, body: dict[str, Any], headers: Any) -> tuple[int, Any]:
    assert path == "/api/v1/feature-service/get-features"
    if headers["Authorization"] != "Tecton-key hunter2":
        return 401, {"error": "no such key"}
    params = body["params"]
    assert (params["workspaceName"], params["featureServiceName"]) == ("prod", "bids")
    known = params["joinKeyMap"] == {"user_id": "7"}
    described = [
        {
            "name": name,
            "dataType": kind,
            "status": "PRESENT" if known and value is not None else "MISSING_DATA",
        }
        for name, kind, value in FEATURES
    ]
    values = [value if known else None for _, _, value in FEATURES]
    return 200, {"result": {"features": values}, "metadata": {"features": described}}


def test_tecton_is_asked_as_its_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TECTON_API_KEY", "hunter2")
    with serving(tecton) as place:
        store = open_store(f"tecton+http://{place}/prod/bids")
        found = store.get_many(USERS, ["8", "7"])
        monkeypatch.setenv("TECTON_API_KEY", "wrong")
        with pytest.raises(StoreError, match="status 401"):
            open_store(f"tecton+http://{place}/prod/bids").get_many(USERS, ["7"])
    ads = [1, 2]
    row = {"users.clicks": 2**53 + 1, "users.rate": 3.0, "users.ads": ads, "users.city": None}
    assert found == [None, row]
    assert found[1] is not None
    assert isinstance(found[1]["users.rate"], float)


def test_feast_tells_what_is_absent_from_what_is_null() -> None:
    def feast(path: str, body: dict[str, Any], _: Any) -> tuple[int, Any]:
        assert path == "/get-online-features"
        assert body == {"features": ["users:a", "users:b"], "entities": {"user_id": [7, 8, 9]}}
        statuses = (["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"], ["NULL_VALUE", "NOT_FOUND", "PRESENT"])
        results = [
            {"values": [7, 8, 9], "statuses": ["PRESENT"] * 3},
            {"values": [1, None, 5], "statuses": statuses[0]},
            {"values": [None, None, 2], "statuses": statuses[1]},
        ]
        return 200, {"metadata": {"feature_names": ["user_id", "a", "b"]}, "results": results}

    with serving(feast) as place:
        store = open_store(f"feast+http://{place}/users?features=a,b&keys=int")
        found = store.get_many(USERS, ["7", "8", "9"])
        with pytest.raises(DataError, match="whole number"):
            store.get_many(USERS, ["x"])
    assert found == [{"a": 1, "b": None}, None, {"a": None, "b": 2}]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, {"detail": "broken"}, "status 500: .*broken"),
        (302, {}, "status 302"),
        (200, b"<html>", "does not answer with JSON"),
        (200, {"results": []}, "answers in another form"),
        (200, [], "answers in another form"),
    ],
)
@pytest.mark.parametrize("kind", ["feast+http://{}/users?features=a", "tecton+http://{}/prod/bids"])
def test_a_bad_answer_is_an_error_and_not_a_miss(
    kind: str, status: int, body: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TECTON_API_KEY", "hunter2")
    with serving(lambda *_: (status, body)) as place:
        store = open_store(kind.format(place))
        with pytest.raises(StoreError, match=said) as caught:
            store.get_many(USERS, ["7"])
        assert "hunter2" not in str(caught.value)
        with pytest.raises(ConfigError, match="read only"):
            store.put_many(USERS, [FeatureRow("7", 1.0, {})])
