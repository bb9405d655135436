"""Some rows of a part of a log, such as those that a policy has not learnt from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.sample import taken


@dataclass(frozen=True)
class KeptPart(LogPart):
    """The rows of a part that a mask keeps.

    Attributes:
        part: the rows of the log.
        mask: which of them are kept, one bit for each, as `np.packbits` packs them.
    """

    part: LogPart
    mask: NDArray[np.uint8]

    @classmethod
    def of(cls, part: LogPart, kept: Booleans) -> KeptPart:
        """The rows of a part where `kept` [N] is True."""
        return cls(part, np.packbits(kept))

    @property
    def rows(self) -> int:  # type: ignore[override]
        """How many rows are read; fewer are given."""
        return self.part.rows

    @property
    def names(self) -> frozenset[str]:  # type: ignore[override]
        """The columns."""
        return self.part.names

    @property
    def lists(self) -> frozenset[str]:  # type: ignore[override]
        """The columns of lists."""
        return self.part.lists

    def batches(self, columns: Collection[str] | None = None) -> Iterator[BanditLog]:
        """The kept rows in order (see `LogPart.batches`)."""
        done = 0
        for log in self.part.batches(columns):
            bits = self.mask[done // 8 : -(-(done + len(log)) // 8)]
            kept = np.unpackbits(bits).astype(bool)[done % 8 : done % 8 + len(log)]
            done += len(log)
            if kept.all():
                yield log
            elif kept.any():
                yield taken(log, kept)
