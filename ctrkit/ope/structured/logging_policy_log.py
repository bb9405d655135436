"""Estimates for logs of several logging policies, from the columns of the log."""

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
    BalancedLoggingPolicies,
    BalancedLoggingPoliciesDoublyRobust,
    LoggingPolicyRows,
    NaiveLoggingPolicies,
    NaiveLoggingPoliciesDoublyRobust,
    WeightedLoggingPolicies,
    WeightedLoggingPoliciesDoublyRobust,
    logging_policy_shares,
)
from ctrkit.ope.structured.slate_log import file_and_row
from ctrkit.schema import Column, check_column

LoggingPolicyEstimator: TypeAlias = NaiveLoggingPolicies | BalancedLoggingPolicies | WeightedLoggingPolicies

# Without a list of all probabilities, `propensity_<logger_id>` holds those of one logging policy.
PREFIX = "propensity_"
# What each estimator does, for tables.
MEANING: Mapping[str, str] = {
    "balanced-ips": "treats all logging policies as one mixture; its variance is never above naive-ips",
    "naive-ips": "each row is weighted by its own logging policy",
    "weighted-ips": "estimates of the logging policies, weighted by inverse variance; needs many clicks",
    "balanced-dr": "as balanced-ips, with a reward model",
    "naive-dr": "as naive-ips, with a reward model",
    "weighted-dr": "as weighted-ips, with a reward model",
}
ALONE = (
    "The log has no probabilities of every logging policy for each action (logger_probabilities). The "
    "balanced estimator, the best of the three, needs them."
)


class LoggingPolicyLog:
    """Estimates a policy's value from the rows of several logging policies.

    The log needs `logger_id`, the logging policy of the row, and `propensity`, with which that policy chose
    the action. The balanced estimator also needs every logging policy's probability of the logged action: a
    list column `logger_probabilities`, in the order of the sorted ids, or a column `propensity_<id>` for
    each.

    Args:
        shares: each logging policy's share of all decisions of the log, by its id (see
            `count_by_logging_policy`). With shares only sums are kept. Without them a few numbers of each row
            are kept until `result`, because the balanced estimator needs the shares first.
        reward_range: the smallest and the largest reward; without it intervals are normal.
    """

    def __init__(
        self,
        shares: Mapping[LoggingPolicyId, float] | None = None,
        reward_range: tuple[float, float] | None = None,
    ) -> None:
        self.shares = None if shares is None else {key: shares[key] for key in sorted(shares)}
        self.reward_range = reward_range
        self.estimators: tuple[LoggingPolicyEstimator, ...] = ()
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
        """Take in a batch of N rows.

        Args:
            log: the batch.
            policy_probability: [N] the policy's probability of the logged action.
            q_logged: [N] a reward model's prediction for the logged action, for the doubly robust estimators;
                given in all batches or in none.
            q_policy: [N] the mean of the predictions under the policy; given together with `q_logged`.

        Raises:
            DataError: a logging policy is not in `shares`, a row has probabilities for another number of
                logging policies, or the probability of the row's own logging policy is not the propensity.
        """
        if self.shares is not None:
            known = log.table["logger_id"].is_in(list(self.shares))
            if not known.all():
                row = int(known.arg_min() or 0)
                file, at = log.locate(row)
                logger = log.table["logger_id"][row]
                raise DataError(
                    f"logging policy {logger!r} is not in the given shares",
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
        table = pl.DataFrame(columns).with_columns(file_and_row(log))
        if self.shares is None:
            self.kept.append(table)
        else:
            self.estimators = self._updated(table, self.shares)

    def merge(self, other: LoggingPolicyLog) -> None:
        """Merge the rows of another with the same settings, of the same or of other users."""
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
        """The estimates that the log's columns allow; the most reliable one comes first.

        Raises:
            DataError: a row has probabilities for another number of logging policies than the log has.
        """
        estimators = self.estimators
        if self.kept:
            table = pl.concat(self.kept, how="vertical_relaxed")
            counts = table.group_by("logger").agg(pl.col("count").sum()).sort("logger")
            share = logging_policy_shares(counts["count"].to_numpy()).tolist()
            shares = dict(zip(counts["logger"].to_list(), share, strict=True))
            estimators = self._updated(table, shares)
        return tuple(estimator.result(confidence) for estimator in estimators)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on columns that the log lacks."""
        return (ALONE,) if self.alone else ()

    def _logging(self, log: BanditLog) -> pl.Series | None:
        """Every logging policy's probability of each logged action, as a list column; None where unknown."""
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
                # `propensity_score` is an alias of `propensity`.
                ids = sorted(name for name in called if name != "score")
        names = [f"{PREFIX}{logger}" for logger in ids]
        if not names or not set(names) <= set(table.columns):
            return None
        for name in names:
            _check_probabilities(log, name)
        return table.select(pl.concat_list(pl.col(names).cast(pl.Float64))).to_series()

    def _updated(
        self, table: pl.DataFrame, shares: Mapping[LoggingPolicyId, float]
    ) -> tuple[LoggingPolicyEstimator, ...]:
        """The estimators after more rows; new ones before the first rows."""
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
) -> tuple[LoggingPolicyEstimator, ...]:
    """New estimators; with the balanced ones if all logging policies' probabilities are known."""
    found: list[LoggingPolicyEstimator] = []
    if shares is not None:
        found.append(BalancedLoggingPolicies(shares, reward_range))
    found += [NaiveLoggingPolicies(reward_range), WeightedLoggingPolicies(loggers)]
    if modelled and shares is not None:
        found.append(BalancedLoggingPoliciesDoublyRobust(shares, reward_range))
    if modelled:
        found += [
            NaiveLoggingPoliciesDoublyRobust(reward_range),
            WeightedLoggingPoliciesDoublyRobust(loggers),
        ]
    return tuple(found)


def _rows(table: pl.DataFrame, ids: list[LoggingPolicyId], clustered: bool) -> LoggingPolicyRows:
    """The rows as the estimators see them; `ids` are the sorted ids of the logging policies."""
    loggers = table["logger"].replace_strict(ids, range(len(ids)), return_dtype=pl.Int64).to_numpy()
    propensity = table["propensity"].to_numpy()
    own = np.arange(len(loggers)), loggers
    if "logging" in table.columns:
        lengths = table["logging"].list.len().to_numpy()
        if (wrong := np.flatnonzero(lengths != len(ids))).size:
            raise _refused(
                table,
                int(wrong[0]),
                f"there are {lengths[wrong[0]]} probabilities for {len(ids)} logging policies",
                "Give one for each logging policy of the log, in the order of their sorted ids",
            )
        logging = table["logging"].explode().to_numpy().reshape(len(loggers), len(ids))
        if (
            wrong := np.flatnonzero(np.abs(logging[own] - propensity) > PROPENSITY_TOLERANCE * propensity)
        ).size:
            at = int(wrong[0])
            raise _refused(
                table,
                at,
                f"logging policy {table['logger'][at]!r} has probability {propensity[at]:g} in column "
                f"'propensity' and {logging[own][at]:g} in this column",
                "Log both from the same distribution, with the logging policies sorted by id",
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
    return LoggingPolicyRows(loggers, logging, policy, rewards, q_logged, q_policy, users, counts=counts)


def _check_probabilities(log: BanditLog, name: str) -> None:
    """Refuse a logging policy's column that holds anything but probabilities."""
    kind = Column(name, "number", "a logging policy's probability of the logged action", low=0.0)
    values = check_column(log.table[name], kind, log.file)
    if (wrong := np.flatnonzero(values.to_numpy() > 1)).size:
        file, row = log.locate(int(wrong[0]))
        raise DataError(
            f"{values[int(wrong[0])]:g} is above 1, so it is not a probability",
            file=file,
            column=name,
            row=row,
            hint="Give this logging policy's probability of the logged action",
        )


def _refused(table: pl.DataFrame, at: int, problem: str, hint: str) -> DataError:
    file, row = table["file"][at], table["row"][at]
    return DataError(problem, file=file, column="logger_probabilities", row=row, hint=hint)
