"""What all routes use: the model, the computing thread, the tokens and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.config import settings_of
from ctrkit.errors import ConfigError, InputError
from ctrkit.online.address import open_store
from ctrkit.serving.bundle import Bundle, open_bundle
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import Bidder
from ctrkit.serving.campaigns.config import CampaignsConfig
from ctrkit.serving.choosing import Chooser
from ctrkit.serving.feedback.journal import Journal
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.described import example_row, example_score
from ctrkit.serving.http.errors import JSON, NotReady, Refusal
from ctrkit.serving.http.lane import Lane
from ctrkit.serving.http.metrics import Metrics
from ctrkit.serving.http.notices import Exchange
from ctrkit.serving.http.security import Tokens
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.requests.encoding import FieldError
from ctrkit.serving.requests.features import OnlineFeatures
from ctrkit.serving.scoring import RequestScorer, Scores

Body = TypeVar("Body")


class Models(Protocol):
    """Decides which model scores a request."""

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""

    def scorer_for(self, user: str | None) -> RequestScorer:
        """The model for a user.

        Raises:
            NotReady: none is loaded.
        """

    def known(self) -> list[dict[str, Any]]:
        """The loaded models, for people."""

    def close(self) -> None:
        """Stop what runs beside the requests."""


class SingleModel:
    """One model, for all.

    Args:
        scorer: the model; None where none is loaded.
    """

    def __init__(self, scorer: RequestScorer | None) -> None:
        self.scorer = scorer

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self.scorer is not None

    def scorer_for(self, user: str | None) -> RequestScorer:
        """The model."""
        if self.scorer is None:
            raise NotReady
        return self.scorer

    def known(self) -> list[dict[str, Any]]:
        """The model."""
        return [] if self.scorer is None else [summary_of(self.scorer)]

    def close(self) -> None:
        """Nothing runs beside the requests."""


@dataclass
class Service:
    """Everything that routes use.

    Attributes:
        config: the settings.
        models: who decides which model scores.
        lane: the computing thread.
        metrics: what is counted.
        tokens: who may ask what.
        bidder: who bids for campaigns; None where there are none.
        journal: where decisions and events are kept; None where they are not.
        chooser: who chooses among scored candidates; None where the caller does.
        exchange: how an exchange is answered; None where none asks.
    """

    config: ServeConfig
    models: Models
    lane: Lane
    metrics: Metrics
    tokens: Tokens
    bidder: Bidder | None = None
    journal: Journal | None = None
    chooser: Chooser | None = None
    exchange: Exchange | None = None

    async def answer(self, request: Request, work: Callable[[bytes], object]) -> Response:
        """The reply to a request with a body.

        Args:
            request: the request.
            work: from the body to the reply, or to what is its JSON; it runs in the computing thread.

        Raises:
            Refusal: the body is too large or too slow, too many requests wait, or `work` refuses it.
        """
        raw = await self.body(request)
        return await self.lane.run(self._answered, work, raw)

    def _answered(self, work: Callable[[bytes], object], raw: bytes) -> Response:
        found = work(raw)
        if isinstance(found, Response):
            return found
        with self.metrics.stage("reply"):
            return Response(msgspec.json.encode(found), media_type=JSON)

    def decoded(self, kind: type[Body], raw: bytes) -> Body:
        """A body of a kind.

        Raises:
            Refusal: 422, it is no such JSON.
        """
        with self.metrics.stage("decode"):
            try:
                return msgspec.json.decode(raw, type=kind)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Refusal.of_decoding(error) from None
            except RecursionError:
                raise Refusal(422, "the body is nested too deeply") from None

    def score(self, body: ScoreBody) -> Scores:
        """The scores of the candidates of a request, which are counted.

        Raises:
            Refusal: 422, a candidate is faulty or their number is not allowed; 503, no model is loaded.
        """
        self.need(body.rows, "candidates")
        scorer = self.models.scorer_for(body.user)
        try:
            scores = scorer.score(body)
        except FieldError as error:
            raise Refusal(422, error.message, path=error.path) from None
        self.metrics.scored(scores, scorer.bundle.encoder)
        return scores

    def score_rows(
        self, scorer: RequestScorer, columns: Mapping[str, pl.Series], rows: int, *, counted: bool = True
    ) -> Scores:
        """The scores of whole rows.

        Args:
            scorer: the model.
            columns: column -> its cells.
            rows: their number.
            counted: whether the metrics count them.

        Raises:
            Refusal: 422, a cell is faulty or the number of rows is not allowed.
        """
        self.need(rows, "rows")
        try:
            scores = scorer.score_rows(columns, rows)
        except InputError as error:
            raise Refusal.of_input(error) from None
        if counted:
            self.metrics.scored(scores, scorer.bundle.encoder)
        return scores

    def need(self, rows: int, what: str) -> None:
        """Check the number of candidates, or rows, of a request.

        Raises:
            Refusal: 422, there are none or too many.
        """
        if not rows:
            raise Refusal(422, f"there are no {what}", path=what, hint="Give at least one")
        if rows > self.config.max_candidates:
            raise Refusal(
                422,
                f"there are {rows:,} {what}, and {self.config.max_candidates:,} are allowed",
                path=what,
                hint="Ask in several requests",
            )

    async def body(self, request: Request) -> bytes:
        """The body of a request, within its limits.

        Raises:
            Refusal: 408, 413 or 415, it is too slow, too large or compressed.
        """
        most = self.config.max_body
        coding = request.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise Refusal(415, "compressed bodies are not read", hint="Send the body as it is")
        too_large = Refusal(413, f"the body has more than {most:,} bytes", hint="Ask in several requests")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.config.body_limit):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, "the body came too slowly", headers={"Connection": "close"}) from None
        return b"".join(parts)

    def close(self) -> None:
        """End what is being computed, and what runs beside the requests."""
        self.lane.close()
        self.models.close()
        if self.bidder is not None:
            self.bidder.close()
        if self.journal is not None:
            self.journal.close()


def _online(config: ServeConfig, bundle: Bundle) -> OnlineFeatures | None:
    """The online store of a model's features, where one is configured."""
    if config.online is None:
        return None
    name, version = bundle.known["name"], bundle.known["features"]
    store, spec = open_store(config.online), bundle.encoder.spec
    return OnlineFeatures(store, spec, name, version, config.user_key, config.item_key)


def _check_ads(scorer: RequestScorer, bidder: Bidder) -> None:
    """Score the ads of campaigns, so that no request finds a fault of theirs."""
    for campaign in bidder.campaigns.values():
        for ad in campaign.ads:
            try:
                scorer.score(ScoreBody([dict(ad.features)]))
            except FieldError as error:
                of = f"ad '{ad.adid}' of campaign '{campaign.name}'"
                raise ConfigError(f"{of}: {error.message}", argument=error.path) from None


def open_service(config: ServeConfig, model: Path) -> Service:
    """The service of a model.

    Args:
        config: the settings.
        model: folder of an exported model.

    Raises:
        ArtifactError: the folder is not complete, damaged, or of a newer format.
        ConfigError: the file of tokens, that of the notices' key or the policy is wrong, an ad of a
            campaign has a wrong feature, or a package is not installed.
        DataError: the online store has no features of the model.
    """
    tokens = Tokens() if config.tokens is None else Tokens.read(config.tokens)
    chooser = None if config.policy is None else Chooser.of(config.policy)
    bidder, exchange = None, None
    if config.campaigns is not None:
        campaigns = settings_of(CampaignsConfig, config.campaigns)
        if campaigns.openrtb is not None:
            exchange = Exchange.read(campaigns.openrtb, config.notice_key)
        bidder = Bidder(campaigns, open_ledger(campaigns.ledger))
    bundle = open_bundle(model, config.threads)
    scorer = RequestScorer(bundle, _online(config, bundle))
    # The first calls load what later ones need, which takes longer than a request may.
    encoder = scorer.bundle.encoder
    scorer.score(msgspec.convert(example_score(encoder), ScoreBody))
    scorer.score_rows({name: pl.Series([value]) for name, value in example_row(encoder).items()}, 1)
    if bidder is not None:
        _check_ads(scorer, bidder)
    models = SingleModel(scorer)
    lane, metrics = Lane(config.waiting, config.time_limit), Metrics(config.window)
    journal = None if config.journal is None else Journal(config.journal, metrics.journalled)
    return Service(config, models, lane, metrics, tokens, bidder, journal, chooser, exchange)


def summary_of(scorer: RequestScorer) -> dict[str, Any]:
    """A model, for people: what it is, reads and gives."""
    known, spec = scorer.bundle.known, scorer.bundle.encoder.spec
    return {
        "name": scorer.name,
        "version": scorer.version,
        "features_version": known["features"],
        "format": known["kind"],
        "tasks": list(spec.tasks),
        "calibrated": known.get("calibrated", []),
        "features": {
            "numeric": [one.name for one in spec.numeric],
            "categorical": [one.name for one in spec.categorical],
            "sequences": {one.name: one.max_length for one in spec.sequences},
            "bags": {one.name: one.max_length for one in spec.bags},
            "vectors": [one.name for one in spec.vectors],
        },
        "parity": known["parity"],
    }
