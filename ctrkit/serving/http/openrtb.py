"""`POST /openrtb/2.6/bid`, and the notices of its bids: campaigns in the auctions of an exchange.

Each impression is offered to all campaigns, and the highest bid is the answer; the others are lost at once.
The messages and their source are in `ctrkit.serving.http.openrtb_messages`; times (`tmax`), the header
`x-openrtb-version`, the status 204 of no bid and the macros in addresses are those of OpenRTB 2.6 too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.campaigns.bidder import Bidder, Decision
from ctrkit.serving.campaigns.config import CampaignConfig
from ctrkit.serving.campaigns.ledger import LedgerError
from ctrkit.serving.feedback.entries import Notice
from ctrkit.serving.http.bid import settled
from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.errors import JSON, Refusal
from ctrkit.serving.http.feedback import keep_bid
from ctrkit.serving.http.notices import Exchange, Kind
from ctrkit.serving.http.openrtb_messages import (
    INVALID_REQUEST,
    VERSION,
    Imp,
    OpenRtbBid,
    OpenRtbRequest,
    OpenRtbResponse,
    SeatBid,
    auction_of,
    context_of,
    money_of,
    price_of,
    value_at,
)
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.scoring import Scores

SCHEMAS = (OpenRtbRequest, OpenRtbResponse)
_HEADERS = {"x-openrtb-version": VERSION}


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["openrtb"])
    told = described(404, *GUARDED, *READ, reply=OpenRtbResponse, body=OpenRtbRequest)

    @router.post("/openrtb/2.6/bid", dependencies=[service.tokens.need("score")], **told)
    async def bid(request: Request) -> Response:
        """Bids for the impressions of a request; 204 for none, and `nbr` where the request is wrong."""
        arrived = time.monotonic()
        bidder, exchange = _exchange(service)
        raw = await service.body(request)
        tree: dict[str, Any] = {}
        try:
            # Before its turn in the lane: only the body tells how long the request may wait there.
            tree = service.decoded(dict[str, Any], raw)
            asked = msgspec.convert(tree, OpenRtbRequest)
            if not request.headers.get("x-openrtb-version", VERSION).startswith("2."):
                return _invalid(tree)
            limit = service.config.time_limit if asked.tmax is None else asked.tmax / 1000
            until = arrived + min(limit, service.config.time_limit)
            auctions = Auctions(service, bidder, exchange, asked, tree, until)
            async with asyncio.timeout(until - time.monotonic()):
                found = await service.lane.run(auctions.bids)
        except msgspec.ValidationError:
            return _invalid(tree)
        except Refusal as refusal:
            if refusal.status != 422:
                raise
            return _invalid(tree)
        except TimeoutError:
            found = []
        if not found:
            return Response(status_code=204, headers=_HEADERS)
        return _reply(OpenRtbResponse(asked.id, [SeatBid(found)], exchange.config.currency))

    @router.get("/openrtb/win", status_code=204, **described(403, 404, 422, 503))
    async def win(request: Request) -> Response:
        """The notice of a win, signed. It may come again: the first one counts."""
        return await service.lane.run(notice, "win", dict(request.query_params))

    @router.get("/openrtb/loss", status_code=204, **described(403, 404, 422, 503))
    async def loss(request: Request) -> Response:
        """The notice of a loss, signed, which frees the money of the bid."""
        return await service.lane.run(notice, "loss", dict(request.query_params))

    def notice(kind: Kind, query: dict[str, str]) -> Response:
        bidder, exchange = _exchange(service)
        campaign, auction = query.get("campaign", ""), query.get("auction", "")
        exchange.check(kind, campaign, auction, query.get("sign", ""))
        paid = _price(query.get("price", "")) if kind == "win" else 0.0
        settled(service, bidder, Notice(auction, campaign, time.time(), kind == "win", paid), "auction")
        return Response(status_code=204)  # a browser may see it: it tells nothing of the budget

    return router


class Auctions:
    """The auctions of a request.

    Args:
        service: what scores.
        bidder: who bids.
        exchange: who asks.
        asked: the request.
        tree: the same as it came.
        until: when the answer is too late, as `time.monotonic` tells time.
    """

    def __init__(
        self,
        service: Service,
        bidder: Bidder,
        exchange: Exchange,
        asked: OpenRtbRequest,
        tree: dict[str, Any],
        until: float,
    ) -> None:
        self.service, self.bidder, self.exchange = service, bidder, exchange
        self.asked, self.tree, self.until = asked, tree, until
        self.campaigns = [one for one in bidder.campaigns.values() if one.ads]

    def bids(self) -> list[OpenRtbBid]:
        """The highest bid for each impression that has one; none after the time.

        Raises:
            Refusal: 422, a feature is wrong; nothing is reserved then.
        """
        currency = self.exchange.config.currency
        if not self.campaigns or (self.asked.cur and currency not in self.asked.cur):
            return []
        scored = []
        for place, imp in enumerate(self.asked.imp):
            private = imp.pmp is not None and imp.pmp.private_auction == 1
            if private or (imp.bidfloor and imp.bidfloorcur != currency):
                continue
            if self._late():
                return []
            scored.append((imp, *self._scores(place)))
        found = [bid for one in scored if (bid := self._bid(*one)) is not None]
        if not self._late():
            return found
        for bid in found:
            self._free(bid.cid, bid.id)
        return []

    def _late(self) -> bool:
        return time.monotonic() >= self.until

    def _scores(self, place: int) -> tuple[Scores, str | None]:
        """The scores of the ads of all campaigns, one campaign after the other, and the key of the user."""
        config = self.exchange.config
        rows = [dict(ad.features) for one in self.campaigns for ad in one.ads]
        key = None if config.user is None else value_at(self.tree, config.user, place)
        user = None if key is None else str(key)
        try:
            context = msgspec.convert(context_of(config, self.tree, place), dict[str, Any])
            body = msgspec.convert({"candidates": rows, "context": context, "user": user}, ScoreBody)
        except msgspec.ValidationError as error:
            raise Refusal.of_decoding(error) from None
        return self.service.score(body), user

    def _bid(self, imp: Imp, scores: Scores, user: str | None) -> OpenRtbBid | None:
        auction, floor, first = auction_of(self.asked, imp), money_of(imp.bidfloor), 0
        made: list[tuple[CampaignConfig, Scores, Decision]] = []
        with self.service.metrics.stage("bid"):
            for one in self.campaigns:
                part = slice(first, first := first + len(one.ads))
                own = scores.part(part)
                decision = self.bidder.bid(one.name, auction, own.outputs, scores.tasks, floor)
                if decision.candidate is not None:
                    made.append((one, own, decision))
            if not made:
                return None
            best = max(made, key=lambda it: it[2].bid)
            self._free_all(auction, [one for one, _, _ in made if one is not best[0]])
        campaign, own, decision = best
        price = price_of(decision.bid, imp.bidfloor)
        # The ads may have changed since the same auction was asked before.
        if not price or decision.candidate is None or decision.candidate >= len(campaign.ads):
            self._free(campaign.name, auction)
            return None
        ad, name = campaign.ads[decision.candidate], campaign.name
        about = {"campaign": name, "auction": auction}
        keep_bid(self.service, user, auction, own, decision, **about)
        # The exchange fills in what stands in braces.
        won = f"{self.exchange.address('win', name, auction)}&price=${{AUCTION_PRICE}}"
        lost = self.exchange.address("loss", name, auction)
        crid = ad.adid if ad.crid is None else ad.crid
        return OpenRtbBid(auction, imp.id, price, ad.adid, crid, name, won, won, lost, ad.adm)

    def _free_all(self, auction: str, campaigns: Sequence[CampaignConfig]) -> None:
        for one in campaigns:
            self._free(one.name, auction)

    def _free(self, campaign: str, auction: str) -> None:
        with suppress(LedgerError):  # the money is free after `hold` seconds then
            self.bidder.settle(campaign, auction, won=False)


def _exchange(service: Service) -> tuple[Bidder, Exchange]:
    if service.bidder is None or service.exchange is None:
        raise Refusal(404, "the server bids at no exchange", hint="Give `openrtb` in the file of --campaigns")
    return service.bidder, service.exchange


def _reply(response: OpenRtbResponse) -> Response:
    return Response(msgspec.json.encode(response), headers=_HEADERS, media_type=JSON)


def _invalid(tree: dict[str, Any]) -> Response:
    id = tree.get("id")
    return _reply(OpenRtbResponse(id if isinstance(id, str) else "", nbr=INVALID_REQUEST))


def _price(text: str) -> float:
    """The price paid for one impression, from that for a thousand."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("nan")
    if not price.is_finite() or price < 0:
        raise Refusal(422, "the price is no number of at least 0", path="price")
    return money_of(price)
