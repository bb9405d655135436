"""`ctrkit serve` as processes: what they load, how they end, and what happens when one is killed."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from typer.testing import CliRunner

import ctrkit
from ctrkit.cli import app
from ctrkit.errors import ArtifactError, ConfigError, RunError
from ctrkit.serving.http.server import Port
from tests.serving.exports import line_export
from tests.serving.http.conftest import asked

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def folder(exported: Path) -> Path:
    """Folder of an exported model."""
    return exported / "export"


@pytest.fixture(scope="module")
def body(exported: Path, rows: pl.DataFrame) -> dict[str, Any]:
    """A request with five candidates."""
    return asked(ctrkit.load(exported / "model.pt"), rows.head(5))


@contextmanager
def served(
    folder: Path, *options: str, scheme: str = "http"
) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """A command that serves on a free port, and a client of it; it is told to stop in the end."""
    command = [str(Path(sys.executable).with_name("ctrkit")), "serve", str(folder), "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stderr is not None
    address = None
    while address is None:
        line = server.stderr.readline()
        assert line, "the server has ended"
        address = json.loads(line).get("address")
    trust = ssl.create_default_context(cafile=options[1]) if scheme == "https" else True
    try:
        with httpx.Client(base_url=address, timeout=20, verify=trust) as client:
            _until(lambda: client.get("/readyz").status_code == 200)
            yield client, server
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


def workers_of(server: subprocess.Popen[str]) -> list[int]:
    """The processes that answer: all children but that which looks after shared memory."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.slow
def test_a_served_model_answers_without_torch_and_ends_when_told(folder: Path, body: dict[str, Any]) -> None:
    with served(folder, "--json") as (client, server):
        assert len(client.post("/v1/score", json=body).json()["scores"]["click"]) == 5
        assert client.get("/v1/model").json()["models"][0]["parity"]["random"]["rows"] == 512
        assert "libtorch" not in Path(f"/proc/{server.pid}/maps").read_text()
        server.send_signal(signal.SIGTERM)
        out, log = server.communicate(timeout=30)
        assert server.returncode == 0
        assert json.loads(out)["address"] == str(client.base_url).rstrip("/")
    lines = [json.loads(line) for line in log.splitlines()]
    requests = [one for one in lines if one["event"] == "request"]
    assert {"route": "/v1/score", "status": 200}.items() <= requests[-2].items()
    assert {*requests[-1]} == {"time", "level", "event", "route", "status", "milliseconds"}


@pytest.mark.slow
def test_a_killed_worker_is_replaced(folder: Path, body: dict[str, Any]) -> None:
    with served(folder, "--workers", "2", "--quiet") as (client, server):
        _until(lambda: len(workers_of(server)) == 2)
        first = workers_of(server)
        wanted = client.post("/v1/score", json=body).json()["scores"]
        os.kill(first[0], signal.SIGKILL)
        answered = 0
        while answered < 50:
            try:
                reply = httpx.post(f"{client.base_url}/v1/score", json=body, timeout=20)
            except httpx.TransportError:  # it was in the killed worker
                continue
            assert reply.status_code == 200, reply.text
            assert reply.json()["scores"] == wanted
            answered += 1
        _until(lambda: len(workers_of(server)) == 2 and first[0] not in workers_of(server))
        metrics = client.get("/metrics").text
        counted = re.search(r'ctrkit_requests_total\{route="/v1/score",status="200"\} (\d+)', metrics)
        assert counted is not None
        assert int(counted[1]) >= 50


@pytest.mark.slow
def test_workers_swap_a_version_and_their_successors_begin_with_it(tmp_path: Path) -> None:
    home = tmp_path / "registry"
    versions = [line_export(tmp_path / name, float(place)) for place, name in enumerate("ab")]
    for name in "ab":
        ctrkit.push_model(tmp_path / name, registry=home)
    ctrkit.promote_model(versions[0], registry=home)
    with served(home, "--workers", "2", "--set", "watch=0.1", "--quiet") as (client, server):

        def seen(times: int = 30) -> set[str]:
            """The versions of new connections, which go to any worker."""
            found = set()
            for _ in range(times):
                reply = httpx.post(f"{client.base_url}/v1/score", json={"candidates": [{"price": 0}]})
                assert reply.status_code == 200, reply.text
                found.add(reply.json()["model"]["version"])
            return found

        assert seen() == {versions[0]}
        ctrkit.promote_model(versions[1], registry=home)
        _until(lambda: seen() == {versions[1]})
        first = workers_of(server)
        os.kill(first[0], signal.SIGKILL)
        _until(lambda: len(workers_of(server)) == 2 and first[0] not in workers_of(server))
        _until(lambda: client.get("/readyz").status_code == 200)
        assert seen() == {versions[1]}


@pytest.mark.slow
def test_tls_by_file(folder: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ("--certificate", str(certificate), "--key", str(key))
    with served(folder, *options, scheme="https") as (client, _):
        assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux deals connections out")
def test_connections_are_dealt_out_among_workers() -> None:
    with Port.at(socket.AF_INET, ("127.0.0.1", 0)) as kept:
        workers = [pickle.loads(pickle.dumps(kept)) for _ in range(2)]
        for one in workers:
            one.listen()
            one.setblocking(False)
        clients = [socket.create_connection(kept.getsockname()) for _ in range(64)]
        counts = []
        for one in workers:
            counts.append(0)
            with suppress(BlockingIOError):
                while True:
                    one.accept()[0].close()
                    counts[-1] += 1
            one.close()
        for client in clients:
            client.close()
    assert sum(counts) == 64
    assert min(counts) > 10


def test_what_cannot_be_served_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="no such model file"):
        ctrkit.serve(tmp_path / "absent")
    with pytest.raises(ArtifactError, match="no exported model"):
        ctrkit.serve(tmp_path)
    with pytest.raises(ConfigError, match="both a certificate and its key"):
        ctrkit.serve(tmp_path, key="key.pem")
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--workers", "0"])
    assert result.exit_code == 2
    assert "must be at least 1" in result.stderr
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"A server needs the package 'uvicorn'.*ctrkit\[serve\]"):
        ctrkit.serve(tmp_path)


@pytest.mark.slow
def test_an_address_in_use_and_a_wrong_certificate_are_told(folder: Path, tmp_path: Path) -> None:
    with served(folder) as (client, _), pytest.raises(RunError, match="cannot be listened on"):
        ctrkit.serve(folder, port=client.base_url.port)
    with pytest.raises(ConfigError, match="there is no host"):
        ctrkit.serve(folder, host="nowhere.invalid")
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="certificate or its key cannot be used"):
        ctrkit.serve(folder, port=0, certificate=tmp_path / "no.pem", key=tmp_path / "no.pem")
