"""Faulty rows of a log: counted and set aside, so that the other rows can be audited.

`read_bandit_log` stops at the first fault, because no estimate may use a faulty log. An audit reports all
faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from ctrkit.arrays import Integers
from ctrkit.ope.formats import LogTable
from ctrkit.ope.logs.bandit_log import PROPENSITY_TOLERANCE, index_of_action, with_same_ids
from ctrkit.policies.given import SUM_TOLERANCE
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.schema.columns import TOLERANCE


@dataclass(frozen=True)
class Fault:
    """What is wrong with some rows of a file.

    Attributes:
        problem: a clause such as "the propensity is not in (0, 1]".
        columns: the columns at fault, under the schema's names.
        rows: indices in the file of all such rows.
    """

    problem: str
    file: str | None
    columns: tuple[str, ...]
    rows: Integers


def set_aside(
    source: LogTable, schema: LogSchema = BANDIT_LOG
) -> tuple[LogTable, Integers | None, list[Fault]]:
    """The valid rows of a file, their indices in it (None: all), and the faults of the other rows.

    A row counts under its first fault only. `read_bandit_log` refuses faults of whole columns (a missing
    column, or one of the wrong type).
    """
    table = with_same_ids(schema.named(source.table, source.file))
    faults, bad = [], np.zeros(table.height, dtype=bool)
    for problem, columns, fault in _checks(table):
        wrong = table.select(fault.fill_null(False)).to_series().to_numpy() & ~bad
        if wrong.any():
            faults.append(Fault(problem, source.file, columns, np.flatnonzero(wrong)))
            bad |= wrong
    sound = np.flatnonzero(~bad)
    contradicted = sound[_contradicted(table[sound])]
    if contradicted.size:
        problem = "the propensity differs from the logged probability of the action"
        columns = ("propensity", "logging_probabilities")
        faults.append(Fault(problem, source.file, columns, contradicted))
        bad[contradicted] = True
    if not faults:
        return source, None, []
    sound = np.flatnonzero(~bad)
    return LogTable(source.table[sound], source.file, source.notes), sound, faults


def _checks(table: pl.DataFrame) -> Iterator[tuple[str, tuple[str, ...], pl.Expr]]:
    """(problem, columns, expression that is true for faulty rows), in order of the checks."""
    schema = table.schema
    for name in ("action", "propensity", "reward", "candidates", "logging_probabilities"):
        if name in schema:
            yield f"the {name.replace('_', ' ')} is missing", (name,), pl.col(name).is_null()
    for name in ("propensity", "reward"):
        if name in schema and schema[name].is_float():
            yield f"the {name} is not a finite number", (name,), ~pl.col(name).is_finite()
    if "propensity" in schema and schema["propensity"].is_numeric():
        p = pl.col("propensity")
        yield "the propensity is not in (0, 1]", ("propensity",), (p <= 0) | (p > 1 + TOLERANCE)
    if not isinstance(schema.get("candidates"), pl.List):
        return
    candidates = pl.col("candidates")
    yield "the list of candidates is empty", ("candidates",), candidates.list.len() == 0
    yield (
        "the list names a candidate twice",
        ("candidates",),
        candidates.list.n_unique() != candidates.list.len(),
    )
    inner = schema["candidates"].inner  # type: ignore[attr-defined]
    if "action" in schema and inner.is_integer() == schema["action"].is_integer():
        yield (
            "the action is not one of the row's candidates",
            ("action", "candidates"),
            ~candidates.list.contains(pl.col("action").cast(inner)),
        )
    probabilities = schema.get("logging_probabilities")
    if not isinstance(probabilities, pl.List) or not probabilities.inner.is_numeric():
        return
    logged = pl.col("logging_probabilities")
    columns = ("logging_probabilities", "candidates")
    yield (
        "the number of probabilities is not the number of candidates",
        columns,
        logged.list.len() != candidates.list.len(),
    )
    odd = logged.list.eval(
        pl.element().is_null() | ~pl.element().cast(pl.Float64).is_between(-TOLERANCE, 1.0 + TOLERANCE)
    ).list.any()
    yield "a logged probability is missing or not in [0, 1]", columns[:1], odd
    yield (
        "the logged probabilities do not sum to 1",
        columns[:1],
        (logged.list.sum() - 1).abs() > SUM_TOLERANCE,
    )


def _contradicted(table: pl.DataFrame) -> Integers:
    """Otherwise valid rows whose propensity is not the logged probability of their action."""
    wanted = ("action", "propensity", "candidates", "logging_probabilities")
    whole = all(name in table.columns and table.schema[name] != pl.Null for name in wanted)
    if not whole or not table.height or not table.schema["logging_probabilities"].is_nested():
        return np.zeros(0, dtype=np.int64)
    index = index_of_action(table, None)
    chosen = table["logging_probabilities"].list.get(pl.Series(index)).cast(pl.Float64).to_numpy()
    propensity = table["propensity"].cast(pl.Float64).to_numpy()
    return np.flatnonzero(np.abs(chosen - propensity) > PROPENSITY_TOLERANCE * propensity)
