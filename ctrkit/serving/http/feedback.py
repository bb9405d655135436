"""`POST /v1/feedback`: what came of decisions; and the decisions themselves, for the journal."""

from __future__ import annotations

import time
from typing import Literal

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.choosing import Choice
from ctrkit.serving.feedback.entries import Amount, Decision, Event, Id, Time
from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.scoring import Scores, columns_of


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An event that followed a decision.

    Attributes:
        event_id: the caller's name for the event; it may be sent again, and counts once.
        request_id: that of the request that the event followed; the auction's for a bid without one.
        kind: what happened.
        time: when, in unix seconds; by default now.
        value: what it is worth.
    """

    event_id: Id
    request_id: Id
    kind: Literal["click", "conversion"]
    time: Time | None = None
    value: Amount | None = None


class FeedbackReply(msgspec.Struct):
    """What became of events.

    Attributes:
        taken: number of events that were taken.
    """

    taken: int


# Columns that a decision may have: those of a scored request are known to be the model's.
_ALL = 1 << 20
SCHEMAS = (FeedbackBody, FeedbackReply)


def routes(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["feedback"])

    def work(raw: bytes) -> FeedbackReply:
        if service.journal is None:
            raise Refusal(404, "the server keeps no journal", hint="Start it with --journal FOLDER")
        given = service.decoded(FeedbackBody | list[FeedbackBody], raw)  # type: ignore[arg-type]
        events, now = given if isinstance(given, list) else [given], time.time()
        for one in events:
            at = now if one.time is None else one.time
            if not service.journal.keep(Event(one.event_id, one.request_id, one.kind, at, one.value)):
                hint, headers = "Send the events again: each counts once", {"Retry-After": "1"}
                raise Refusal(503, "the journal is full", hint=hint, headers=headers)
        return FeedbackReply(len(events))

    told = described(404, *GUARDED, *READ, reply=FeedbackReply, body=FeedbackBody)

    @router.post("/v1/feedback", dependencies=[service.tokens.need("feedback")], **told)
    async def feedback(request: Request) -> Response:
        """Clicks and conversions, one event or a list of them. They may come again, and count once."""
        return await service.answer(request, work)

    return router


def keep_decision(
    service: Service,
    body: ScoreBody,
    request_id: str,
    scores: Scores,
    choice: Choice | None = None,
    *,
    bid: float | None = None,
    candidate: int | None = None,
) -> None:
    """Keep a decision, where the server has a journal.

    Args:
        service: has the journal.
        body: what was asked.
        request_id: the name of the request.
        scores: what the model has said.
        choice: what a policy has chosen.
        bid: the bid, where one was asked for.
        candidate: place of the candidate that is bid for, which no chance has chosen.
    """
    if service.journal is None:
        return
    certain = None if candidate is None else 1.0
    columns, _ = columns_of(body, _ALL)
    service.journal.keep(
        Decision(
            request_id,
            time.time(),
            scores.name,
            scores.version,
            body.user,
            body.context,
            {name: list(column) for name, column in columns.items()},
            {name: values.tolist() for name, values in scores.outputs.items()},
            scores.id,
            candidate if choice is None else choice.index,
            certain if choice is None else choice.propensity,
            None if choice is None else choice.probabilities.tolist(),
            bid,
            scores.arm,
        )
    )
