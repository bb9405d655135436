"""JSON over HTTP, as the feature servers of others speak it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ctrkit.errors import reason
from ctrkit.names import cut
from ctrkit.online.store import StoreError

_SECONDS = 10.0


class _Stay(HTTPRedirectHandler):
    """No redirects: they would carry the key of an API to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def post(url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
    """The JSON answer to a JSON request.

    Args:
        url: where to.
        body: the request.
        headers: more headers, which no message repeats.

    Raises:
        StoreError: the server does not answer, or answers with an error or without JSON.
    """
    sent = {"Content-Type": "application/json", **(headers or {})}
    request = Request(url, json.dumps(body).encode(), sent, method="POST")
    try:
        with build_opener(_Stay).open(request, timeout=_SECONDS) as answer:
            return json.loads(answer.read())
    except HTTPError as error:
        with error:
            said = error.read(2000).decode(errors="replace")
        raise StoreError(f"{url} answers with status {error.code}: {cut(said, 300)}") from None
    except (OSError, HTTPException) as error:
        raise StoreError(f"{url} does not answer: {reason(error)}") from error
    except ValueError as error:
        raise StoreError(f"{url} does not answer with JSON: {reason(error)}") from error
