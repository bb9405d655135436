"""Who may ask what: bearer tokens, each with scopes."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ctrkit.errors import ConfigError, missing, nearest
from ctrkit.serving.http.errors import Refusal

Scope: TypeAlias = Literal["score", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_BEARER = HTTPBearer(auto_error=False, description="A token of the server's file of tokens.")
_HASHED = "sha256="
# Shorter ones can be guessed.
_SHORTEST = 16


@dataclass(frozen=True)
class Token:
    """Someone who may ask.

    Attributes:
        name: who, for the logs.
        scopes: what they may ask.
        digest: SHA-256 of the token.
    """

    name: str
    scopes: frozenset[Scope]
    digest: bytes


class Tokens:
    """The tokens that a server knows; without any, all may ask all.

    Args:
        known: the tokens.
    """

    def __init__(self, known: Sequence[Token] = ()) -> None:
        self.known = tuple(known)

    @classmethod
    def read(cls, file: Path) -> Tokens:
        """The tokens of a file.

        A line is `NAME:SCOPE,SCOPE:TOKEN`, where the token stands as it is or as `sha256=` and the 64
        hexadecimal digits of its hash. Empty lines, and lines that begin with `#`, are skipped.

        Raises:
            ConfigError: the file is missing or empty, or a line is wrong.
        """
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise missing("config", file) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("the file of tokens cannot be read", file=file) from error
        known: list[Token] = []
        for row, line in enumerate(lines):
            if line.strip() and not line.lstrip().startswith("#"):
                known.append(_token(line.strip(), file, row))
        if not known:
            raise ConfigError("the file has no tokens", file=file, hint="Write NAME:SCOPES:TOKEN lines")
        for what, given in (("name", [t.name for t in known]), ("token", [t.digest for t in known])):
            if len({*given}) < len(given):
                raise ConfigError(f"two lines have the same {what}", file=file, hint="Remove one")
        return cls(known)

    def check(self, given: str | None, scope: Scope) -> None:
        """Check that a token is known and has a scope.

        Raises:
            Refusal: 401, it is missing or not known; 403, it lacks the scope.
        """
        if not self.known:
            return
        digest = sha256((given or "").encode()).digest()
        # Every token is compared, so that the time of an answer tells nothing.
        found = [one for one in self.known if hmac.compare_digest(one.digest, digest)]
        if given is None or not found:
            raise Refusal(
                401,
                "the token is missing" if given is None else "the token is not known",
                hint="Send the header `Authorization: Bearer TOKEN`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope not in found[0].scopes:
            raise Refusal(403, f"the token lacks the scope '{scope}'", hint="Ask with another token")

    def need(self, scope: Scope) -> Any:
        """A dependency of a route: the request has a token with this scope."""

        async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
            self.check(None if given is None else given.credentials, scope)

        return Depends(check)


def _token(line: str, file: Path, row: int) -> Token:
    """The token of a line; messages do not show it."""
    parts = [part.strip() for part in line.split(":", 2)]
    if len(parts) < 3 or not all(parts):
        raise ConfigError("the line is not of the form NAME:SCOPES:TOKEN", file=file, row=row)
    name, scopes, text = parts
    chosen = [scope.strip() for scope in scopes.split(",")]
    for scope in chosen:
        if scope not in SCOPES:
            raise ConfigError(f"there is no scope '{scope}'", file=file, row=row, hint=nearest(scope, SCOPES))
    if text.startswith(_HASHED):
        digits = text.removeprefix(_HASHED)
        if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
            raise ConfigError("the hash has not 64 hexadecimal digits", file=file, row=row)
        digest = bytes.fromhex(digits)
    elif len(text) < _SHORTEST:
        raise ConfigError(f"the token has fewer than {_SHORTEST} characters", file=file, row=row)
    else:
        digest = sha256(text.encode()).digest()
    return Token(name, frozenset(scope for scope in SCOPES if scope in chosen), digest)
