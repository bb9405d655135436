"""Logs that several logging policies wrote, told by their columns, in named estimates."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import DataError, nearest
from ctrkit.ope.estimators.base import Estimate
from ctrkit.ope.logs.bandit_log import PROPENSITY_TOLERANCE, BanditLog
from ctrkit.ope.logs.survey import LoggingPolicyId
from ctrkit.ope.structured.logging_policies import (
    BalancedLoggers,
    BalancedLoggersDoublyRobust,
    LoggerRows,
    NaiveLoggers,
    NaiveLoggersDoublyRobust,
    WeightedLoggers,
    WeightedLoggersDoublyRobust,
    logger_shares,
)
from ctrkit.ope.structured.slate_log import places
from ctrkit.schema import Column, check_column

LoggerEstimator: TypeAlias = NaiveLoggers | BalancedLoggers | WeightedLoggers

# `propensity_<logger_id>` holds one logger's probabilities, where there is no list of all.
PREFIX = "propensity_"
# What each estimator does, for tables.
MEANING: Mapping[str, str] = {
    "balanced-ips": "as if one logger had mixed all loggers in their shares; never more variance than naive",
    "naive-ips": "each row weighted by its own logger",
    "weighted-ips": "each logger's own estimate, in inverse proportion to its variance; needs many clicks",
    "balanced-dr": "as balanced-ips, with a reward model",
    "naive-dr": "as naive-ips, with a reward model",
    "weighted-dr": "as weighted-ips, with a reward model",
}
ALONE = (
    "The log does not tell with which probability every logger would have chosen each action "
    "(logger_probabilities): the balanced estimator, the best of the three, needs it."
)


class LoggerLog:
    """Estimates a policy's value from the rows of several loggers.

    The log needs `logger_id`, and `propensity`, with which the row's own logger chose the action. The
    balanced estimator needs every logger's probability of the logged action too: the list
    `logger_probabilities`, in the order of the sorted ids, or a column `propensity_<id>` for each.

    Args:
        shares: each logging policy's share of all decisions of the log (see `count_by_logging_policy`), by
            its id. With them only sums are kept, else the rows, as few numbers each, until `result`: the
            weights of the balanced estimator are no sums of anything that is known before the shares.
        reward_range: the least and the largest reward; without it intervals are normal ones.
    """

    def __init__(
        self,
        shares: Mapping[LoggingPolicyId, float] | None = None,
        reward_range: tuple[float, float] | None = None,
    ) -> None:
        self.shares = None if shares is None else {key: shares[key] for key in sorted(shares)}
        self.reward_range = reward_range
        self.estimators: tuple[LoggerEstimator, ...] = ()
        self.kept: list[pl.DataFrame] = []
        self.clustered = False
        self.alone = False

    def update(
        self,
        log: BanditLog,
        policy_probability: Floats,
        q_logged: Floats | None = None,
        q_policy: Floats | None = None,
    ) -> None:
        """Take in a batch; arrays [N], the predictions in all batches or in none.

        Args:
            policy_probability: the policy's, of the logged action.
            q_logged, q_policy: of a reward model, for the doubly robust forms (see `LoggerRows`).

        Raises:
            DataError: for a logger that `shares` does not name, probabilities for another number of
                loggers, and a logger's own that is not the propensity.
        """
        if self.shares is not None:
            known = log.table["logger_id"].is_in(list(self.shares))
            if not known.all():
                row = int(known.arg_min() or 0)
                file, at = log.locate(row)
                logger = log.table["logger_id"][row]
                raise DataError(
                    f"logger {logger!r} is none of the loggers whose shares are given",
                    file=file,
                    column="logger_id",
                    row=at,
                    hint=nearest(str(logger), map(str, self.shares)),
                )
        columns: dict[str, Any] = {
            "logger": log.table["logger_id"],
            "policy": policy_probability,
            "propensity": log.propensity,
            "reward": log.reward,
            "unit": log.units,
            "count": log.counts,
        }
        if q_logged is not None and q_policy is not None:
            columns |= {"q_logged": q_logged, "q_policy": q_policy}
        if (logging := self._logging(log)) is not None:
            columns |= {"logging": logging}
        self.alone |= logging is None
        self.clustered |= log.clustered
        table = pl.DataFrame(columns).with_columns(places(log))
        if self.shares is None:
            self.kept.append(table)
        else:
            self.estimators = self._updated(table, self.shares)

    def merge(self, other: LoggerLog) -> None:
        """Take in what another with the same settings has seen, of these or of other users."""
        self.kept += other.kept
        self.clustered |= other.clustered
        self.alone |= other.alone
        if not self.estimators:
            self.estimators = deepcopy(other.estimators)
            return
        theirs = {estimator.name: estimator for estimator in other.estimators}
        for estimator in self.estimators:
            if estimator.name in theirs:
                estimator.merge(theirs[estimator.name])  # type: ignore[arg-type]

    def result(self, confidence: float = 0.95) -> tuple[Estimate, ...]:
        """The estimates that the log's columns allow, the one to trust first.

        Raises:
            DataError: for probabilities of another number of loggers than the log has.
        """
        estimators = self.estimators
        if self.kept:
            table = pl.concat(self.kept, how="vertical_relaxed")
            counts = table.group_by("logger").agg(pl.col("count").sum()).sort("logger")
            share = logger_shares(counts["count"].to_numpy()).tolist()
            shares = dict(zip(counts["logger"].to_list(), share, strict=True))
            estimators = self._updated(table, shares)
        return tuple(estimator.result(confidence) for estimator in estimators)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what the log lacks."""
        return (ALONE,) if self.alone else ()

    def _logging(self, log: BanditLog) -> pl.Series | None:
        """Every logger's probability of each logged action, as a list column; None where unknown."""
        table = log.table
        if "logger_probabilities" in table.columns:
            return table["logger_probabilities"]
        ids: list[LoggingPolicyId]
        if self.shares is not None:
            ids = list(self.shares)
        else:
            called = [name.removeprefix(PREFIX) for name in table.columns if name.startswith(PREFIX)]
            if table.schema["logger_id"].is_integer():
                ids = sorted(int(name) for name in called if name.isdecimal())
            else:
                # `propensity_score` is another name of the propensity.
                ids = sorted(name for name in called if name != "score")
        names = [f"{PREFIX}{logger}" for logger in ids]
        if not names or not set(names) <= set(table.columns):
            return None
        for name in names:
            _check_probabilities(log, name)
        return table.select(pl.concat_list(pl.col(names).cast(pl.Float64))).to_series()

    def _updated(
        self, table: pl.DataFrame, shares: Mapping[LoggingPolicyId, float]
    ) -> tuple[LoggerEstimator, ...]:
        """The estimators with some rows more; new ones before the first."""
        rows = _rows(table, list(shares), self.clustered)
        known = np.array(list(shares.values())) if "logging" in table.columns else None
        estimators = self.estimators or _estimators(
            len(shares), known, rows.q_logged is not None, self.reward_range
        )
        for estimator in estimators:
            estimator.update(rows)
        return estimators


def _estimators(
    loggers: int, shares: Floats | None, modelled: bool, reward_range: tuple[float, float] | None
) -> tuple[LoggerEstimator, ...]:
    """New estimators; the balanced ones where all loggers' probabilities are known."""
    found: list[LoggerEstimator] = []
    if shares is not None:
        found.append(BalancedLoggers(shares, reward_range))
    found += [NaiveLoggers(reward_range), WeightedLoggers(loggers)]
    if modelled and shares is not None:
        found.append(BalancedLoggersDoublyRobust(shares, reward_range))
    if modelled:
        found += [NaiveLoggersDoublyRobust(reward_range), WeightedLoggersDoublyRobust(loggers)]
    return tuple(found)


def _rows(table: pl.DataFrame, ids: list[LoggingPolicyId], clustered: bool) -> LoggerRows:
    """What the estimators see; `ids` are the sorted loggers."""
    loggers = table["logger"].replace_strict(ids, range(len(ids)), return_dtype=pl.Int64).to_numpy()
    propensity = table["propensity"].to_numpy()
    own = np.arange(len(loggers)), loggers
    if "logging" in table.columns:
        lengths = table["logging"].list.len().to_numpy()
        if (wrong := np.flatnonzero(lengths != len(ids))).size:
            raise _refused(
                table,
                int(wrong[0]),
                f"there are {lengths[wrong[0]]} probabilities for {len(ids)} loggers",
                "Give one for each logger of the log, in the order of their sorted ids",
            )
        logging = table["logging"].explode().to_numpy().reshape(len(loggers), len(ids))
        if (
            wrong := np.flatnonzero(np.abs(logging[own] - propensity) > PROPENSITY_TOLERANCE * propensity)
        ).size:
            at = int(wrong[0])
            raise _refused(
                table,
                at,
                f"logger {table['logger'][at]!r} chose with probability {propensity[at]:g} by the propensity "
                f"and {logging[own][at]:g} by this column",
                "Log both from the same distribution, the loggers in the order of their sorted ids",
            )
    else:
        logging = np.full((len(loggers), len(ids)), np.nan)
        logging[own] = propensity
    q_logged, q_policy = (
        table[name].to_numpy() if name in table.columns else None for name in ("q_logged", "q_policy")
    )
    users = table["unit"].to_numpy() if clustered else None
    policy, rewards = table["policy"].to_numpy(), table["reward"].to_numpy()
    counts = table["count"].to_numpy()
    return LoggerRows(loggers, logging, policy, rewards, q_logged, q_policy, users, counts=counts)


def _check_probabilities(log: BanditLog, name: str) -> None:
    """Refuse a logger's column that holds anything but probabilities."""
    kind = Column(name, "number", "a logger's probability of the logged action", low=0.0)
    values = check_column(log.table[name], kind, log.file)
    if (wrong := np.flatnonzero(values.to_numpy() > 1)).size:
        file, row = log.locate(int(wrong[0]))
        raise DataError(
            f"{values[int(wrong[0])]:g} is above 1 and no probability",
            file=file,
            column=name,
            row=row,
            hint="Give the probability with which this logger would have chosen the logged action",
        )


def _refused(table: pl.DataFrame, at: int, problem: str, hint: str) -> DataError:
    file, row = table["file"][at], table["row"][at]
    return DataError(problem, file=file, column="logger_probabilities", row=row, hint=hint)
