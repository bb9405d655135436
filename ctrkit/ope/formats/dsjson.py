"""Vowpal Wabbit's DSJSON: one JSON object a decision, as its decision services log them.

    {"_label_cost": -1, "_label_probability": 0.8, "_label_Action": 2, "_labelIndex": 1,
     "Timestamp": "2021-07-29T10:00:00.999Z", "EventId": "e1", "a": [2, 1, 3], "p": [0.8, 0.1, 0.1],
     "c": {"User": {"age": 31}, "_multi": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}, "pdrop": 0.5}

The reward is minus the cost. DSJSON counts actions from 1; the table read here counts them from 0. `a` lists
the candidates in the policy's order, and `p` their probabilities in that order. Single values of the context
`c` become columns (`User.age`). Values that every entry of `_multi` has in every row become lists
(`candidate_id`), in the order of the candidates. As in VW, names that begin with `_` are not features.

Lines without a decision are left out and counted: checkpoints (`[...]`), rewards that belong to no decision
(`RewardValue`), and decisions marked `_skipLearn`, which were never carried out.

`pdrop` is the probability with which such a row was dropped from the log. A row that is left counts as
1 / (1 - pdrop) decisions. It becomes the column `p_drop`.

Continuous actions, such as bids, have a density instead of a probability. `read_continuous` reads them into
the columns of `ctrkit.schema.BID_LOG`:

    {"_label_ca": {"action": 1.25, "pdf_value": 0.4, "cost": -1}, "Timestamp": "2021-07-29T10:00:00Z",
     "EventId": "e2", "c": {"User": {"age": 31}}}

A page of several slots (VW's conditional contextual bandits) becomes one row for each slot. There actions
count from 0. `_a` is the action that was taken, or a list that begins with it; `_p` is its probability, or a
list that begins with it. An action in a slot above is not a candidate of the slots below, so probabilities
are conditional on the slots above:

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
    "Rows were dropped from this log with a known probability (p_drop): each row counts as "
    "1 / (1 - p_drop) decisions."
)
_SCALARS = (str, int, float, bool)
# A context feature with one of these names becomes that column, if every row has it.
_KNOWN = {name for column in BANDIT_LOG.columns for name in (column.name, *column.aliases)}


def read(source: str | os.PathLike[str], skip_bad_lines: bool = False) -> LogTable:
    """Read the decisions of one file, gzip-compressed or not, as one row a decision, or a slot of a page.

    Args:
        skip_bad_lines: whether lines without a valid decision are left out and counted.

    Raises:
        DataError: a line is not a JSON object, lacks a label, contradicts itself, holds a continuous action
            (`_label_ca`), or mixes pages with decisions of one action. The message names the line.
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
                "`_label_ca` holds a continuous action with a density, and a discrete action is expected",
                "Read the log as one of bids, or give a log of discrete actions",
            )
        pages = "_outcomes" in event
        if rows and pages != ("slate_id" in rows[0]):
            raise _refused(
                path,
                line,
                "pages (`_outcomes`) and decisions of one action are mixed",
                "Write them to separate files",
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
        skip_bad_lines: whether lines without a valid decision are left out and counted.

    Raises:
        DataError: a line is not a JSON object, has no continuous action, or lacks its cost. The message names
            the line.
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
        raise _refused(
            path, line, "the line has no continuous action (`_label_ca`)", "Fix or drop such lines"
        )
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
    """The table of a file's rows, with notes on what was left out."""
    if not rows:
        raise DataError("the log holds no decision", file=path, hint="Give DSJSON lines with `_label_cost`")
    columns = {name: [row.get(name) for row in rows] for row in rows[:1] for name in row}
    table = pl.DataFrame(columns, infer_schema_length=None)
    held = table.select(
        name
        for name in table.columns
        # A column that only some rows have cannot be checked or used.
        if not table[name].null_count() or name in (*needed, "p_drop")
    )
    notes = [f"Lines left out: {count:,} ({what})." for what, count in skipped.items()]
    if (left_out := bad.lines()) is not None:
        notes.append(left_out.note(path))
    gone = [name for name in table.columns if name not in held.columns and table[name].count()]
    if gone:
        notes.append(f"Columns left out, because some rows lack them: {', '.join(gone)}.")
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
    """Lines without a valid decision: the first is refused, or all are left out and counted."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.found: list[int] = []

    @contextmanager
    def left_out(self, line: int) -> Iterator[None]:
        """An error within the block leaves this line out, where lines may be left out."""
        try:
            yield
        except DataError:
            if not self.skip:
                raise
            self.found.append(line)

    def lines(self) -> BadLines | None:
        """The lines that were left out, if any."""
        return BadLines(len(self.found), self.found[0]) if self.found else None


def _events(path: Path, skipped: Counter[str], bad: _BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
    """The decisions of a file with their line numbers; other lines are counted."""
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
            skipped["decisions never carried out, _skipLearn"] += 1
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
            "this is not a JSON object",
            "Copy the file again, or leave such lines out with skip_bad_lines",
        )
    return event


def _number(path: Path, line: int, content: dict[str, Any], name: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _refused(path, line, f"`{name}` is missing or not a number", "Fix or drop such lines")
    return float(value)


def _drop(path: Path, line: int, event: dict[str, Any]) -> float | None:
    if event.get("pdrop") is None:
        return None
    drop = _number(path, line, event, "pdrop")
    if not 0 <= drop < 1:
        raise _refused(path, line, f"`pdrop` is {drop:.9g}, not in [0, 1)", "Fix such lines")
    return drop


def _decision(path: Path, line: int, event: dict[str, Any], actions: int) -> dict[str, Any]:
    """The row of a decision under the schema's names, with candidates counted from 0.

    Args:
        actions: number of actions in the context (`_multi`): the candidates, where `a` does not list them.
    """
    cost, probability, taken = (
        _number(path, line, event, name) for name in ("_label_cost", "_label_probability", "_label_Action")
    )
    action = taken - 1
    order, probabilities = event.get("a"), event.get("p")
    if action < 0 or action != int(action):
        raise _refused(path, line, f"{taken:g} is not an action: they count from 1", "Fix such lines")
    ranked = None
    if order is not None:
        if not isinstance(order, list) or not all(isinstance(one, int) and one >= 1 for one in order):
            raise _refused(path, line, "`a` is not a list of actions counted from 1", "Fix such lines")
        ranked = [one - 1 for one in order]
    elif action < actions:
        ranked = list(range(actions))
    if probabilities is not None and (order is None or len(probabilities) != len(order)):
        raise _refused(
            path, line, "`p` does not have one probability for each action of `a`", "Fix such lines"
        )
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
    """The rows of a page, one for each slot from the top; candidates count from 0."""
    outcomes = event["_outcomes"]
    if not isinstance(outcomes, list) or not outcomes or not all(isinstance(one, dict) for one in outcomes):
        raise _refused(path, line, "`_outcomes` is not a list of slots", "Fix or drop such lines")
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
                path,
                line,
                f"slot {index + 1} does not have one `_p` for each action of `_a`",
                "Fix such lines",
            )
        chances = [_number(path, line, {"_p": one}, "_p") for one in probabilities]
        propensity = chances[0]
        action, candidates, known = actions[0], actions, len(actions) > 1 or chances[0] == 1
        if len(actions) == 1 and (free := _free(event.get("c"), index, above)) is not None:
            # A single value and not a list: the context says which other candidates there were.
            if action not in free:
                problem = f"slot {index + 1} has action {action}, which is not available to it"
                raise _refused(path, line, problem, "Fix such lines")
            candidates, chances = free, [chances[0] if one == action else 0.0 for one in free]
        above.append(action)
        yield {
            # No two pages may have the same id.
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
    """The actions of a page's context that are available to a slot; None where the context lists none.

    A slot may list the actions that fit it (`_inc`). An action in a slot above is no longer available.
    """
    multi, slots = (content.get(name) if isinstance(content, dict) else None for name in ("_multi", "_slots"))
    slot = slots[index] if isinstance(slots, list) and index < len(slots) else None
    included = slot.get("_inc") if isinstance(slot, dict) else None
    if included is None and isinstance(multi, list):
        included = list(range(len(multi)))
    return [one for one in included if one not in above] if isinstance(included, list) else None


def _context(content: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The single values of the shared context, and of each action."""
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
    """A column for each value that some row has; text where rows differ in type."""
    names = dict.fromkeys(name for context in contexts for name in context)
    return {name: pl.Series(name, _alike([context.get(name) for context in contexts])) for name in names}


def _lists(candidates: list[list[dict[str, Any]]]) -> dict[str, pl.Series]:
    """A list column for each value that all candidates of all rows have."""
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
    """Values as one type: numbers as floats where some are not whole, values mixed with text as text."""
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
