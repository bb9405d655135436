"""`POST /v1/feedback`: what came of decisions; and what other routes keep in the journal."""

from __future__ import annotations

import time
from itertools import takewhile

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.choosing import Choice
from ctrkit.serving.feedback.entries import (
    Amount,
    Decision,
    Event,
    Id,
    Interleaved,
    Kind,
    Notice,
    Place,
    Time,
)
from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.http.service import Service
from ctrkit.serving.scoring import Scores


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An event that followed a decision.

    Attributes:
        event_id: the caller's name for the event; it may be sent again, and counts once.
        request_id: that of the request that the event followed; the auction's for a bid without one.
        kind: what happened; an impression tells that a candidate was shown.
        time: when, in unix seconds; by default now.
        value: what it is worth.
        candidate: place of the candidate, from 0; by default the one that the server has chosen or bid for.
    """

    event_id: Id
    request_id: Id
    kind: Kind
    time: Time | None = None
    value: Amount | None = None
    candidate: Place | None = None


class FeedbackReply(msgspec.Struct):
    """What became of events.

    Attributes:
        taken: number of events that were taken.
    """

    taken: int


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
            event = Event(one.event_id, one.request_id, one.kind, at, one.value, one.candidate)
            if not service.journal.keep(event):
                hint, headers = "Send the events again: each counts once", {"Retry-After": "1"}
                raise Refusal(503, "the journal is full", hint=hint, headers=headers)
        return FeedbackReply(len(events))

    told = described(404, *GUARDED, *READ, reply=FeedbackReply, body=FeedbackBody)

    @router.post("/v1/feedback", dependencies=[service.tokens.need("feedback")], **told)
    async def feedback(request: Request) -> Response:
        """Impressions, clicks and conversions, one or a list of them. They may come again, and count once."""
        return await service.answer(request, work)

    return router


def keep_decision(
    service: Service,
    user: str | None,
    request_id: str,
    scores: Scores,
    choice: Choice | None = None,
    interleaved: Interleaved | None = None,
) -> None:
    """Keep a decision on a request for scores, where the server has a journal.

    Args:
        service: has the journal.
        user: key of the user.
        request_id: the name of the request.
        scores: what the model has said.
        choice: what a policy has chosen.
        interleaved: the list of two versions.
    """
    if choice is None:
        _keep(service, user, request_id, scores, interleaved=interleaved)
        return
    chosen = choice.index, choice.propensity, choice.probabilities.tolist()
    _keep(service, user, request_id, scores, chosen)


def keep_bid(
    service: Service,
    user: str | None,
    request_id: str,
    scores: Scores,
    *,
    candidate: int | None,
    bid: float,
    campaign: str,
    auction: str,
) -> None:
    """Keep a bid, where the server has a journal.

    Args:
        service: has the journal.
        user: key of the user.
        request_id: the name of the request.
        scores: what the model has said.
        candidate: place of the candidate that is bid for, which no chance has chosen; None for no bid.
        bid: the bid.
        campaign: who bids.
        auction: the name of the auction.
    """
    chosen = candidate, None if candidate is None else 1.0, None
    _keep(service, user, request_id, scores, chosen, (bid, campaign, auction))


def keep_notice(service: Service, auction: str, campaign: str, *, won: bool, price: float) -> None:
    """Keep what came of a bid, where the server has a journal."""
    if service.journal is not None:
        service.journal.keep(Notice(auction, campaign, time.time(), won, price))


def _keep(
    service: Service,
    user: str | None,
    request_id: str,
    scores: Scores,
    chosen: tuple[int | None, float | None, list[float] | None] = (None, None, None),
    bid: tuple[float | None, str | None, str | None] = (None, None, None),
    interleaved: Interleaved | None = None,
) -> None:
    if service.journal is None:
        return
    if service.outcomes is not None:
        # Events tell of these tasks alone, and each is given the one before.
        told = takewhile(lambda task: task in ("click", "conversion"), scores.outputs)
        predictions = {task: scores.outputs[task] for task in told}
        _, campaign, auction = bid
        own = None if campaign is None or auction is None else (auction, campaign)
        if not service.outcomes.follow(request_id, scores.version, predictions, choice=chosen[0], bid=own):
            service.metrics.unfollowed.inc()
    service.journal.keep(
        Decision(
            request_id,
            time.time(),
            scores.name,
            scores.version,
            user,
            dict(scores.context),
            {name: list(column) for name, column in scores.columns.items()},
            {name: values.tolist() for name, values in scores.outputs.items()},
            scores.id,
            *chosen,
            *bid,
            scores.arm,
            interleaved,
        )
    )
