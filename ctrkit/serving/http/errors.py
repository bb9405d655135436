"""Replies to requests that are not answered: message, faulty field and mend, and never a traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from ctrkit.errors import InputError

JSON = "application/json"
# msgspec ends its messages with the place of a fault: " - at `$.candidates[0].price`".
_PLACE = re.compile(r" - at `(?:key in )?\$\.?(.*)`$", re.DOTALL)
_FIELD = re.compile(r"^Object (?:contains unknown|missing required) field `(.*?)`", re.DOTALL)


class Problem(msgspec.Struct):
    """What is wrong with a request.

    Attributes:
        message: a sentence.
        path: the faulty field, such as `candidates[3].price`; null if there is none.
        hint: what to do; null if nothing is known.
    """

    message: str
    path: str | None
    hint: str | None


class ErrorReply(msgspec.Struct):
    """The reply to a request that is not answered.

    Attributes:
        error: what is wrong.
    """

    error: Problem


class ShortError(msgspec.Struct):
    """The same in the Open Inference Protocol.

    Attributes:
        error: what is wrong, after the faulty field.
    """

    error: str


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        message: what is wrong, as a sentence without a full stop.
        path: the faulty field, such as `candidates[3].price`.
        hint: what the caller should do.
        headers: further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        path: str | None = None,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.path, self.hint = status, message, path, hint
        self.headers = dict(headers or {})

    @classmethod
    def of_input(cls, error: InputError) -> Refusal:
        """A body with an impossible value, by the error that found it. Names of files stay here."""
        row = "" if error.row is None else f"[{error.row}]"
        place = None if error.column is None else f"{error.column}{row}"
        return cls(422, error.problem, path=place or error.argument, hint=error.hint)

    @classmethod
    def of_decoding(cls, error: msgspec.MsgspecError | UnicodeDecodeError) -> Refusal:
        """A body that is no JSON, or has an unknown field or a value of a wrong type."""
        text = str(error)
        named = (_PLACE.search(text), _FIELD.search(text))
        path = ".".join(found[1] for found in named if found and found[1])
        return cls(422, _PLACE.sub("", text), path=path or None)

    def reply(self, *, short: bool = False) -> Response:
        """The reply.

        Args:
            short: whether the error is one text, as the Open Inference Protocol wants it.
        """
        content: ErrorReply | ShortError = ErrorReply(Problem(self.message, self.path, self.hint))
        if short:
            content = ShortError(self.message if self.path is None else f"{self.path}: {self.message}")
        return Response(msgspec.json.encode(content), self.status, self.headers, JSON)


class NotReady(Refusal):
    """No model is loaded."""

    def __init__(self) -> None:
        super().__init__(503, "no model is loaded", hint="Try again later", headers={"Retry-After": "1"})
