"""`POST /v1/score`: candidates in, calibrated probabilities out."""

from __future__ import annotations

from uuid import uuid4

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ctrkit.serving.http.described import GUARDED, READ, described
from ctrkit.serving.http.feedback import keep_decision
from ctrkit.serving.http.service import Service
from ctrkit.serving.requests.body import ScoreBody


class ServedModel(msgspec.Struct):
    """The model that has scored.

    Attributes:
        name: its name.
        version: its version.
    """

    name: str
    version: str


class ChosenCandidate(msgspec.Struct):
    """The candidate that the server's policy has chosen.

    Attributes:
        index: its place among the candidates.
        propensity: the probability with which it was chosen.
    """

    index: int
    propensity: float


class ScoreReply(msgspec.Struct):
    """The scores of the candidates of a request.

    Attributes:
        request_id: the caller's, or one that was made here.
        model: the model that has scored.
        scores: task -> its probability for each candidate, given the task before it; `value` and
            `impression_value` where the model predicts values.
        missing: feature -> number of candidates without it, for which a default was used.
        unknown: feature -> number of candidates with an id that training did not know.
        cold: keys that the online store does not know, such as `user_id`.
        unread: keys whose features could not be read, as the online store has failed; else absent.
        choice: what the server's policy has chosen; absent where it has none.
        ranking: places of the candidates in the list that two versions have filled in turn; absent where no
            version is interleaved.
    """

    request_id: str
    model: ServedModel
    scores: dict[str, list[float]]
    missing: dict[str, int]
    unknown: dict[str, int]
    cold: tuple[str, ...]
    unread: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    choice: ChosenCandidate | msgspec.UnsetType = msgspec.UNSET
    ranking: list[int] | msgspec.UnsetType = msgspec.UNSET


SCHEMAS = (ScoreBody, ScoreReply)


def routes(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["score"])

    def work(raw: bytes) -> ScoreReply:
        body = service.decoded(ScoreBody, raw)
        request_id = body.request_id or uuid4().hex
        scores = service.score(body, request_id)
        choice, interleaved = None, None
        if service.chooser is not None:
            with service.metrics.stage("choose"):
                choice = service.chooser.choose(request_id, next(iter(scores.outputs.values())))
        else:
            interleaved = service.interleaved(body, request_id, scores)
        keep_decision(
            service,
            body.user,
            request_id,
            scores,
            choice=None if choice is None else choice.index,
            propensity=None if choice is None else choice.propensity,
            probabilities=None if choice is None else choice.probabilities.tolist(),
            interleaved=interleaved,
        )
        return ScoreReply(
            request_id,
            ServedModel(scores.name, scores.version),
            {name: values.tolist() for name, values in scores.outputs.items()},
            scores.missing,
            scores.unknown,
            scores.cold,
            scores.unread or msgspec.UNSET,
            msgspec.UNSET if choice is None else ChosenCandidate(choice.index, choice.propensity),
            msgspec.UNSET if interleaved is None else interleaved.order,
        )

    told = described(*GUARDED, *READ, reply=ScoreReply, body=ScoreBody)

    @router.post("/v1/score", dependencies=[service.tokens.need("score")], **told)
    async def score(request: Request) -> Response:
        """Calibrated probabilities of each candidate, each task given the task before it."""
        return await service.answer(request, work)

    return router
