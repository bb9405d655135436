"""What a scoring request is."""

from __future__ import annotations

import msgspec

Cell = str | int | float | bool | None
Value = str | int | float | bool | list[Cell] | None


class ScoreBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A request for scores.

    Attributes:
        candidates: rows, or columns of equal length, which are quicker to read.
        context: features that all candidates share; histories are lists.
        user: key for the online store, where one is configured.
        request_id: the caller's name for the request.
    """

    candidates: list[dict[str, Value]] | dict[str, list[Value]]
    context: dict[str, Value] = {}
    user: str | None = None
    request_id: str | None = None

    @property
    def rows(self) -> int:
        """The number of candidates."""
        if isinstance(self.candidates, list):
            return len(self.candidates)
        return max((len(column) for column in self.candidates.values()), default=0)
