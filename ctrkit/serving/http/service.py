"""What all routes use: the model, the computing thread, the tokens and the metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.config import settings_of
from ctrkit.errors import ConfigError, InputError
from ctrkit.experiments.interleaving import team_draft
from ctrkit.online.address import open_store
from ctrkit.schema.features import IMPRESSION_VALUE
from ctrkit.serving.batch import check_batch
from ctrkit.serving.bundle import Bundle, open_bundle
from ctrkit.serving.campaigns.address import open_ledger
from ctrkit.serving.campaigns.bidder import Bidder
from ctrkit.serving.campaigns.config import CampaignsConfig
from ctrkit.serving.choosing import Chooser, seed_of
from ctrkit.serving.feedback.entries import Interleaved, Shadow
from ctrkit.serving.feedback.journal import Journals
from ctrkit.serving.feedback.outcomes import Outcomes
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.described import example_row, example_score
from ctrkit.serving.http.errors import JSON, Refusal
from ctrkit.serving.http.lane import Lane
from ctrkit.serving.http.logs import LOGGER
from ctrkit.serving.http.metrics import Metrics
from ctrkit.serving.http.models import Models, SingleModel
from ctrkit.serving.http.notices import Exchange
from ctrkit.serving.http.registry_models import RegistryModels
from ctrkit.serving.http.security import Tokens
from ctrkit.serving.registry.registry import Registry, is_registry
from ctrkit.serving.requests.body import ScoreBody
from ctrkit.serving.requests.encoding import FieldError
from ctrkit.serving.requests.features import OnlineFeatures
from ctrkit.serving.scoring import RequestScorer, Scores

Body = TypeVar("Body")


@dataclass
class Service:
    """Everything that routes use.

    Attributes:
        config: the settings.
        models: who decides which model scores.
        lane: the computing threads.
        metrics: what is counted.
        tokens: who may ask what.
        bidder: who bids for campaigns; None where there are none.
        journal: where decisions and events are kept; None where they are not.
        outcomes: what compares predictions with events; None without a journal.
        chooser: who chooses among scored candidates; None where the caller does.
        exchange: how an exchange is answered; None where none asks.
    """

    config: ServeConfig
    models: Models
    lane: Lane
    metrics: Metrics
    tokens: Tokens
    bidder: Bidder | None = None
    journal: Journals | None = None
    outcomes: Outcomes | None = None
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

    def score(self, body: ScoreBody, request_id: str | None = None) -> Scores:
        """The scores of the candidates of a request, which are counted.

        Args:
            body: the request.
            request_id: under this name the journal keeps what a model in the shadow says; None: it does not.

        Raises:
            Refusal: 422, a candidate is faulty or their number is not allowed; 503, no model is loaded.
        """
        self.need(body.rows, "candidates")
        scorer, arm = self.models.served(self._user(body))
        try:
            scores = replace(scorer.score(body), arm=arm)
        except FieldError as error:
            raise Refusal(422, error.message, path=error.path) from None
        self.metrics.scored(scores, scorer.bundle.encoder)
        if (shadow := self.models.shadow()) is not None:
            compare = partial(self._compare, shadow, body, request_id, scores)
            if not self.lane.later(compare):
                self.metrics.shadow_requests.labels(shadow.version, "dropped").inc()
        return scores

    def interleaved(self, body: ScoreBody, request_id: str, decided: Scores) -> Interleaved | None:
        """One list of the ranking that has decided and that of a rival; None where there is no rival.

        Candidates are ranked by the expected value of an impression where both models predict it, else by the
        probability of the first task. The coins are seeded by the request's name.

        Args:
            body: the request.
            request_id: its name.
            decided: the scores of the model that decides.
        """
        rival = self.models.rival()
        if rival is None:
            return None
        try:
            other = rival.score(body)
        except Exception as error:  # the other decides alone
            self._failed(rival, error)
            return None
        self.metrics.compared(other, decided)
        by = IMPRESSION_VALUE if all(IMPRESSION_VALUE in one.outputs for one in (decided, other)) else None
        rankings = [
            np.argsort(-one.outputs[by or one.tasks[0]], kind="stable").tolist() for one in (decided, other)
        ]
        draft = team_draft(rankings[0], rankings[1], np.random.default_rng(seed_of(request_id)))
        versions = decided.version, other.version
        return Interleaved(list(draft.order), [versions[team] for team in draft.teams])

    def _compare(
        self, shadow: RequestScorer, body: ScoreBody, request_id: str | None, decided: Scores
    ) -> None:
        """Score what another model has decided, and keep and count what a model in the shadow says."""
        try:
            found = shadow.score(body)
        except Exception as error:  # it decides nothing, and disturbs nothing
            self._failed(shadow, error)
            return
        self.metrics.compared(found, decided)
        if self.journal is not None and request_id is not None:
            outputs = {name: values.tolist() for name, values in found.outputs.items()}
            self.journal.keep(Shadow(request_id, time.time(), found.name, found.version, outputs))

    def _failed(self, scorer: RequestScorer, error: Exception) -> None:
        """Count a model that failed beside the one that decides."""
        self.metrics.shadow_requests.labels(scorer.version, "failed").inc()
        if not isinstance(error, FieldError):  # of a feature that it does not have
            LOGGER.error("the shadow failed", exc_info=error, extra={"fields": {"version": scorer.version}})

    def _user(self, body: ScoreBody) -> str | None:
        """The key of the user of a request, which may stand in its context."""
        stated = None if self.config.user_key is None else body.context.get(self.config.user_key)
        return body.user if body.user is not None or stated is None else str(stated)

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


def _check_campaigns(scorer: RequestScorer, bidder: Bidder) -> None:
    """Check that the model predicts what campaigns value, and scores their ads, so that no request finds a
    fault of theirs."""
    bidder.check(scorer.tasks)
    for campaign in bidder.campaigns.values():
        for ad in campaign.ads:
            try:
                scorer.score(ScoreBody([dict(ad.features)]))
            except FieldError as error:
                of = f"ad '{ad.adid}' of campaign '{campaign.name}'"
                raise ConfigError(f"{of}: {error.message}", argument=error.path) from None


def load(
    config: ServeConfig, bidder: Bidder | None, folder: Path, pause: Callable[[], None] = lambda: None
) -> RequestScorer:
    """An exported model, checked, and ready for requests.

    Args:
        config: the settings.
        bidder: who bids with its scores.
        folder: folder of the model.
        pause: called before each step, to let requests go first.

    Raises:
        ArtifactError: the folder is not complete, damaged, or of another format, or the model gives something
            else on this machine.
        ConfigError: an ad of a campaign has a wrong feature, the model lacks a task that a campaign values,
            or a package is not installed.
        DataError: the online store has no features of the model.
    """
    pause()
    bundle = open_bundle(folder, config.threads)
    pause()
    check_batch(bundle, folder)
    pause()
    scorer = RequestScorer(bundle, _online(config, bundle))
    # The first calls load what later ones need, which takes longer than a request may.
    encoder = scorer.bundle.encoder
    scorer.score(msgspec.convert(example_score(encoder), ScoreBody))
    scorer.score_rows({name: pl.Series([value]) for name, value in example_row(encoder).items()}, 1)
    if bidder is not None:
        _check_campaigns(scorer, bidder)
    return scorer


def open_service(config: ServeConfig, model: str) -> Service:
    """The service of a model, or of a registry.

    Args:
        config: the settings.
        model: folder of an exported model, or address of a registry.

    Raises:
        ArtifactError: the folder is not complete, damaged, or of another format, or the model gives something
            else on this machine. Of a registry such a version is refused, and the server goes on.
        ConfigError: the file of tokens, that of the notices' key or the policy is wrong, an ad of a
            campaign has a wrong feature, the model lacks a task that a campaign values, or a package is not
            installed.
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
    lane, metrics = Lane(config.waiting, config.time_limit, config.parallel), Metrics(config.window)
    models: Models
    if is_registry(model):
        loads = partial(load, config, bidder, pause=lane.pause)
        models = RegistryModels(Registry.at(model), loads, config.cache, config.watch, metrics.model_load)
    else:
        models = SingleModel(load(config, bidder, Path(model)))
    journal, outcomes = None, None
    if config.journal is not None:
        journal = Journals(config.journal, metrics.journalled)
        outcomes = Outcomes(config.journal, metrics.outcome, config.feedback_window)
    return Service(config, models, lane, metrics, tokens, bidder, journal, outcomes, chooser, exchange)
