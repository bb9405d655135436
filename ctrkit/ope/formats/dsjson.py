"""Vowpal Wabbit's DSJSON: one JSON object a decision, as its decision services log them.

    {"_label_cost": -1, "_label_probability": 0.8, "_label_Action": 2, "_labelIndex": 1,
     "Timestamp": "2021-07-29T10:00:00.999Z", "EventId": "e1", "a": [2, 1, 3], "p": [0.8, 0.1, 0.1],
     "c": {"User": {"age": 31}, "_multi": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, "pdrop": 0.5}

The reward is the cost with its sign turned. Actions are counted from 1 there and from 0 here. `a` are the
candidates as the policy ranked them and `p` its probabilities in that order. Of the context `c`, single
values become columns (`User.age`), and those that every entry of `_multi` has in every row become lists
(`candidate_id`), in the order of the candidates; as in VW, names that begin with `_` are no features.

Lines that are no decision are left out and counted: checkpoints (`[...]`), rewards that found no decision
(`RewardValue`), and decisions marked `_skipLearn`, which were never acted upon.

`pdrop` is the probability with which such a row was dropped from the log: each row that is left stands for
1 / (1 - pdrop) decisions, as which it is counted. It becomes the column `p_drop`.

Continuous actions, such as bids, have a density in place of a probability. They are read by themselves, as
the columns of `ctrkit.schema.BID_LOG` (`read_continuous`):

    {"_label_ca": {"action": 1.25, "pdf_value": 0.4, "cost": -1}, "Timestamp": "2021-07-29T10:00:00Z",
     "EventId": "e2", "c": {"User": {"age": 31}}}

A page of several slots (VW's conditional contextual bandits) becomes one row a slot. There actions count
from 0, `_a` begins with the one that was taken, and both it and its probability `_p` stand for themselves or
lead a list. An action that stands in a slot above is none of a slot's candidates, so the probabilities are
those given the slots above:

    {"_outcomes": [{"_label_cost": -1, "_a": [1, 0, 2], "_p": [0.8, 0.1, 0.1]},
                   {"_label_cost": 0, "_a": [2, 0], "_p": [0.6, 0.4]}],
     "Timestamp": ..., "EventId": "e3", "c": {"_multi": [{}, {}, {}], "_slots": [{}, {}]}}
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from ctrkit.errors import DataError
from ctrkit.ope.formats.base import Format, LogTable, check_file
from ctrkit.schema import BANDIT_LOG
from ctrkit.tables import BadLines, lines_of

LABELS = ("_label_cost", "_label_probability", "_label_ca", "_outcomes")
DROPPED = (
    "Rows have a probability of having been dropped (p_drop): each stands for 1 / (1 - p_drop) decisions "
    "and is counted as that many."
)
_SCALARS = (str, int, float, bool)
# A context feature of such a name stands for that column, if every row has it.
_KNOWN = {name for column in BANDIT_LOG.columns for name in (column.name, *column.aliases)}


def read(source: str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read the decisions of one file, packed by gzip or not; one row an action, or a slot of a page.

    Args:
        skip_bad_lines: whether lines that are no sound decision are left out and counted.

    Raises:
        DataError: a line is no JSON object, lacks a label, contradicts itself, holds a continuous action
            (`_label_ca`), or a page among decisions of one action; the message names the line.
    """
    path = Path(source)
    skipped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    contexts: list[dict[str, Any]] = []
    candidates: list[list[dict[str, Any]]] = []
    bad = _BadLines(skip_bad_lines)
    for line, event in _events(path, skipped, bad):
        if "_label_ca" in event:
            raise _refused(
                path,
                line,
                "`_label_ca` holds a continuous action with a density, and discrete actions are wanted",
                "Read the log as one of bids, or give a log of discrete actions",
            )
        pages = "_outcomes" in event
        if rows and pages != ("slate_id" in rows[0]):
            raise _refused(
                path, line, "pages (`_outcomes`) and decisions of one action are mixed", "Keep them apart"
            )
        shared, multi = _context(event.get("c"))
        found: list[dict[str, Any]] = []
        with bad.left_out(line):
            slots = _slots(path, line, event) if pages else [_decision(path, line, event, len(multi))]
            found = list(slots)
        for row in found:
            order = row["candidates"]
            rows.append(row)
            contexts.append(shared)
            # Below the top slot of a page there are fewer candidates than actions.
            known = order is not None and (sorted(order) == list(range(len(multi))) or (pages and multi))
            if known and max(order) < len(multi):
                candidates.append([multi[action] for action in order])
    return _table(path, rows, contexts, candidates, skipped, bad, ("action", "propensity", "reward"))


def read_continuous(source: str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read the continuous actions of one file, as `bid` with its `density`.

    Args:
        skip_bad_lines: whether lines that are no sound decision are left out and counted.

    Raises:
        DataError: a line is no JSON object, has no continuous action, or lacks its cost; names the line.
    """
    path = Path(source)
    skipped: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    contexts: list[dict[str, Any]] = []
    bad = _BadLines(skip_bad_lines)
    for line, event in _events(path, skipped, bad):
        with bad.left_out(line):
            rows.append(_bid(path, line, event))
            contexts.append(_context(event.get("c"))[0])
    return _table(path, rows, contexts, [], skipped, bad, ("bid", "density", "reward"))


def _bid(path: Path, line: int, event: dict[str, Any]) -> dict[str, Any]:
    """The row of a continuous action under the schema's names."""
    label = event.get("_label_ca")
    if not isinstance(label, dict):
        raise _refused(path, line, "no continuous action (`_label_ca`) is here", "Fix or drop such lines")
    action, cost = (_number(path, line, label, name) for name in ("action", "cost"))
    # A bid that was not drawn has no density.
    density = _number(path, line, label, "pdf_value") if label.get("pdf_value") is not None else None
    return {
        "event_id": event.get("EventId"),
        "timestamp": event.get("Timestamp"),
        "bid": action,
        "density": density,
        "reward": -cost + 0.0,
        "p_drop": _drop(path, line, event),
    }


def _table(
    path: Path,
    rows: list[dict[str, Any]],
    contexts: list[dict[str, Any]],
    candidates: list[list[dict[str, Any]]],
    skipped: Counter[str],
    bad: _BadLines,
    needed: tuple[str, ...],
) -> LogTable:
    """What was read of a file's lines, and notes on what was not."""
    if not rows:
        raise DataError("the log holds no decision", file=path, hint="Give DSJSON lines with `_label_cost`")
    columns = {name: [row.get(name) for row in rows] for row in rows[:1] for name in row}
    table = pl.DataFrame(columns, infer_schema_length=None)
    held = table.select(
        name
        for name in table.columns
        # What only some rows have cannot be checked or used as a column.
        if not table[name].null_count() or name in (*needed, "p_drop")
    )
    notes = [f"Lines left out: {count:,} ({what})." for what, count in skipped.items()]
    if (left_out := bad.lines()) is not None:
        notes.append(left_out.note(path))
    gone = [name for name in table.columns if name not in held.columns and table[name].count()]
    if gone:
        notes.append(f"Left out, because some rows do not have it: {', '.join(gone)}.")
    if table["p_drop"].count():
        held = held.with_columns(pl.col("p_drop").fill_null(0.0).cast(pl.Float64))
        notes.append(DROPPED)
    else:
        held = held.drop("p_drop")
    features = {**_columns(contexts), **_lists(candidates if len(candidates) == len(rows) else [])}
    taken = {
        name: values
        for name, values in features.items()
        if name not in held.columns and not (name in _KNOWN and values.null_count())
    }
    return LogTable(held.with_columns(**taken), os.fspath(path), tuple(notes))


class _BadLines:
    """Lines that are no sound decision: the first is refused, or all are left out and counted."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: list[int] = []

    @contextmanager
    def left_out(self, line: int) -> Iterator[None]:
        """Where lines may be left out, errors within leave this one out."""
        try:
            yield
        except DataError:
            if not self.skip:
                raise
            self.found.append(line)

    def lines(self) -> BadLines | None:
        """Those that were left out, if any."""
        return BadLines(len(self.found), self.found[0]) if self.found else None


def _events(path: Path, skipped: Counter[str], bad: _BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
    """The decisions of a file with their lines; the other lines are counted."""
    check_file(path)
    for line, text in lines_of(path):
        if text.startswith("["):
            skipped["checkpoints"] += 1
            continue
        event: dict[str, Any] = {}
        with bad.left_out(line):
            event = _object(path, line, text)
        if not event:
            continue
        if event.get("_skipLearn") is True:
            skipped["decisions that were not acted upon (_skipLearn)"] += 1
        elif "RewardValue" in event and not any(label in event for label in LABELS):
            skipped["rewards without a decision"] += 1
        else:
            yield line, event


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not event:
        raise _refused(
            path,
            line,
            "this is no JSON object",
            "Copy the file again, or leave such lines out with skip_bad_lines",
        )
    return event


def _number(path: Path, line: int, content: dict[str, Any], name: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refused(path, line, f"`{name}` is missing or no number", "Fix or drop such lines")
    return float(value)


def _drop(path: Path, line: int, event: dict[str, Any]) -> float | None:
    if event.get("pdrop") is None:
        return None
    drop = _number(path, line, event, "pdrop")
    if not 0 <= drop < 1:
        raise _refused(path, line, f"`pdrop` is {drop:.9g}, not in [0, 1)", "Fix such lines")
    return drop


def _decision(path: Path, line: int, event: dict[str, Any], actions: int) -> dict[str, Any]:
    """The row of a decision under the schema's names, its candidates counted from 0.

    Args:
        actions: how many the context describes (`_multi`): the candidates, where `a` does not list them.
    """
    cost, probability, taken = (
        _number(path, line, event, name) for name in ("_label_cost", "_label_probability", "_label_Action")
    )
    action = taken - 1
    order, probabilities = event.get("a"), event.get("p")
    if action < 0 or action != int(action):
        raise _refused(path, line, f"action {taken:g} is none: they count from 1", "Fix such lines")
    ranked = None
    if order is not None:
        if not isinstance(order, list) or not all(isinstance(one, int) and one >= 1 for one in order):
            raise _refused(path, line, "`a` is no list of actions counted from 1", "Fix such lines")
        ranked = [one - 1 for one in order]
    elif action < actions:
        ranked = list(range(actions))
    if probabilities is not None and (order is None or len(probabilities) != len(order)):
        raise _refused(path, line, "`p` has not one probability for each action of `a`", "Fix such lines")
    return {
        "event_id": event.get("EventId"),
        "timestamp": event.get("Timestamp"),
        "action": int(action),
        "propensity": probability,
        # Adding 0 turns the -0.0 of a cost of 0 into 0.
        "reward": -cost + 0.0,
        "candidates": ranked,
        "logging_probabilities": [float(one) for one in probabilities] if probabilities is not None else None,
        "p_drop": _drop(path, line, event),
    }


def _slots(path: Path, line: int, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a page, one a slot from the top down, its candidates counted from 0."""
    outcomes = event["_outcomes"]
    if not isinstance(outcomes, list) or not outcomes or not all(isinstance(one, dict) for one in outcomes):
        raise _refused(path, line, "`_outcomes` is no list of slots", "Fix or drop such lines")
    if "_label_cost" in event:
        raise _refused(
            path,
            line,
            "the page has one cost for all its slots, and a cost for each is needed",
            "Give a log of conditional contextual bandits, whose slots have their own `_label_cost`",
        )
    drop = _drop(path, line, event)
    above: list[int] = []
    for index, slot in enumerate(outcomes):
        actions, probabilities = (
            value if isinstance(value, list) else [value] for value in (slot.get("_a"), slot.get("_p"))
        )
        whole = all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in actions)
        if not whole or not actions or len(actions) != len(probabilities):
            raise _refused(
                path, line, f"slot {index + 1} has not one `_p` for each action of `_a`", "Fix such lines"
            )
        chances = [_number(path, line, {"_p": one}, "_p") for one in probabilities]
        propensity = chances[0]
        action, candidates, known = actions[0], actions, len(actions) > 1 or chances[0] == 1
        if len(actions) == 1 and (free := _free(event.get("c"), index, above)) is not None:
            # It stands for itself: what else there was to choose among, the context tells.
            if action not in free:
                problem = f"slot {index + 1} has action {action}, which is none of those left for it"
                raise _refused(path, line, problem, "Fix such lines")
            candidates, chances = free, [chances[0] if one == action else 0.0 for one in free]
        above.append(action)
        yield {
            # Of two pages none may have the same name.
            "slate_id": str(event.get("EventId", f"line {line + 1}")),
            "position": index + 1,
            "timestamp": event.get("Timestamp"),
            "action": action,
            "propensity": propensity,
            "reward": -_number(path, line, slot, "_label_cost") + 0.0,
            "candidates": candidates if known or candidates is not actions else None,
            "logging_probabilities": chances if known else None,
            "p_drop": drop,
        }


def _free(content: Any, index: int, above: list[int]) -> list[int] | None:
    """The actions of a page's context that are left for a slot; None where it does not tell of any.

    A slot may list those that it takes (`_inc`); what stands in a slot above is gone.
    """
    multi, slots = (content.get(name) if isinstance(content, dict) else None for name in ("_multi", "_slots"))
    slot = slots[index] if isinstance(slots, list) and index < len(slots) else None
    included = slot.get("_inc") if isinstance(slot, dict) else None
    if included is None and isinstance(multi, list):
        included = list(range(len(multi)))
    return [one for one in included if one not in above] if isinstance(included, list) else None


def _context(content: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The single values of the shared context, and those of each action."""
    if not isinstance(content, dict):
        return {}, []
    multi = content.get("_multi")
    actions = [_flat(one) for one in multi] if isinstance(multi, list) else []
    return _flat(content), actions


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Single values by dotted name; names that begin with `_` and lists are left out."""
    found: dict[str, Any] = {}
    if isinstance(content, dict):
        for name, value in content.items():
            if name.startswith("_"):
                continue
            if isinstance(value, dict):
                found |= _flat(value, f"{prefix}{name}.")
            elif isinstance(value, _SCALARS):
                found[f"{prefix}{name}"] = value
    return found


def _columns(contexts: list[dict[str, Any]]) -> dict[str, pl.Series]:
    """A column of each value that some row has; text where rows differ in its type."""
    names = dict.fromkeys(name for context in contexts for name in context)
    return {name: pl.Series(name, _alike([context.get(name) for context in contexts])) for name in names}


def _lists(candidates: list[list[dict[str, Any]]]) -> dict[str, pl.Series]:
    """A list column of each value that all candidates of all rows have."""
    entries = [entry for row in candidates for entry in row]
    if not entries:
        return {}
    names = [name for name in entries[0] if all(name in entry for entry in entries)]
    found = {}
    for name in names:
        flat = iter(_alike([entry[name] for entry in entries]))
        lists = [[next(flat) for _ in row] for row in candidates]
        found[f"candidate_{name}"] = pl.Series(f"candidate_{name}", lists)
    return found


def _alike(values: list[Any]) -> list[Any]:
    """Values of one type: numbers as floats where not all are whole, anything mixed with text as text."""
    kinds = {type(value) for value in values if value is not None}
    if str in kinds and len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    if float in kinds:
        return [None if value is None else float(value) for value in values]
    if bool in kinds and int in kinds:
        return [None if value is None else int(value) for value in values]
    return values


def _refused(path: Path, line: int, problem: str, hint: str) -> DataError:
    return DataError(f"line {line + 1}: {problem}", file=path, hint=hint)


DSJSON = Format("dsjson", "Vowpal Wabbit's DSJSON lines", read)
