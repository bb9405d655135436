"""Estimates propensities for a log that has none, with a prominent note about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ctrkit.arrays import Floats
from ctrkit.errors import DataError, nearest
from ctrkit.ope.logs.bandit_log import BanditLog
from ctrkit.ope.models.propensities import EstimatedPropensities, balance, estimate_propensities
from ctrkit.ope.models.reward_features import context_columns
from ctrkit.policies.candidates import candidate_mask, ragged
from ctrkit.schema import BANDIT_LOG, LogSchema

PROPENSITY = next(column for column in BANDIT_LOG.columns if column.name == "propensity")
_OF_ALL = "logging_probabilities"
# A column that the weights balance has a difference of less than this many standard deviations.
BALANCED = 0.1
# With few rows of an action, chance explains differences up to this many times their noise.
CHANCE = 3.0
# Probabilities of all actions are computed for logs of at most this many rows times actions.
CELLS = 50_000_000
# Prior rows and largest number of rounds in fitting the actions' factors to the rows' candidates.
STEADY, ROUNDS = 10.0, 30
# Columns that lower the log loss by less than this share explain almost nothing.
LEAST_GAIN = 0.01
TOO_LONG = (
    "The log is too long to estimate propensities among each row's own candidates: every action of the log "
    "counts as available in every row. If lists of candidates differ, give a shorter part of the log."
)


def lacks_propensities(tables: Sequence[pl.DataFrame], schema: LogSchema = BANDIT_LOG) -> bool:
    """Whether no file of a log has propensities, or probabilities of all candidates instead."""
    return not any({PROPENSITY.name, _OF_ALL} & schema.names(table.columns) for table in tables)


def without_propensities(table: pl.DataFrame) -> pl.DataFrame:
    """The table with a placeholder propensity of 1, so that its other columns can be checked."""
    return table.with_columns(pl.lit(1.0).alias(PROPENSITY.name))


def with_estimated_propensities(
    log: BanditLog, columns: Sequence[str] | None = None, excluded: Collection[str] = (), seed: int = 0
) -> BanditLog:
    """The log with propensities estimated from its own rows; its notes and `balance` say how good they are.

    If the log has a candidates column, the probabilities of a row are divided among its own candidates.

    Args:
        log: a log with placeholder propensities.
        columns: columns that the logging policy may have chosen by; by default `context_columns`.
        excluded: columns that the default leaves out (see `context_columns`).
        seed: seed of the folds.

    Raises:
        DataError: a column does not exist, or the estimate is impossible (see `estimate_propensities`).
    """
    names = tuple(columns) if columns is not None else context_columns(log, excluded)
    table = log.table
    for name in names:
        if name not in table.columns:
            raise DataError(
                "no such context column", file=log.file, column=name, hint=nearest(name, table.columns)
            )
    context = table.select(name for name in names if not isinstance(table.schema[name], (pl.List, pl.Array)))
    every = len(log) * table["action"].n_unique() <= CELLS
    found = estimate_propensities(
        context, table["action"], log.counts, log.users, seed=seed, all_actions=every
    )
    propensity, lists, checked = found.logged, None, found.balance
    if found.all_actions is not None:
        mask = candidate_mask(log.candidates(slice(0, len(log))))
        shared = _of_candidates(found.actions, found.all_actions, log)
        propensity = shared[np.arange(len(log)), log.action_index]
        checked = balance(context, table["action"], propensity, log.counts)
        lists = ragged(shared, mask).alias("logging_probabilities")
    table = table.with_columns(pl.Series(PROPENSITY.name, propensity), *(() if lists is None else (lists,)))
    notes = (
        _loud(context.columns),
        _fit(found),
        *((TOO_LONG,) if not every and log.actions is None else ()),
        _balance(checked),
    )
    return replace(log, table=table, propensity=propensity, notes=(*log.notes, *notes), balance=checked)


def _of_candidates(actions: pl.Series, probabilities: Floats, log: BanditLog) -> Floats:
    """Probabilities of all actions [N, A] as probabilities of each row's candidates [N, K], which sum to 1.

    An action that is available in few rows was chosen in few rows, and so seems unlikely. Therefore each
    action gets a factor such that its expected number of choices, given the rows' candidates, equals the
    logged number (iterative proportional fitting: Deming and Stephan, 1940). `STEADY` added rows keep the
    factor of a rare action near 1.
    """
    candidates = log.candidates(slice(0, len(log)))
    mask = candidate_mask(candidates)
    flat = candidates.explode()
    index = np.minimum(actions.search_sorted(flat).to_numpy().astype(np.int64), len(actions) - 1)
    # A candidate that was never chosen has no probability of its own.
    there = (actions.gather(pl.Series(index)) == flat).to_numpy()
    rows = np.repeat(np.arange(len(mask)), mask.sum(axis=1))
    own = np.where(there, probabilities[rows, index], 0.0)
    chosen = np.bincount(actions.search_sorted(log.table["action"]).to_numpy(), log.counts, len(actions))
    factor = np.ones(len(actions))
    for _ in range(ROUNDS):
        shares = own * factor[index]
        shares /= np.bincount(rows, shares)[rows]
        step = (chosen + STEADY) / (np.bincount(index, shares * log.counts[rows], len(actions)) + STEADY)
        factor *= step
        if np.abs(step - 1).max() < 1e-3:
            break
    found = np.zeros(mask.shape)
    found[mask] = shares
    return found


def _loud(columns: Sequence[str]) -> str:
    read = ", ".join(columns) or "the actions' frequencies alone"
    return (
        "THE LOG HAS NO PROPENSITIES: they were estimated from the log itself, from "
        f"{read}. All results assume that the logging policy chose by nothing else. "
        "Each policy is compared with the logging policy as if they came from two independent logs, because "
        "weights were estimated from the same rows; the ranking treats the propensities as known."
    )


def _fit(found: EstimatedPropensities) -> str:
    gain = found.frequency_log_loss - found.log_loss
    meaning = "the columns explain part of how the logging policy chose"
    if gain < LEAST_GAIN * found.frequency_log_loss:
        meaning = "the columns explain little or nothing of how the logging policy chose"
    return (
        f"The log loss of the estimated propensities is {found.log_loss:.4g}, that of the actions' "
        f"frequencies {found.frequency_log_loss:.4g}: {meaning}."
    )


def _balance(table: pl.DataFrame) -> str:
    if not table.height:
        return "Balance was not checked: there is no context column."
    off = table.filter(pl.col("after").abs() > pl.max_horizontal(BALANCED, CHANCE * pl.col("noise")))
    if not off.height:
        return "With the estimated propensities as weights, all columns are balanced up to chance."
    worst = off.row(0, named=True)
    return (
        f"With the estimated propensities as weights, {off.height} of {table.height} pairs of action and "
        f"column are not balanced; the worst is {worst['column']} of action {worst['action']}, "
        f"{worst['after']:+.2g} standard deviations from the log's mean ({worst['before']:+.2g} unweighted)."
    )
