"""`POST /v1/bid` and `POST /v1/win`: paced bids for campaigns, and what became of them."""

from __future__ import annotations

import math
import time
from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.errors import ConfigError
from ctrkit.serving.campaigns.bidder import Bidder, NoticeError, Receipt
from ctrkit.serving.campaigns.ledger import LedgerError
from ctrkit.serving.feedback.entries import Notice
from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.http.feedback import keep_bid
from ctrkit.serving.http.score import ServedModel
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import ScoreBody

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Money = Annotated[float, msgspec.Meta(ge=0)]


class BidBody(ScoreBody, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A request for a bid: the candidates are scored, and one of them is bid for.

    Attributes:
        auction_id: the caller's name for the auction; the same one gets the same bid again.
        campaign: the campaign that pays.
        floor: the lowest bid that the auction takes.
    """

    auction_id: Name
    campaign: Name
    floor: Money = 0.0


class BidReply(msgspec.Struct):
    """A bid.

    Attributes:
        auction_id: that of the request.
        model: the model that has scored.
        bid: the bid, in the unit of the budget; 0 for none.
        candidate: place of the candidate to show; null without a bid.
        reason: why the bid is what it is.
        value: expected value of showing the candidate.
        multiplier: the value that a unit of money must buy; null for a strategy that does not pace.
        scores: task -> the probability of the candidate, given the task before it; empty without one.
    """

    auction_id: str
    model: ServedModel
    bid: float
    candidate: int | None
    reason: str
    value: float
    multiplier: float | None
    scores: dict[str, float]


class WinBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A notice of an auction.

    Attributes:
        auction_id: that of the bid.
        campaign: that of the bid.
        price: what was paid.
        won: whether it was won; false for a notice of loss, which frees the money of the bid.
    """

    auction_id: Name
    campaign: Name
    price: Money = 0.0
    won: bool = True


SCHEMAS = (BidBody, BidReply, WinBody, Receipt)


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["bid"])

    def bid(raw: bytes) -> BidReply:
        bidder, body = _bidder(service), service.decoded(BidBody, raw)
        _finite(body.floor, "floor")
        name = body.request_id or body.auction_id
        scores = service.score(body, name)
        with service.metrics.stage("bid"):
            try:
                found = bidder.bid(body.campaign, body.auction_id, scores.outputs, scores.tasks, body.floor)
            except ConfigError as error:
                raise Refusal(422, error.problem, path="campaign", hint=error.hint) from None
        chosen = found.candidate
        about = {"campaign": body.campaign, "auction": body.auction_id}
        keep_bid(service, body.user, name, scores, found, **about)
        return BidReply(
            body.auction_id,
            ServedModel(scores.name, scores.version),
            found.bid,
            chosen,
            found.reason,
            found.value,
            found.multiplier,
            {} if chosen is None else {name: float(of[chosen]) for name, of in scores.outputs.items()},
        )

    def win(raw: bytes) -> Receipt:
        bidder, body = _bidder(service), service.decoded(WinBody, raw)
        _finite(body.price, "price")
        notice = Notice(body.auction_id, body.campaign, time.time(), body.won, body.price)
        return settled(service, bidder, notice, "auction_id")

    told = described(404, *GUARDED, *READ, reply=BidReply, body=BidBody)

    @router.post("/v1/bid", dependencies=[service.tokens.need("score")], **told)
    async def bid_for(request: Request) -> Response:
        """A paced bid for the best candidate, whose money is reserved until a notice comes."""
        return await service.answer(request, bid)

    told = described(404, *GUARDED, *READ, reply=Receipt, body=WinBody)

    @router.post("/v1/win", dependencies=[service.tokens.need("feedback")], **told)
    async def notice(request: Request) -> Response:
        """A notice of a win, or of a loss. It may come again: the first one counts."""
        return await service.answer(request, win)

    return router


def settled(service: Service, bidder: Bidder, notice: Notice, path: str) -> Receipt:
    """Take the notice of an auction, of which the first one counts, and keep it.

    Args:
        service: has the journal.
        bidder: who has bid.
        notice: what came of the bid.
        path: where the request names the auction.

    Raises:
        Refusal: 404 or 422, there was no such bid or the price is wrong; 503, the ledger does not answer.
    """
    try:
        found = bidder.settle(notice.campaign, notice.auction, won=notice.won, price=notice.price)
    except (ConfigError, NoticeError) as error:
        raise Refusal(422, error.problem, path=error.argument or "campaign", hint=error.hint) from None
    except LedgerError:
        hint, headers = "Send the notice again", {"Retry-After": "1"}
        raise Refusal(503, "the ledger does not answer", hint=hint, headers=headers) from None
    if not found.known:
        raise Refusal(404, "there was no bid in this auction", path=path)
    if service.journal is not None:
        service.journal.keep(notice)
    return found


def _bidder(service: Service) -> Bidder:
    if service.bidder is None:
        raise Refusal(404, "the server has no campaigns", hint="Start it with --campaigns FILE")
    return service.bidder


def _finite(number: float, path: str) -> None:
    if not math.isfinite(number):
        raise Refusal(422, "the number is not finite", path=path)
