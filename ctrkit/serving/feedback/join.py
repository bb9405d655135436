"""Joins the decisions of a journal with their events: a bandit log, which tells what a policy would earn."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ctrkit.errors import DataError
from ctrkit.schema import CANDIDATE_PREFIX
from ctrkit.serving.feedback.entries import Decision, Event
from ctrkit.serving.feedback.journal import read_journal
from ctrkit.tables import write_table

Reward = Literal["click", "conversion", "value"]


@dataclass(frozen=True)
class Join:
    """What a journal became.

    Attributes:
        rows: number of decisions in the log.
        repeated: number of decisions of a request that had one before.
        bids: number of decisions on bids, which are left out: a lost auction shows nothing of its candidate.
        unchosen: number of decisions without a choice, which are left out.
        open: number of decisions that are younger than the window, which are left out.
        events: number of events that count.
        repeated_events: number of events that had come before.
        strangers: number of events of no decision in the log.
        late: number of events outside the window of their decision.
        torn: number of files whose last line is not whole.
    """

    rows: int
    repeated: int
    bids: int
    unchosen: int
    open: int
    events: int
    repeated_events: int
    strangers: int
    late: int
    torn: int


def join_journal(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    reward: Reward = "click",
    window: float | None = None,
    id: str | None = None,
) -> Join:
    """Write the decisions of a journal as a log that `ctrkit ope` reads, one parquet file.

    A row holds the context under the names of the features, `candidates`, each further column of the
    candidates as a list `candidate_<feature>`, the action, its propensity, the policy's probabilities of all
    candidates, the labels `click` and `conversion`, the `value` of the conversions, and the reward.

    Args:
        folder: the journal.
        out: path of the log.
        reward: what the policy should earn: whether there was a click, or a conversion, or the sum of the
            values of the conversions.
        window: seconds after a decision in which its events count. Decisions that are younger than that at
            the newest entry are left out, as their events may yet come. None: all count.
        id: column of the candidates' ids; by default the one that the model's spec names.

    Raises:
        DataError: there is no journal, it has no decision with a choice, or a decision has no ids.
    """
    entries = read_journal(Path(folder))
    firsts = _firsts(entries.decisions, "request_id")
    chosen = [one for one in firsts if one.bid is None and one.choice is not None]
    times = [one.time for one in entries.decisions] + [one.time for one in entries.events]
    newest = max(times, default=0.0)
    kept = [one for one in chosen if window is None or one.time + window <= newest]
    if not kept:
        raise DataError(
            "the journal has no decision with a choice" + ("" if window is None else " that is old enough"),
            file=os.fspath(folder),
            hint="Serve with --journal FOLDER --set policy=softmax:temperature=0.1",
        )
    of = {one.request_id: one.time for one in kept}
    events = _firsts(entries.events, "event_id")
    own = [one for one in events if one.request_id in of]
    inside = [one for one in own if window is None or 0 <= one.time - of[one.request_id] <= window]
    by_request: dict[str, list[Event]] = defaultdict(list)
    for event in inside:
        by_request[event.request_id].append(event)
    write_table(_table(kept, [by_request[one.request_id] for one in kept], reward, id), out)
    return Join(
        rows=len(kept),
        repeated=len(entries.decisions) - len(firsts),
        bids=sum(one.bid is not None for one in firsts),
        unchosen=sum(one.bid is None and one.choice is None for one in firsts),
        open=len(chosen) - len(kept),
        events=len(inside),
        repeated_events=len(entries.events) - len(events),
        strangers=len(events) - len(own),
        late=len(own) - len(inside),
        torn=entries.torn,
    )


def _firsts(entries: Iterable[Any], name: str) -> list[Any]:
    """The first entry of each name, in order."""
    found: dict[str, Any] = {}
    for one in entries:
        found.setdefault(getattr(one, name), one)
    return list(found.values())


def _table(
    decisions: Sequence[Decision], events: Sequence[Sequence[Event]], reward: Reward, id: str | None
) -> pl.DataFrame:
    """The rows of the log; a column that a request did not give is empty there."""
    ids = [_ids(one, id) for one in decisions]
    places = [one.choice or 0 for one in decisions]
    context = dict.fromkeys(name for one in decisions for name in one.context)
    listed = dict.fromkeys(name for one in decisions for name in one.candidates)
    clicked = [any(one.kind == "click" for one in of) for of in events]
    converted = [any(one.kind == "conversion" for one in of) for of in events]
    value = [sum(one.value or 0.0 for one in of if one.kind == "conversion") for of in events]
    labels: dict[str, list[Any]] = {
        "click": [int(one) for one in clicked],
        "conversion": [int(one) for one in converted],
        "value": value,
    }
    columns: dict[str, list[Any]] = {name: [one.context.get(name) for one in decisions] for name in context}
    for name in listed:
        if all(name == (id or one.id) for one in decisions):
            continue
        columns[f"{CANDIDATE_PREFIX}{name}"] = [
            one.candidates.get(name, [None] * len(found)) for one, found in zip(decisions, ids, strict=True)
        ]
    if "user_id" not in columns and any(one.user is not None for one in decisions):
        columns["user_id"] = [one.user for one in decisions]
    columns |= {
        "event_id": [one.request_id for one in decisions],
        "timestamp": [one.time for one in decisions],
        "candidates": ids,
        "logging_probabilities": [one.probabilities for one in decisions],
        "action": [found[place] for found, place in zip(ids, places, strict=True)],
        "propensity": [one.propensity for one in decisions],
        "model_version": [one.version for one in decisions],
        **labels,
        "reward": labels[reward],
    }
    return pl.DataFrame([pl.Series(name, cells, strict=False) for name, cells in columns.items()])


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
