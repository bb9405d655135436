"""Named columns that grow while auctions are played."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray


class GrowingColumns:
    """Columns that grow by a piece at a time; a column whose pieces are all None does not exist."""

    def __init__(self) -> None:
        self._pieces: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)

    def append(self, **pieces: NDArray[Any] | None) -> None:
        """Add a piece to each column; None adds nothing."""
        for name, piece in pieces.items():
            if piece is not None:
                self._pieces[name].append(piece)

    def __contains__(self, name: str) -> bool:
        return name in self._pieces

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A column in one piece."""
        if len(self._pieces[name]) > 1:
            self._pieces[name] = [np.concatenate(self._pieces[name])]
        return self._pieces[name][0]

    def get(self, name: str) -> NDArray[Any] | None:
        """A column in one piece; None if it does not exist."""
        return self[name] if name in self._pieces else None

    def take(self, name: str) -> NDArray[Any]:
        """A column in one piece, which is removed from here."""
        column = self[name]
        del self._pieces[name]
        return column
