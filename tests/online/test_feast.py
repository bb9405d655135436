"""A real feature server of Feast, in an environment of its own, as Feast holds back pandas."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import ctrkit
from ctrkit.online import FeatureSet, StoreError, open_store
from tests.online.conftest import free_port

# The folder of Feast's environment; installed there once, which takes minutes.
HOME = Path(os.environ.get("CTRKIT_FEAST", Path.home() / ".cache" / "ctrkit" / "feast"))
STORE = """
project: ctrkit
registry: registry.db
provider: local
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""
REPOSITORY = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float64, Int64, String

user = Entity(name="user_id", join_keys=["user_id"], value_type=ValueType.INT64)
view = FeatureView(
    name="users", entities=[user],
    schema=[
        Field(name="clicks", dtype=Int64), Field(name="rate", dtype=Float64),
        Field(name="city", dtype=String), Field(name="ads", dtype=Array(Int64)),
    ],
    source=FileSource(path="users.parquet", timestamp_field="time"),
)
service = FeatureService(name="bids", features=[view])
"""
USERS = pl.DataFrame(
    {
        "user_id": [7, 8, 9],
        "clicks": [3, None, 4],
        "rate": [0.1, 2.0, 1e-300],
        "city": ["Köln", "Rom", None],
        "ads": [[1, 2], [3], [4]],
    }
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("feast")
    program = HOME / "bin" / "feast"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        done = subprocess.run([HOME / "bin" / "pip", "install", "--quiet", "feast"], capture_output=True)
        if done.returncode:
            pytest.skip("Feast cannot be installed")
    (folder / "feature_store.yaml").write_text(STORE)
    (folder / "repository.py").write_text(REPOSITORY)
    moment = pl.lit("2026-01-01").str.to_datetime(time_unit="us", time_zone="UTC")
    USERS.with_columns(time=moment).write_parquet(folder / "users.parquet")
    environment = {**os.environ, "FEAST_USAGE": "False"}
    for step in (["apply"], ["materialize", "2025-12-31T00:00:00", "2026-01-02T00:00:00"]):
        subprocess.run([program, *step], cwd=folder, env=environment, check=True, capture_output=True)
    port = free_port()
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    running = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(240):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"feast+http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait()


@pytest.mark.slow
@pytest.mark.parametrize("rest", ["/users?features=clicks,rate,city,ads&keys=int", "?service=bids&keys=int"])
def test_values_of_feast_are_those_of_its_table(server: str, rest: str) -> None:
    store = open_store(server + rest)
    rows = store.get_many(FeatureSet("features", "external", "user_id"), ["9", "7", "5", "8"])
    expected = {row.pop("user_id"): row for row in USERS.to_dicts()}
    assert rows == [expected[9], expected[7], None, expected[8]]
    found = ctrkit.get_features([8, 5], store=server + rest, key="user_id")
    assert (found.found, found.missing) == (1, ("5",))


@pytest.mark.slow
def test_a_view_that_feast_does_not_know_is_an_error(server: str) -> None:
    with pytest.raises(StoreError, match="status"):
        open_store(f"{server}/nothing?features=a&keys=int").get_many(FeatureSet("f", "v", "user_id"), ["7"])
