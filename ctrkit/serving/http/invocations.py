"""`POST /invocations` and `GET /ping`: rows as MLflow and SageMaker send them.

https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ (formats of requests);
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import polars as pl
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import JSON, Refusal
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import Value
from ctrkit.serving.scoring import RequestScorer

CSV = "text/csv"


class Split(msgspec.Struct):
    """A data frame: names of columns, and rows.

    Attributes:
        columns: names of the columns.
        data: the cells of each row.
        index: names of the rows, which are not read.
    """

    columns: list[str]
    data: list[list[Value]]
    index: list[Any] | None = None


class Invocation(msgspec.Struct, forbid_unknown_fields=True):
    """A request; one of the first four fields has the rows.

    Attributes:
        dataframe_split: as `pandas.DataFrame.to_dict(orient="split")`.
        dataframe_records: an object for each row.
        instances: an object for each row, as TensorFlow Serving has it.
        inputs: an object for each row, or the cells of each column.
        params: not read.
    """

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Value]] | None = None
    instances: list[dict[str, Value]] | None = None
    inputs: list[dict[str, Value]] | dict[str, list[Value]] | None = None
    params: dict[str, Any] | None = None


class Predictions(msgspec.Struct):
    """The reply.

    Attributes:
        predictions: for each row its outputs by name.
    """

    predictions: list[dict[str, float]]


SCHEMAS = (Invocation, Predictions)


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["MLflow and SageMaker"])

    told = described(*GUARDED, *READ, reply=Predictions, body=Invocation)

    @router.get("/ping", responses={503: {"description": "No model is loaded."}}, response_class=Response)
    async def ping() -> Response:
        """A model is loaded."""
        return Response(status_code=200 if service.models.ready else 503)

    @router.post("/invocations", dependencies=[service.tokens.need("score")], **told)
    async def invocations(request: Request) -> Response:
        """Probabilities of rows, each task given the task before it."""
        kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind not in (JSON, CSV):
            raise Refusal(415, f"bodies are {JSON} or {CSV}", hint="Name it in the header Content-Type")

        def work(raw: bytes) -> object:
            scorer = service.models.served(None).scorer
            if kind == CSV:
                columns, rows = _of_csv(raw)
            else:
                columns, rows = _columns(service, service.decoded(Invocation, raw), scorer)
            scores = service.score_rows(scorer, columns, rows)
            values = zip(*(column.tolist() for column in scores.outputs.values()), strict=True)
            return Predictions([dict(zip(scores.outputs, row, strict=True)) for row in values])

        return await service.answer(request, work)

    return router


def _of_csv(raw: bytes) -> tuple[dict[str, pl.Series], int]:
    """The cells of each column as texts, which are read as those of a file are."""
    try:
        table = pl.read_csv(io.BytesIO(raw), infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        raise Refusal(422, "the body is no table of CSV with names of columns") from None
    return {column.name: column for column in table}, table.height


def _columns(service: Service, body: Invocation, scorer: RequestScorer) -> tuple[dict[str, pl.Series], int]:
    """The cells of each column, and the number of rows."""
    given = {
        name: value
        for name in Invocation.__struct_fields__[:-1]
        if (value := getattr(body, name)) is not None
    }
    if len(given) != 1:
        known = ", ".join(Invocation.__struct_fields__[:-1])
        raise Refusal(422, f"{len(given)} fields have rows, and one is needed", hint=f"Give one of {known}")
    [(path, rows)] = given.items()
    if isinstance(rows, Split):
        return _of_split(rows, path)
    if isinstance(rows, Mapping):
        return _of_columns(rows, path)
    service.need(len(rows), "rows")
    # More columns than the model has would fill the memory, and one of them is unknown for sure.
    most = len(scorer.bundle.encoder.spec.feature_columns) + 1
    names = islice(dict.fromkeys(name for row in rows for name in row), most)
    return _of_columns({name: [row.get(name) for row in rows] for name in names}, path, len(rows))


def _of_split(body: Split, path: str) -> tuple[dict[str, pl.Series], int]:
    if len({*body.columns}) < len(body.columns):
        raise Refusal(422, "a column is named twice", path=f"{path}.columns")
    for place, row in enumerate(body.data):
        if len(row) != len(body.columns):
            told = f"the row has {len(row)} cells, and there are {len(body.columns)} columns"
            raise Refusal(422, told, path=f"{path}.data[{place}]")
    cells = zip(*body.data, strict=True) if body.data else ([] for _ in body.columns)
    return _of_columns(dict(zip(body.columns, map(list, cells), strict=True)), path, len(body.data))


def _of_columns(
    columns: Mapping[str, Sequence[Value]], path: str, rows: int | None = None
) -> tuple[dict[str, pl.Series], int]:
    rows = len(next(iter(columns.values()), ())) if rows is None else rows
    found = {}
    for name, values in columns.items():
        if len(values) != rows:
            told = f"the column has {len(values)} cells, and the first has {rows}"
            raise Refusal(422, told, path=f"{path}.{name}")
        try:
            found[name] = pl.Series(name, values)
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            raise Refusal(422, "the values have different types", path=f"{path}.{name}") from None
    return found, rows
