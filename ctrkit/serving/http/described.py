"""The OpenAPI page: bodies and replies of every route, with an example that the served model takes.

FastAPI would describe bodies that it reads by itself. Ours are read by msgspec, which is many times quicker,
so their schemas are msgspec's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ctrkit.data.encoder import Encoder
from ctrkit.schema import NumericFeature
from ctrkit.serving.http.errors import JSON, ErrorReply, ShortError

_TEMPLATE = "#/components/schemas/{name}"
_REFUSED = {
    401: "The token is missing or not known.",
    403: "The token lacks the scope.",
    404: "There is no such model.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of a kind that is not read.",
    422: "The body is faulty; `path` names the field.",
    503: "No model is loaded, too many requests wait, or the time is over.",
}


# Statuses of routes with a token, and of those with a body.
GUARDED, READ = (401, 403, 503), (408, 413, 415, 422)


def described(
    *statuses: int, reply: type | None = None, body: type | None = None, short: bool = False
) -> dict[str, Any]:
    """Keywords of a route that describe it.

    Args:
        statuses: of the replies to requests that are not answered.
        reply: what it answers; None if its function tells.
        body: what it reads; None if nothing.
        short: whether errors are one text.
    """
    error = _content(ShortError if short else ErrorReply)
    replies: dict[int, dict[str, Any]] = {
        status: {"description": _REFUSED[status], "content": error} for status in statuses
    }
    if reply is not None:
        replies[200] = {"content": _content(reply)}
    asked = {} if body is None else {"requestBody": {"required": True, "content": _content(body)}}
    return {"responses": replies, "openapi_extra": asked}


def _content(kind: type) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": _TEMPLATE.format(name=kind.__name__)}}}


def openapi_of(
    app: FastAPI, kinds: Iterable[type], examples: Callable[[], dict[str, Any]]
) -> Callable[[], dict[str, Any]]:
    """The function that makes the page of an application.

    Args:
        app: the application.
        kinds: the bodies and replies of its routes.
        examples: path -> an example of its body.
    """

    def page() -> dict[str, Any]:
        found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _, schemas = msgspec.json.schema_components([ErrorReply, ShortError, *kinds], ref_template=_TEMPLATE)
        components = found.setdefault("components", {})
        components["schemas"] = {**components.get("schemas", {}), **schemas}
        for path, example in examples().items():
            found["paths"][path]["post"]["requestBody"]["content"][JSON]["example"] = example
        return found

    return page


def example_row(encoder: Encoder) -> dict[str, Any]:
    """A row that a model knows: column -> value."""
    spec = encoder.spec
    row: dict[str, Any] = {one.name: _some(encoder, one.name, 1)[0] for one in spec.categorical}
    row |= {one.name: _usual(encoder, one) for one in spec.numeric}
    row |= {one.name: _some(encoder, spec.tables[one.name], 3) for one in spec.listed}
    row |= {bag.weights: [1.0] * len(row[bag.name]) for bag in spec.bags if bag.weights is not None}
    for vector in spec.vectors:
        stock = encoder.stocks[vector.name]
        row.setdefault(vector.column, [0.0] * stock.width if vector.table is None else "1")
    return row


def example_score(encoder: Encoder) -> dict[str, Any]:
    """A body of `/v1/score` with two candidates."""
    row, spec = example_row(encoder), encoder.spec
    of_candidate = {*encoder.feature_map().target}
    if spec.candidate is not None:
        of_candidate |= {spec.candidate.id, *spec.candidate.features}
    candidate = {name: value for name, value in row.items() if name in of_candidate}
    context = {name: value for name, value in row.items() if name not in of_candidate}
    return {"context": context, "candidates": [candidate, candidate]}


def _some(encoder: Encoder, table: str, most: int) -> list[str | int]:
    """Some ids of a table; any where it is hashed, or reads the values themselves."""
    values = encoder.vocabularies.get(table, [])[:most] or ["1"]
    return [int(one) if one.isdecimal() and str(int(one)) == one else one for one in values]


def _usual(encoder: Encoder, feature: NumericFeature) -> float:
    """The number at the zero of a feature's scale."""
    zero = encoder.scales[feature.name].zero
    raw = zero if feature.transform == "none" else float(np.sign(zero) * np.expm1(abs(zero)))
    return float(f"{raw:.4g}")
