"""The application: all routes, and what happens around every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ctrkit.serving.http import bid, feedback, health, invocations, open_inference, openrtb, page, score
from ctrkit.serving.http.config import ServeConfig
from ctrkit.serving.http.described import example_row, example_score, openapi_of
from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.http.logs import LOGGER
from ctrkit.serving.http.service import Service, open_service

# Each has the routes of one protocol.
ROUTES = (health, score, bid, openrtb, feedback, open_inference, invocations, page)
# Seconds between two times that sums of the window are brought up to date, for the other workers.
_REFRESH = 5.0


def create_app(service: Service) -> FastAPI:
    """The application of a service, which it closes at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        refreshing = asyncio.create_task(_refresh(service))
        LOGGER.info("ready" if service.models.ready else "waiting for a model")
        yield
        refreshing.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(title="ctrkit", version=version("ctrkit"), lifespan=lifespan, redoc_url=None)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_middleware(Watched, service=service)
    for protocol in ROUTES:
        app.include_router(protocol.routes(service))
    kinds = [kind for protocol in ROUTES for kind in protocol.SCHEMAS]
    app.openapi = openapi_of(app, kinds, lambda: _examples(service))  # type: ignore[method-assign]
    return app


def opened_app(config: ServeConfig, model: str) -> FastAPI:
    """The application of a model or a registry: what a worker serves."""
    return create_app(open_service(config, model))


class Watched:
    """Around every request: it is timed, counted and logged, and no fault of ours shows in a reply.

    Args:
        app: what answers.
        service: what counts.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except ClientDisconnect:
            status = 499  # as nginx calls it
        except Exception:
            LOGGER.exception("failed", extra={"fields": {"route": _route(scope)}})
            if status:  # the reply has begun, and stays incomplete
                raise
            await _short(scope, Refusal(500, "the request failed"))(scope, receive, sent)
        finally:
            seconds = time.perf_counter() - started
            self.service.metrics.answered(_route(scope), status, seconds)
            if self.service.config.log_requests:
                took = round(1000 * seconds, 3)
                fields = {"route": _route(scope), "status": status, "milliseconds": took}
                LOGGER.info("request", extra={"fields": fields})


def _examples(service: Service) -> dict[str, Any]:
    """Bodies that the model takes. They show values of its features, so that none are shown behind tokens."""
    if service.tokens.known or not service.models.ready:
        return {}
    encoder = service.models.served(None).scorer.bundle.encoder
    return {
        "/v1/score": example_score(encoder),
        "/v1/explain": {"row": example_row(encoder)},
        "/invocations": {"dataframe_records": [example_row(encoder)]},
    }


async def _refresh(service: Service) -> None:
    while True:
        await asyncio.sleep(_REFRESH)
        if service.outcomes is not None:
            await asyncio.to_thread(service.outcomes.look)
        service.metrics.refresh()


def _route(scope: Scope) -> str:
    """The route of a request, with names for the parts that vary."""
    return str(getattr(scope.get("route"), "path", "none"))


def _short(scope: Scope, refusal: Refusal) -> Response:
    """The reply in the form of the protocol that was asked."""
    return refusal.reply(short=scope["path"].startswith("/v2"))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _short(request.scope, error)


def _no_route(request: Request, error: Exception) -> Response:
    """No such route, or not by this method."""
    assert isinstance(error, HTTPException)
    return _short(request.scope, Refusal(error.status_code, error.detail, headers=error.headers))
