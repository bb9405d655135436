"""The page at `/` for a person: the live state, and a form that scores a row and tells why."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any

import msgspec
import polars as pl
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ctrkit.data.encoder import Encoder
from ctrkit.serving.campaigns.ledger import LedgerError
from ctrkit.serving.http.described import GUARDED, READ, described, example_row
from ctrkit.serving.http.errors import JSON, Refusal
from ctrkit.serving.http.service import Service
from ctrkit.serving.http.state import State, state_of
from ctrkit.serving.requests.body import Value

# Nothing is loaded from elsewhere, and no other page may frame it.
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HISTORY = "past events"


class ExplainBody(msgspec.Struct, forbid_unknown_fields=True):
    """A row to score.

    Attributes:
        row: column -> value; histories are lists.
    """

    row: dict[str, Value]


class Attribution(msgspec.Struct):
    """What a feature does.

    Attributes:
        feature: the feature; `past events` stands for all sequences of a domain.
        changes: task -> its probability, minus what it is without this feature, to 1e-6: less is rounding.
    """

    feature: str
    changes: dict[str, float]


class ExplainReply(msgspec.Struct):
    """The scores of a row, and what each feature does to them.

    Attributes:
        scores: task -> its probability, given the task before it.
        attributions: by feature, the largest first. Each is left out alone, so that features that say the
            same hide each other, and the changes do not add up to the score.
    """

    scores: dict[str, float]
    attributions: list[Attribution]


class PageState(msgspec.Struct):
    """What the page shows.

    Attributes:
        models: the loaded models.
        state: the live state.
        example: a row that the model knows.
        campaigns: what each campaign has spent, and what even pacing would have.
    """

    models: list[dict[str, Any]]
    state: State
    example: dict[str, Any]
    campaigns: list[dict[str, Any]]


SCHEMAS = (ExplainBody, ExplainReply, PageState)


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["page"])
    admin = [service.tokens.need("admin")]
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")

    @router.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        """The page; it holds no data, and asks for them with the token that a person types."""
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @router.get("/v1/state", dependencies=admin, **described(*GUARDED, reply=PageState))
    async def state() -> Response:
        """The live state of all workers."""
        ready = service.models.ready
        example = example_row(service.models.served(None).scorer.bundle.encoder) if ready else {}
        campaigns = await asyncio.to_thread(_campaigns, service)
        told = PageState(service.models.known(), state_of(service.metrics.families()), example, campaigns)
        return Response(msgspec.json.encode(told), media_type=JSON)

    def work(raw: bytes) -> ExplainReply:
        row = service.decoded(ExplainBody, raw).row
        scorer = service.models.served(None).scorer
        without = _left_out(scorer.bundle.encoder, row)
        rows = [row, *without.values()]
        try:
            columns = {name: pl.Series(name, [one.get(name) for one in rows]) for name in row}
        except (TypeError, OverflowError, pl.exceptions.PolarsError):
            raise Refusal(422, "the values of a list have different types", path="row") from None
        outputs = service.score_rows(scorer, columns, len(rows), counted=False).outputs
        found = [
            Attribution(name, {task: round(float(p[0] - p[1 + place]), 6) for task, p in outputs.items()})
            for place, name in enumerate(without)
        ]
        found.sort(key=lambda one: -abs(one.changes[scorer.tasks[0]]))
        return ExplainReply({task: float(p[0]) for task, p in outputs.items()}, found)

    told = described(*GUARDED, *READ, reply=ExplainReply, body=ExplainBody)

    @router.post("/v1/explain", dependencies=admin, **told)
    async def explain(request: Request) -> Response:
        """The scores of a row, and what they are without each of its features."""
        return await service.answer(request, work)

    return router


def _campaigns(service: Service) -> list[dict[str, Any]]:
    try:
        return [] if service.bidder is None else service.bidder.state()
    except LedgerError:
        return []


def _left_out(encoder: Encoder, row: dict[str, Value]) -> dict[str, dict[str, Value]]:
    """Feature -> the row without it; sequences of a domain go together, and a bag with its weights."""
    spec = encoder.spec
    apart = {*(one.name for one in spec.listed), *spec.bag_weights}
    groups = {name: {name} for name in row if name not in apart}
    groups |= {bag.name: {bag.name, bag.weights or bag.name} for bag in spec.bags}
    for domain in spec.domains:
        called = _HISTORY if len(spec.domains) == 1 else f"{_HISTORY} of {domain[0].name}"
        groups[called] = {one.name for one in domain}
    return {
        feature: {name: value for name, value in row.items() if name not in names}
        for feature, names in groups.items()
        if names & {*row}
    }
