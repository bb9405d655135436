"""A log without propensities, with estimated ones in their place, and a loud word on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from ctrkit.ope.log import BanditLog
from ctrkit.ope.moments import Floats
from ctrkit.ope.propensities import EstimatedPropensities, estimate_propensities
from ctrkit.ope.reward_features import context_columns
from ctrkit.policies.candidates import candidate_mask, ragged
from ctrkit.schema import BANDIT_LOG

PROPENSITY = next(column for column in BANDIT_LOG.columns if column.name == "propensity")
# A column that the weights balance has a difference of less than this many standard deviations.
BALANCED = 0.1
# Few rows of an action are off by chance: by so many times their noise hardly ever.
CHANCE = 3.0
# Probabilities of all actions are worked out for logs of at most so many rows times actions.
CELLS = 50_000_000


def lacks_propensities(tables: Sequence[pl.DataFrame]) -> bool:
    """Whether no file of a log has any."""
    names = {PROPENSITY.name, *PROPENSITY.aliases}
    return not any(names & set(table.columns) for table in tables)


def without_propensities(table: pl.DataFrame) -> pl.DataFrame:
    """The table with a propensity that stands for none, so that its other columns can be checked."""
    return table.with_columns(pl.lit(1.0).alias(PROPENSITY.name))


def with_estimated_propensities(
    log: BanditLog, columns: Sequence[str] | None = None, seed: int = 0
) -> BanditLog:
    """The log with propensities estimated from itself; notes and `balance` tell how far they can be trusted.

    Where the log names candidates, the estimated probabilities are shared out among each row's own.

    Args:
        columns: that the logging policy may have chosen by; by default `context_columns`.
        seed: of folds.

    Raises:
        DataError: see `estimate_propensities`.
    """
    names = tuple(columns) if columns is not None else context_columns(log)
    table = log.table
    context = table.select(name for name in names if not isinstance(table.schema[name], (pl.List, pl.Array)))
    every = len(log) * table["action"].n_unique() <= CELLS
    found = estimate_propensities(context, table["action"], log.users, seed=seed, all_actions=every)
    propensity, lists = found.logged, None
    if found.all_actions is not None:
        candidates = log.candidates(slice(0, len(log)))
        mask = candidate_mask(candidates)
        shared = _of_candidates(found.actions, found.all_actions, candidates)
        propensity = shared[np.arange(len(log)), log.action_index]
        lists = ragged(shared, mask).alias("logging_probabilities")
    table = table.with_columns(pl.Series(PROPENSITY.name, propensity), *(() if lists is None else (lists,)))
    notes = (_loud(context.columns), _fit(found), _balance(found.balance))
    return replace(log, table=table, propensity=propensity, notes=(*log.notes, *notes), balance=found.balance)


def _of_candidates(actions: pl.Series, probabilities: Floats, candidates: pl.Series) -> Floats:
    """Probabilities of all actions [N, A] as those of each row's candidates [N, K], which sum to 1."""
    mask = candidate_mask(candidates)
    flat = candidates.explode()
    place = np.minimum(actions.search_sorted(flat).to_numpy().astype(np.int64), len(actions) - 1)
    # A candidate that was never chosen has no probability of its own.
    there = (actions.gather(pl.Series(place)) == flat).to_numpy()
    rows = np.repeat(np.arange(len(mask)), mask.sum(axis=1))
    found = np.zeros(mask.shape)
    found[mask] = np.where(there, probabilities[rows, place], 0.0)
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def _loud(columns: Sequence[str]) -> str:
    read = ", ".join(columns) or "the actions' frequencies alone"
    return (
        "THE LOG HAS NO PROPENSITIES: they were estimated from it, by "
        f"{read}. All that follows rests on the logging policy having chosen by nothing else."
    )


def _fit(found: EstimatedPropensities) -> str:
    gain = found.frequency_log_loss - found.log_loss
    told = "which tells how it chose" if gain > 0 else "so that the columns tell nothing of how it chose"
    return (
        f"The estimated propensities' log loss is {found.log_loss:.4g}, that of the actions' frequencies "
        f"{found.frequency_log_loss:.4g}: {told}."
    )


def _balance(table: pl.DataFrame) -> str:
    if not table.height:
        return "There is no column to check the balance of."
    off = table.filter(pl.col("after").abs() > pl.max_horizontal(BALANCED, CHANCE * pl.col("noise")))
    if not off.height:
        return "Weighted by the estimated propensities, all columns are balanced, as far as chance allows."
    worst = off.row(0, named=True)
    return (
        f"Weighted by the estimated propensities, {off.height} of {table.height} pairs of action and column "
        f"are out of balance; the worst is {worst['column']} of action {worst['action']}, "
        f"{worst['after']:+.2g} standard deviations from the log's mean ({worst['before']:+.2g} unweighted)."
    )
