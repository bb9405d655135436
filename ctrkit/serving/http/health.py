"""Whether the server lives and is ready, what it serves, and its metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from ctrkit.serving.http.described import GUARDED, described
from ctrkit.serving.http.errors import NotReady
from ctrkit.serving.http.service import Service

SCHEMAS: tuple[type, ...] = ()


def routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["state"])
    admin = {"dependencies": [service.tokens.need("admin")], **described(*GUARDED)}

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @router.get("/readyz", **described(503))
    async def readyz() -> dict[str, str]:
        """A model is loaded."""
        if not service.models.ready:
            raise NotReady
        return {"status": "ok"}

    @router.get("/v1/model", **admin)
    async def model() -> dict[str, Any]:
        """The loaded models: versions, features, tasks, and how they compare with what was trained; and the
        versions of a registry that were refused, with the reason."""
        return {"models": service.models.known(), "refused": service.models.refused()}

    @router.get("/metrics", **admin, response_class=Response)
    async def metrics() -> Response:
        """All numbers for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
