"""`POST /v1/feedback`: what came of decisions; and what other routes keep in the journal."""

from __future__ import annotations

import time
from itertools import takewhile

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.campaigns import bidder
from ctrkit.serving.feedback.entries import (
    Amount,
    Decision,
    Event,
    Id,
    Interleaved,
    Kind,
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
    *,
    choice: int | None = None,
    propensity: float | None = None,
    probabilities: list[float] | None = None,
    bid: float | None = None,
    campaign: str | None = None,
    auction: str | None = None,
    interleaved: Interleaved | None = None,
) -> None:
    """Keep a decision, where the server has a journal, and follow what comes of it.

    Args:
        service: has the journal.
        user: key of the user.
        request_id: the name of the request.
        scores: what the model has said.
        choice: place of the candidate that was chosen or bid for; None for none.
        propensity: the probability with which it was chosen.
        probabilities: those of all candidates.
        bid: the bid.
        campaign: who bids.
        auction: the name of the auction.
        interleaved: the list of two versions.
    """
    if service.journal is None:
        return
    if service.outcomes is not None:
        # Events tell of these tasks alone, and each is given the one before.
        told = takewhile(lambda task: task in ("click", "conversion"), scores.outputs)
        predictions = {task: scores.outputs[task] for task in told}
        own = None if campaign is None or auction is None else (auction, campaign)
        if not service.outcomes.follow(request_id, scores.version, predictions, choice=choice, bid=own):
            service.metrics.unfollowed.inc()
    service.journal.keep(
        Decision(
            request_id=request_id,
            time=time.time(),
            model=scores.name,
            version=scores.version,
            user=user,
            context=dict(scores.context),
            candidates={name: list(column) for name, column in scores.columns.items()},
            outputs={name: values.tolist() for name, values in scores.outputs.items()},
            id=scores.id,
            choice=choice,
            propensity=propensity,
            probabilities=probabilities,
            bid=bid,
            campaign=campaign,
            auction=auction,
            arm=scores.arm,
            interleaved=interleaved,
        )
    )


def keep_bid(
    service: Service,
    user: str | None,
    request_id: str,
    scores: Scores,
    found: bidder.Decision,
    *,
    campaign: str,
    auction: str,
) -> None:
    """Keep a bid, whose candidate no chance has chosen; the other arguments are those of `keep_decision`."""
    keep_decision(
        service,
        user,
        request_id,
        scores,
        choice=found.candidate,
        propensity=None if found.candidate is None else 1.0,
        bid=found.bid,
        campaign=campaign,
        auction=auction,
    )
