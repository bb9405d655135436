"""Servers for the tests of online stores."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def redis_on(port: int, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of Redis on a port, with further settings."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (`apt-get install redis-server`)")
    settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *more]
    server = subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip("redis-server does not start")
        yield server
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of Redis, started for the tests."""
    port = free_port()
    with redis_on(port, tmp_path_factory.mktemp("redis")):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a table of DynamoDB, which moto plays."""
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        boto3.client("dynamodb", region_name="eu-west-1").create_table(
            TableName="features",
            KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield "dynamodb:features?region=eu-west-1"


@pytest.fixture(params=["sqlite", "redis", "dynamodb"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of every store that can be written."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'features.db'}"
    return str(request.getfixturevalue({"redis": "redis_server"}.get(request.param, request.param)))
