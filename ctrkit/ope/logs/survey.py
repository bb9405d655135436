"""What must be known of a whole log before its rows can be evaluated batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

import polars as pl

from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.logs.sample import Sample

LoggingPolicyId: TypeAlias = int | str


def count_by_logging_policy(log: BanditLog) -> dict[LoggingPolicyId, float]:
    """Number of decisions of each logging policy. Counts of a log's parts add up; divided by their sum they
    are the shares of the policies.
    """
    table = log.table.select("logger_id").with_columns(pl.Series("count", log.counts))
    found = table.group_by("logger_id").agg(pl.col("count").sum()).sort("logger_id")
    return dict(zip(found["logger_id"].to_list(), found["count"].to_list(), strict=True))


@dataclass(frozen=True)
class LogFacts:
    """Ranges and sets of some rows of a log.

    Attributes:
        rows: number of rows.
        binary: whether all rewards are 0 or 1.
        rewards: smallest and largest reward.
        times: first and last time, in unix seconds; None where the log has no timestamps.
        actions: sorted actions, where the log has no candidates column; else None.
        propensities: smallest and largest propensity.
        clustered: whether rows have users.
        notes: the notes of the log.
        balance: the balance table of estimated propensities, as in `BanditLog`.
        logging_policies: decisions of each logging policy; empty where the log does not name them.
    """

    rows: int
    binary: bool
    rewards: tuple[float, float]
    times: tuple[float, float] | None
    actions: pl.Series | None
    propensities: tuple[float, float]
    clustered: bool
    notes: tuple[str, ...]
    balance: pl.DataFrame | None
    logging_policies: Mapping[LoggingPolicyId, float]

    @classmethod
    def of(cls, log: BanditLog) -> Self:
        """The facts of a batch."""
        return cls(
            len(log),
            log.binary,
            _range(log.table["reward"]),
            _range(log.table["timestamp"]) if "timestamp" in log.table.columns else None,
            log.actions,
            _range(log.table["propensity"]),
            log.clustered,
            log.notes,
            log.balance,
            count_by_logging_policy(log) if "logger_id" in log.table.columns else {},
        )

    def joined(self, other: LogFacts) -> LogFacts:
        """The facts of two parts together."""
        times = self.times and other.times and _hull(self.times, other.times)
        actions = self.actions
        if actions is not None and other.actions is not None:
            both = [one.to_frame("action") for one in (actions, other.actions)]
            actions = pl.concat(both, how="vertical_relaxed")["action"].unique().sort()
        return LogFacts(
            self.rows + other.rows,
            self.binary and other.binary,
            _hull(self.rewards, other.rewards),
            times,
            actions,
            _hull(self.propensities, other.propensities),
            self.clustered or other.clustered,
            tuple(dict.fromkeys((*self.notes, *other.notes))),
            self.balance if self.balance is not None else other.balance,
            Counter(self.logging_policies) + Counter(other.logging_policies),
        )


class Survey:
    """Facts of a log and a sample of its rows, from batches in any order.

    Args:
        most: largest number of rows of the sample; 0 for no sample.
        seed: seed of the sample.
        narrow: whether the sample keeps only the logged candidate (see `Sample`).
        named: columns that the sample keeps (see `Sample`).
    """

    def __init__(
        self, most: int = 0, seed: int = 0, narrow: bool = True, named: Collection[str] = ()
    ) -> None:
        self._facts: LogFacts | None = None
        self.sample = Sample(most, seed, narrow, named) if most else None

    @property
    def facts(self) -> LogFacts:
        """The facts of all batches so far; there must be at least one."""
        assert self._facts is not None
        return self._facts

    def update(self, log: BanditLog) -> None:
        """Add a batch."""
        self._join(LogFacts.of(log))
        if self.sample is not None:
            self.sample.update(log)

    def merge(self, other: Self) -> None:
        """Add the batches of another survey."""
        self._join(other.facts)
        if self.sample is None:
            self.sample = other.sample
        elif other.sample is not None:
            self.sample.merge(other.sample)

    def _join(self, facts: LogFacts) -> None:
        self._facts = facts if self._facts is None else self._facts.joined(facts)


def _range(values: pl.Series) -> tuple[float, float]:
    return float(values.min()), float(values.max())  # type: ignore[arg-type]


def _hull(one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], two[0]), max(one[1], two[1])
