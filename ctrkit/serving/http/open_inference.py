"""The Open Inference Protocol, version 2, of KServe, Triton and others: an input for each raw column.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md; binary
tensors as in https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed
from typing import Any

import msgspec
import numpy as np
import polars as pl
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.errors import nearest
from ctrkit.schema import FeatureSpec
from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import JSON, NotReady, Refusal
from ctrkit.serving.http.service import Service
from ctrkit.serving.http.tensors import SIZE, TEXT, Tensor, cells_of
from ctrkit.serving.scoring import RequestScorer

_HEADER = "Inference-Header-Content-Length"


class Wanted(msgspec.Struct):
    """An output that a request asks for.

    Attributes:
        name: its name.
        parameters: with `binary_data`, whether it stands behind the JSON of the reply.
    """

    name: str
    parameters: dict[str, Any] = {}


class Output(msgspec.Struct, omit_defaults=True):
    """A tensor of a reply.

    Attributes:
        name: name of the output.
        datatype: type of its elements.
        shape: its sizes.
        data: the elements; absent where they stand behind the JSON.
        parameters: how many bytes they have there.
    """

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | None = None
    parameters: dict[str, int] | None = None


class InferReply(msgspec.Struct, omit_defaults=True):
    """The reply to a request.

    Attributes:
        model_name: the model's name.
        model_version: its version.
        outputs: the outputs.
        id: that of the request.
    """

    model_name: str
    model_version: str
    outputs: list[Output]
    id: str | None = None


class InferBody(msgspec.Struct):
    """A request.

    Attributes:
        inputs: a tensor for each column.
        outputs: the outputs that are asked for; None for all.
        id: comes back in the reply.
        parameters: with `binary_data_output`, whether outputs stand behind the JSON of the reply.
    """

    inputs: list[Tensor]
    outputs: list[Wanted] | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


SCHEMAS = (InferBody, InferReply)


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    may = [service.tokens.need("score")]

    def scorer_of(name: str, version: str | None) -> RequestScorer:
        scorer = service.models.served(None).scorer
        if name != scorer.name or version not in (None, scorer.version):
            raise Refusal(404, f"the model that serves is '{scorer.name}', version {scorer.version}")
        return scorer

    @router.get("")
    async def server() -> dict[str, Any]:
        """The server and its extensions."""
        return {"name": "ctrkit", "version": installed("ctrkit"), "extensions": ["binary_tensor_data"]}

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """The process lives."""
        return {"live": True}

    @router.get("/health/ready", **described(503, short=True))
    async def ready() -> dict[str, bool]:
        """A model is loaded."""
        if not service.models.ready:
            raise NotReady
        return {"ready": True}

    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        """The model is loaded."""
        return {"name": scorer_of(name, version).name, "ready": True}

    async def metadata(name: str, version: str | None = None) -> dict[str, Any]:
        """The model's inputs and outputs."""
        return _metadata(scorer_of(name, version))

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        """Probabilities of rows, each task given the task before it."""
        length = request.headers.get(_HEADER)

        def work(raw: bytes) -> Response:
            scorer = scorer_of(name, version)
            head, binary = _split(raw, length)
            body = service.decoded(InferBody, head)
            columns, rows = _columns(body, binary)
            scores = service.score_rows(scorer, columns, rows)
            with service.metrics.stage("reply"):
                return _reply(body, scorer, scores.outputs)

        return await service.answer(request, work)

    told = described(*GUARDED, *READ, 404, reply=InferReply, body=InferBody, short=True)
    refused = described(*GUARDED, 404, short=True)
    for path in ("/models/{name}", "/models/{name}/versions/{version}"):
        router.get(f"{path}/ready", dependencies=may, **refused)(model_ready)
        router.get(path, dependencies=may, **refused)(metadata)
        router.post(f"{path}/infer", dependencies=may, **told)(infer)
    return router


def _metadata(scorer: RequestScorer) -> dict[str, Any]:
    spec = scorer.bundle.encoder.spec
    outputs = [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in scorer.outputs]
    return {
        "name": scorer.name,
        "versions": [scorer.version],
        "platform": f"ctrkit_{scorer.bundle.known['kind']}",
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [-1, width]}
            for name, datatype, width in _inputs(spec)
        ],
        "outputs": outputs,
    }


def _inputs(spec: FeatureSpec) -> list[tuple[str, str, int]]:
    """The columns of a model: name, datatype and width, -1 for lists of any length."""
    numbers = {one.name for one in spec.numeric}
    lists = {*(one.name for one in spec.listed), *spec.bag_weights}
    vectors = {one.column for one in spec.vectors if one.table is None}
    numeric = numbers | vectors | {*spec.bag_weights}
    return [
        (name, "FP32" if name in numeric else TEXT, -1 if name in lists | vectors else 1)
        for name in spec.feature_columns
    ]


def _split(raw: bytes, length: str | None) -> tuple[bytes, memoryview]:
    """The JSON of a body, and what stands behind it."""
    if length is None:
        return raw, memoryview(b"")
    if not length.isdecimal() or int(length) > len(raw):
        raise Refusal(
            422, f"the header is no length of a part of the body, which has {len(raw)} bytes", path=_HEADER
        )
    return raw[: int(length)], memoryview(raw)[int(length) :]


def _columns(body: InferBody, binary: memoryview) -> tuple[dict[str, pl.Series], int]:
    """The columns of a request, and the number of rows."""
    columns: dict[str, pl.Series] = {}
    at = 0
    for place, tensor in enumerate(body.inputs):
        path, size = f"inputs[{place}]", tensor.parameters.get(SIZE)
        behind = None
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(binary) - at:
                raise Refusal(422, "there are not so many bytes", path=f"{path}.parameters.{SIZE}")
            behind, at = binary[at : at + size], at + size
        if tensor.name in columns:
            raise Refusal(422, f"the input '{tensor.name}' is given twice", path=path)
        columns[tensor.name] = cells_of(tensor, path, behind)
        if columns[tensor.name].len() != next(iter(columns.values())).len():
            raise Refusal(422, "the inputs have different numbers of rows", path=f"{path}.shape")
    if at < len(binary):
        raise Refusal(422, f"{len(binary) - at} bytes behind the JSON are of no input", path="inputs")
    return columns, next(iter(columns.values())).len() if columns else 0


def _reply(body: InferBody, scorer: RequestScorer, scores: Mapping[str, NDArray[np.float64]]) -> Response:
    wanted = body.outputs if body.outputs is not None else [Wanted(name) for name in scores]
    by_default = bool(body.parameters.get("binary_data_output"))
    outputs, behind = [], []
    for place, one in enumerate(wanted):
        if one.name not in scores:
            raise Refusal(
                422,
                f"there is no output '{one.name}'",
                path=f"outputs[{place}].name",
                hint=nearest(one.name, scores),
            )
        values = scores[one.name].astype("<f8")
        told = Output(one.name, "FP64", [values.size, 1])
        if one.parameters.get("binary_data", by_default):
            behind.append(values.tobytes())
            told.parameters = {SIZE: len(behind[-1])}
        else:
            told.data = values.tolist()
        outputs.append(told)
    head = msgspec.json.encode(InferReply(scorer.name, scorer.version, outputs, body.id))
    if not behind:
        return Response(head, media_type=JSON)
    return Response(b"".join([head, *behind]), 200, {_HEADER: str(len(head))}, "application/octet-stream")
