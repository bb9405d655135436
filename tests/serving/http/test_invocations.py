"""`POST /invocations` in the shapes of MLflow, and `GET /ping`."""

from __future__ import annotations

import time
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.serving.bundle import Bundle
from ctrkit.serving.http.config import ServeConfig
from tests.serving.http.conftest import running, service_of


def frames(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The bodies that have these rows."""
    columns = table.to_dict(as_series=False)
    data = [list(row) for row in table.iter_rows()]
    return {
        "dataframe_split": {"columns": table.columns, "data": data, "index": [*range(table.height)]},
        "dataframe_records": table.to_dicts(),  # type: ignore[dict-item]
        "instances": table.to_dicts(),  # type: ignore[dict-item]
        "inputs": columns,
    }


def test_predictions_are_those_of_the_model(
    client: httpx.Client, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    some = rows.head(10).select(model.spec.feature_columns)
    wanted = model.predict(some)
    for name, content in frames(some).items():
        reply = client.post("/invocations", json={name: content})
        assert reply.status_code == 200, reply.text
        found = pl.DataFrame(reply.json()["predictions"])
        assert found.columns == wanted.columns
        np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), atol=1e-5)
    lists = [one.name for one in model.spec.sequences]
    csv = some.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("|")).write_csv()
    reply = client.post("/invocations", content=csv, headers={"Content-Type": "text/csv; charset=utf-8"})
    np.testing.assert_allclose(
        pl.DataFrame(reply.json()["predictions"]).to_numpy(), wanted.to_numpy(), atol=1e-5
    )


FAULTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "none": ({}, None),
    "two": ({"inputs": [{}], "instances": [{}]}, None),
    "no rows": ({"inputs": []}, "rows"),
    "no columns": ({"inputs": {}}, "rows"),
    "too many": ({"inputs": [{}] * 101}, "rows"),
    "unknown": ({"inputs": [{"x": 1}]}, "x"),
    "field": ({"dataframe": []}, "dataframe"),
    "no objects": ({"inputs": [1]}, "inputs[0]"),
    "types": ({"inputs": [{"ad_price": 1}, {"ad_price": "a"}]}, "inputs.ad_price"),
    "number": ({"inputs": [{"ad_price": "a"}]}, "ad_price[0]"),
    "list": ({"inputs": [{"ad_price": [1]}]}, "ad_price"),
    "uneven": ({"inputs": {"ad_price": [1], "device": []}}, "inputs.device"),
    "cells": ({"dataframe_split": {"columns": ["ad_price"], "data": [[1], []]}}, "dataframe_split.data[1]"),
    "twice": ({"dataframe_split": {"columns": ["x", "x"], "data": []}}, "dataframe_split.columns"),
    "long history": ({"inputs": [{"history_ads": ["1"] * 99}]}, "history_ads[0]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused(client: httpx.Client, fault: str) -> None:
    body, path = FAULTS[fault]
    reply = client.post("/invocations", json=body)
    assert reply.status_code == 422, reply.text
    assert reply.json()["error"]["path"] == path


@pytest.mark.parametrize("depth", [2, 900, 50_000])
@pytest.mark.parametrize(
    ("where", "body"),
    [
        ("/v1/score", b'{"candidates": [{"ad_id": %b}]}'),
        ("/v1/explain", b'{"row": {"ad_id": %b}}'),
        ("/invocations", b'{"inputs": {"ad_id": %b}}'),
        (
            "/v2/models/features/infer",
            b'{"inputs": [{"name": "a", "shape": [1], "datatype": "BYTES", "data": [%b]}]}',
        ),
        ("/v2/models/features/infer", b'{"inputs": [], "parameters": {"x": %b}}'),
    ],
)
def test_deep_bodies_are_refused_at_once(client: httpx.Client, where: str, body: bytes, depth: int) -> None:
    reply = client.post(where, content=body % (b"[" * depth + b"]" * depth))
    assert reply.status_code == 422, reply.text


def test_rows_with_a_column_each_are_refused_at_once(bundle: Bundle) -> None:
    rows = [{f"c{place}": 1} for place in range(10_000)]
    with running(service_of(bundle, ServeConfig(time_limit=20))) as client:
        started = time.process_time()
        for where, body in (("/v1/score", {"candidates": rows}), ("/invocations", {"instances": rows})):
            reply = client.post(where, json=body)
            assert reply.status_code == 422
            assert "no such" in reply.json()["error"]["message"]
        assert time.process_time() - started < 3  # all columns would take 100,000,000 cells


def test_other_kinds_of_bodies_are_refused(client: httpx.Client) -> None:
    def status(content: bytes, kind: str) -> int:
        return client.post("/invocations", content=content, headers={"Content-Type": kind}).status_code

    assert status(b"", "text/csv") == status(b"a,b\n1,2,3\n", "text/csv") == 422
    assert status(b"{}", "application/x-npy") == 415
    assert client.get("/ping").status_code == 200
