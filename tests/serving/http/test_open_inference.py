"""The Open Inference Protocol, driven by Triton's client, and by hand where it is wrong."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

import ctrkit

WHERE = "/v2/models/features/infer"


@pytest.fixture(scope="module")
def server(client: httpx.Client) -> triton.InferenceServerClient:
    url = client.base_url
    return triton.InferenceServerClient(f"{url.host}:{url.port}")


def tensors(model: ctrkit.Model, rows: pl.DataFrame, *, binary: bool) -> list[triton.InferInput]:
    """An input for each column: numbers as FP32, all else as texts, and lists padded by empty ones."""
    found = []
    numeric = {one.name for one in model.spec.numeric}
    for column in rows.select(model.spec.feature_columns):
        if column.name in numeric:
            values = column.cast(pl.Float32).to_numpy().reshape(-1, 1)
        elif isinstance(column.dtype, pl.List):
            lists = column.to_list()
            width = max(map(len, lists), default=0)
            values = np.array([[*map(str, one), *[""] * (width - len(one))] for one in lists], dtype=object)
        else:
            values = np.array(column.cast(pl.String).to_list(), dtype=object).reshape(-1, 1)
        kind = "FP32" if column.name in numeric else "BYTES"
        one = triton.InferInput(column.name, list(values.shape), kind)
        one.set_data_from_numpy(values, binary_data=binary)
        found.append(one)
    return found


def test_health_and_metadata(server: triton.InferenceServerClient, model: ctrkit.Model) -> None:
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("features")
    assert not server.is_model_ready("another")
    assert server.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    found = server.get_model_metadata("features")
    (version,) = found["versions"]
    assert server.is_model_ready("features", version)
    assert not server.is_model_ready("features", "0")
    assert [one["name"] for one in found["inputs"]] == list(model.spec.feature_columns)
    assert {one["name"]: (one["datatype"], one["shape"]) for one in found["inputs"]}["ad_price"] == (
        "FP32",
        [-1, 1],
    )
    assert [one["name"] for one in found["outputs"]] == list(model.tasks)


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
@pytest.mark.parametrize("histories", ["own", "shared"])
def test_probabilities_are_those_of_the_model(
    server: triton.InferenceServerClient,
    model: ctrkit.Model,
    rows: pl.DataFrame,
    binary: bool,
    histories: str,
) -> None:
    some = rows.head(20)
    if histories == "shared":
        some = some.with_columns(some[[0] * 20].select(one.name for one in model.spec.sequences))
    outputs = [triton.InferRequestedOutput(task, binary_data=binary) for task in model.tasks]
    found = server.infer("features", tensors(model, some, binary=binary), outputs=outputs, request_id="7")
    assert found.get_response()["id"] == "7"
    wanted = model.predict(some)
    for task in model.tasks:
        assert found.as_numpy(task).shape == (20, 1)
        np.testing.assert_allclose(found.as_numpy(task).ravel(), wanted[task], atol=1e-5)


def test_a_missing_input_is_empty_in_all_rows(
    server: triton.InferenceServerClient, model: ctrkit.Model, rows: pl.DataFrame
) -> None:
    some = rows.head(5)
    some = some.with_columns(ad_price=pl.lit(None, pl.Float64), device=pl.lit(None, some["device"].dtype))
    given = [one for one in tensors(model, some, binary=True) if one.name() not in ("ad_price", "device")]
    with pytest.warns(ctrkit.errors.DataWarning):
        wanted = model.predict(some)
    found = server.infer("features", given).as_numpy("click")
    np.testing.assert_allclose(found.ravel(), wanted["click"], atol=1e-5)


def test_faults_are_told_by_the_client(server: triton.InferenceServerClient) -> None:
    number = triton.InferInput("ad_price", [1, 1], "FP32")
    number.set_data_from_numpy(np.array([[np.nan]], dtype=np.float32))
    with pytest.raises(InferenceServerException, match=r"inputs\[0\].data\[0\]: the number is not finite"):
        server.infer("features", [number])
    with pytest.raises(InferenceServerException, match="the model that serves is 'features'"):
        server.infer("another", [number])


def one(**changes: Any) -> dict[str, Any]:
    """A request with one input."""
    return {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1], **changes}]}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no inputs": ({}, "inputs"),
    "none": ({"inputs": []}, "rows: there are no rows"),
    "unknown": (one(), "x: the model reads"),
    "type": (one(datatype="FP31"), "inputs[0].datatype"),
    "shape": (one(shape=[1, 1, 1]), "inputs[0].shape"),
    "negative": (one(shape=[-1]), "inputs[0].shape"),
    "empty lists": (one(shape=[9, 0], data=[]), "inputs[0].shape"),
    "too few": (one(shape=[2]), "inputs[0]: there are 1"),
    "no data": (one(data=None), "inputs[0].data"),
    "text": (one(data=["1"]), "inputs[0].data[0]"),
    "range": (one(datatype="INT8", data=[300]), "inputs[0].data"),
    "half": (one(datatype="FP16", data=[1e9]), "inputs[0].data[0]"),
    "twice": ({"inputs": one()["inputs"] * 2}, "inputs[1]"),
    "bytes": (one(parameters={"binary_data_size": 4}), "inputs[0].parameters.binary_data_size"),
    "output": ({**one(name="ad_price"), "outputs": [{"name": "clicks"}]}, "outputs[0].name"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_refused(client: httpx.Client, fault: str) -> None:
    body, said = FAULTS[fault]
    reply = client.post(WHERE, json=body)
    assert reply.status_code == 422
    assert said in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "length", "said"),
    [
        (b"{}", "3", "Inference-Header-Content-Length"),
        (b"{}", "-1", "Inference-Header-Content-Length"),
        (b'{"inputs": []}123', "14", "3 bytes behind the JSON"),
    ],
)
def test_a_faulty_length_is_refused(client: httpx.Client, content: bytes, length: str, said: str) -> None:
    reply = client.post(WHERE, content=content, headers={"Inference-Header-Content-Length": length})
    assert reply.status_code == 422
    assert said in reply.json()["error"]


@pytest.mark.parametrize("texts", [b"\x05\x00\x00\x00abc", b"\x01\x00", b"\x01\x00\x00\x00\xff"])
def test_faulty_texts_are_refused(client: httpx.Client, texts: bytes) -> None:
    size = len(texts)
    head = (
        b'{"inputs": [{"name": "device", "shape": [1], "datatype": "BYTES", '
        b'"parameters": {"binary_data_size": %d}}]}' % size
    )
    length = {"Inference-Header-Content-Length": str(len(head))}
    reply = client.post(WHERE, content=head + texts, headers=length)
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("inputs[0]: ")
