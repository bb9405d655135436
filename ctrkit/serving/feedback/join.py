"""Joins a journal's decisions with what came of them: a log for `ctrkit ope`, or rows for `ctrkit train`."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.errors import ConfigError, DataError
from ctrkit.experiments.interleaving import Preference, preference
from ctrkit.schema import CANDIDATE_PREFIX, SERVED_PREFIX
from ctrkit.serving.feedback.entries import Decision
from ctrkit.serving.feedback.journal import DECISIONS, Reader
from ctrkit.serving.feedback.shown import Shown, shown_of
from ctrkit.tables import atomic_path

ROWS = ("decisions", "impressions")
REWARDS = ("click", "conversion", "value")
# Decisions that are held at once.
_PART = 10_000
_USER = "user_id"


@dataclass(frozen=True)
class Join:
    """What a journal became.

    Attributes:
        shown: the candidates that were shown.
        preferences: (version that decided, version beside it) -> which of them got more clicks in lists that
            both have filled.
    """

    shown: Shown
    preferences: dict[tuple[str, str], Preference]


def join_journal(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    rows: str = "decisions",
    reward: str = "click",
    window: float | None = None,
    id: str | None = None,
) -> Join:
    """Write the decisions of a journal with their events as a log (see `ctrkit.join_feedback`).

    Raises:
        ConfigError: the log is to be no parquet file.
        DataError: there is no journal, nothing of it was shown, a decision has no ids, or a feature has the
            name of another column of the log.
        RunError: the log cannot be written.
    """
    if Path(out).suffix != ".parquet":
        raise ConfigError(
            "the log is a parquet file", argument="out", hint="Give a path that ends in .parquet"
        )
    shown = shown_of(Path(folder), rows, window)
    if shown.table.is_empty():
        what = "no decision that was shown" + ("" if window is None else " and is old enough")
        hint = "Serve with --journal FOLDER --set policy=softmax:temperature=0.1, or tell what was shown"
        raise DataError(f"the journal has {what}", file=os.fspath(folder), hint=hint)
    with tempfile.TemporaryDirectory() as scratch, atomic_path(out) as file:
        parts: list[Path] = []
        points: Counter[tuple[str, str, int]] = Counter()
        for part in _parts(Path(folder), shown):
            table = _decisions(part, reward, id) if rows == "decisions" else _impressions(part)
            parts.append(Path(scratch) / f"{len(parts)}.parquet")
            table.write_parquet(parts[-1])
            points.update(_points(part))
        # A part may lack a column, or know it as empty alone.
        pl.concat(map(pl.scan_parquet, parts), how="diagonal_relaxed").sink_parquet(file)
    pairs = dict.fromkeys((first, second) for first, second, _ in points)
    return Join(shown, {pair: preference(*(points[*pair, sign] for sign in (1, -1, 0))) for pair in pairs})


@dataclass(frozen=True)
class _Row:
    """A candidate that was shown.

    Attributes:
        decision: its decision.
        found: its row of `Shown.table`.
    """

    decision: Decision
    found: dict[str, Any]

    def of(self, columns: Mapping[str, Sequence[Any]], name: str) -> Any:
        """The candidate's value of a column; None where its decision has none."""
        cells = columns.get(name)
        return None if cells is None else cells[self.found["place"]]


def _parts(folder: Path, shown: Shown) -> Iterator[list[_Row]]:
    """The rows of a log, some thousand at once."""
    reader, rows = Reader(folder, DECISIONS, Decision), []
    for file, of_file in shown.table.group_by("file", maintain_order=True):
        wanted = of_file.iter_rows(named=True)
        next_one = next(wanted, None)
        for row, decision in enumerate(reader.entries(shown.files[file[0]])):
            while next_one is not None and next_one["row"] == row:
                rows.append(_Row(decision, next_one))
                next_one = next(wanted, None)
            if len(rows) >= _PART:
                yield rows
                rows = []
            if next_one is None:
                break
    if rows:
        yield rows


def _points(rows: Sequence[_Row]) -> Iterator[tuple[str, str, int]]:
    """Of each list of two versions: which decided, the other, and 1 if that has more clicks, or -1, or 0."""
    for _, of_one in groupby(rows, lambda row: id(row.decision)):
        clicked = [*of_one]
        decision = clicked[0].decision
        if decision.interleaved is None:
            continue
        teams = dict(zip(decision.interleaved.order, decision.interleaved.versions, strict=True))
        others = [one for one in teams.values() if one != decision.version]
        if others:
            more = sum(1 if teams[row.found["place"]] != decision.version else -1
                       for row in clicked if row.found["click"])  # fmt: skip
            yield decision.version, others[0], (more > 0) - (more < 0)


def _decisions(rows: Sequence[_Row], reward: str, id: str | None) -> pl.DataFrame:
    """The rows of a bandit log; a column that a request did not give is empty there."""
    decisions = [one.decision for one in rows]
    ids = [_ids(one, id) for one in decisions]
    columns = _context(decisions)
    for name in dict.fromkeys(name for one in decisions for name in one.candidates):
        if any(name != (id or one.id) for one in decisions):
            columns[f"{CANDIDATE_PREFIX}{name}"] = [
                one.candidates.get(name, [None] * len(found))
                for one, found in zip(decisions, ids, strict=True)
            ]
    labels: dict[str, list[Any]] = {name: [one.found[name] for one in rows] for name in REWARDS}
    own: dict[str, list[Any]] = {
        **_head(decisions),
        "candidates": ids,
        "logging_probabilities": [one.probabilities for one in decisions],
        "action": [found[one.found["place"]] for one, found in zip(rows, ids, strict=True)],
        "propensity": [one.propensity for one in decisions],
        **labels,
        "reward": labels[reward],
    }
    return _table(columns, own)


def _impressions(rows: Sequence[_Row]) -> pl.DataFrame:
    """The rows of a training table; a feature that a request did not give is empty there."""
    decisions = [one.decision for one in rows]
    columns = _context(decisions)
    for name in dict.fromkeys(name for one in decisions for name in one.candidates):
        columns[name] = [one.of(one.decision.candidates, name) for one in rows]
    served = dict.fromkeys(name for one in decisions for name in one.outputs)
    own: dict[str, list[Any]] = {
        **_head(decisions),
        **{name: [one.found[name] for one in rows] for name in (*REWARDS, "click_time", "conversion_time")},
        "propensity": [
            one.decision.propensity if one.found["place"] == one.decision.choice else None for one in rows
        ],
        "campaign": [one.campaign for one in decisions],
        "bid": [one.bid for one in decisions],
        "cost": [one.found["cost"] for one in rows],
        **_ranks(rows),
        **{f"{SERVED_PREFIX}{name}": [one.of(one.decision.outputs, name) for one in rows] for name in served},
    }
    return _table(columns, own)


def _ranks(rows: Sequence[_Row]) -> dict[str, list[Any]]:
    """The rank of each candidate in a list of two versions, from 1, and the version that picked it."""
    lists = [one.decision.interleaved for one in rows]
    if not any(lists):
        return {}
    ranks = [
        None if of is None else of.order.index(one.found["place"])
        for one, of in zip(rows, lists, strict=True)
    ]
    return {
        "rank": [None if rank is None else rank + 1 for rank in ranks],
        "picked_by": [
            None if of is None or rank is None else of.versions[rank]
            for of, rank in zip(lists, ranks, strict=True)
        ],
    }


def _context(decisions: Sequence[Decision]) -> dict[str, list[Any]]:
    """The columns of the context, and the user's key where it is no feature."""
    names = dict.fromkeys(name for one in decisions for name in one.context)
    columns: dict[str, list[Any]] = {name: [one.context.get(name) for one in decisions] for name in names}
    if _USER not in columns and any(one.user is not None for one in decisions):
        columns[_USER] = [one.user for one in decisions]
    return columns


def _head(decisions: Sequence[Decision]) -> dict[str, list[Any]]:
    return {
        "event_id": [one.request_id for one in decisions],
        "timestamp": [one.time for one in decisions],
        "model_version": [one.version for one in decisions],
        "arm": [one.arm for one in decisions],
    }


def _table(columns: Mapping[str, Sequence[Any]], own: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    for name in columns:
        if name in own:
            hint = "Rename the feature, or join the journal on your own"
            raise DataError("a feature has the name of a column of the log", column=name, hint=hint)
    return pl.DataFrame([pl.Series(name, cells, strict=False) for name, cells in {**columns, **own}.items()])


def _ids(decision: Decision, id: str | None) -> Sequence[Any]:
    """The ids of the candidates."""
    name = id or decision.id
    if name is None or name not in decision.candidates:
        what = "no column of ids" if name is None else f"no column '{name}'"
        raise DataError(
            f"the candidates of request '{decision.request_id}' have {what}",
            hint="Give the name of the column as id=NAME",
        )
    return decision.candidates[name]
