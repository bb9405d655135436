"""The rows of a log from some time on, such as those that a policy has not learnt from."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.sample import taken

TIME = "timestamp"


@dataclass(frozen=True)
class LaterPart(LogPart):
    """The rows of a part from a time on.

    Attributes:
        part: the rows of the log.
        start: the time, in seconds as in the log's `timestamp`; earlier rows are left out.
    """

    part: LogPart
    start: float

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
        """The later rows in order (see `LogPart.batches`)."""
        for log in self.part.batches(None if columns is None else {*columns, TIME}):
            later = log.table[TIME].to_numpy() >= self.start
            if later.all():
                yield log
            elif later.any():
                yield taken(log, later)
