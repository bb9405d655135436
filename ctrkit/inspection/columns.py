"""What each column of a table is taken for, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats
from ctrkit.errors import DataError
from ctrkit.evaluation.leaks import find_leaks, telling_rows
from ctrkit.inspection.header import check_header
from ctrkit.inspection.lists import FEW_LISTS, SHARED, kind_of_lists, owner_of
from ctrkit.inspection.outcomes import first_named, outcome_roles
from ctrkit.schema import TRUTH_PREFIX, unix_seconds
from ctrkit.tables.cells import ids_as_text, lists_of, unsplit

Kind: TypeAlias = Literal[
    "number", "category", "id", "time", "list", "bag", "vector", "numbers", "binary", "constant", "empty",
    "text", "comma", "date",
]  # fmt: skip

# Names in the order in which they are looked for.
USERS = (
    "user_id", "userid", "user", "uid", "customer_id", "visitor_id", "member_id", "device_id", "session_id",
)  # fmt: skip
TIMES = (
    "timestamp", "event_time", "time_stamp", "datetime", "time", "ts", "date", "created_at", "day", "hour",
)  # fmt: skip
WEIGHTS = ("weight", "sample_weight", "row_weight")
ADS = ("ad_id", "item_id", "creative_id", "adgroup_id", "news_id", "product_id", "campaign_id", "ad", "item")
# What names a row, or the list of rows in which it was shown.
ROWS = ("event_id", "row_id", "id", "impression_id", "request_id")
# Whole numbers with one of these in their names, or with few values, are categories.
_IDS = (
    "id", "code", "type", "category", "cat", "class", "group", "segment", "slot", "position",
    "hour", "weekday",
)  # fmt: skip
_FEW_VALUES = 50
# Whole numbers with one of these at the end of their names are amounts, however few they are.
_AMOUNTS = (
    "price", "age", "amount", "count", "number", "score", "rate", "days", "hours", "minutes",
    "seconds", "size",
)  # fmt: skip
# What is known only after the auction, or comes from another model.
_LATER_KNOWN = ("market_price", "win_price", "paying_price", "clearing_price", "cost", "spend", "revenue")
_PREDICTIONS = ("pctr", "pcvr", "prediction", "predicted", "probability")
# A text, or an id, of which more than this share of rows has a value of its own says nothing of other rows.
_OWN_VALUES = 0.5
_LEAST_ROWS = 100
_SEPARATOR = "|"
# Lists by whose events it is told whose ids they are.
_LISTS = 5000


@dataclass(frozen=True)
class InspectedColumn:
    """A column of the table.

    Attributes:
        name: its name.
        kind: what its values are.
        role: what a config would take it for: a label, the group, a feature, or nothing.
        why: why, in a few words.
        missing: share of the rows without a value.
        distinct: number of different values in the rows that were looked at.
        shares: of a list, the column whose ids its events are.
        domain: of a list, the kind of its events, where it is another than that of the history.
        separator: of a list in text cells, the sign between its events.
        leaks: whether it gives the label away.
    """

    name: str
    kind: Kind
    role: str
    why: str
    missing: float
    distinct: int
    shares: str | None = None
    domain: str | None = None
    separator: str | None = None
    leaks: bool = False


def inspected(
    table: pl.DataFrame, label: str | None = None, file: str | None = None
) -> tuple[InspectedColumn, ...]:
    """All columns, with their roles.

    Args:
        table: some rows, spread over the whole table.
        label: the column of the first label, if it is known.
        file: name of the table, for messages.

    Raises:
        DataError: no column can be the label, or the names of the columns are values.
    """
    check_header(table, file)
    columns = {name: _column(table[name]) for name in table.columns}
    roles = outcome_roles(table, [name for name, one in columns.items() if one.kind == "binary"], label, file)
    first = next(name for name, (role, _) in roles.items() if role == "label 1")
    for role, names, kinds in (
        ("time", TIMES, ("time",)),
        ("group", USERS, ("id", "category", "number")),
        ("weight", WEIGHTS, ("number",)),
    ):
        free = [name for name, one in columns.items() if one.kind in kinds and name not in roles]
        named = first_named(free, names)
        if named is None and role == "time" and free:
            named = free[0]
        if named is not None:
            roles[named] = (role, "its name, and what it holds")
    for name, one in columns.items():
        if name not in roles:
            roles[name] = _feature(one)
    features = [name for name, (role, _) in roles.items() if role == "feature"]
    for name in features:
        if columns[name].kind == "number" and bool(table[name].cast(pl.Float64).is_infinite().any()):
            roles[name] = ("left out", "it holds infinite numbers")
    features = [name for name in features if roles[name][0] == "feature"]
    y = np.minimum(table[first].cast(pl.Float64).to_numpy(), 1.0)
    leaks = _leaks(table, columns, features, first, y)
    for name, problem in leaks.items():
        roles[name] = ("left out", problem)
    if all(role != "feature" for role, _ in roles.values()):
        reasons = "; ".join(f"'{name}': {why}" for name, (role, why) in roles.items() if role == "left out")
        raise DataError(
            f"no column can be a feature ({reasons})",
            file=file,
            hint="Write a config that says what they mean",
        )
    found = [
        replace(columns[name], role=role, why=why, leaks=name in leaks) for name, (role, why) in roles.items()
    ]
    found.sort(key=lambda one: table.columns.index(one.name))
    return _with_histories(found, table)


def _column(values: pl.Series) -> InspectedColumn:
    """A column without a role."""
    name, rows = values.name, max(values.len(), 1)
    missing = values.null_count() / rows
    held = values.drop_nulls()
    listed = isinstance(held.dtype, pl.List | pl.Array)
    distinct = held.len() if listed else held.n_unique()
    kind, separator = _kind(held, distinct)
    return InspectedColumn(name, kind, "", "", missing, distinct, separator=separator)


def _kind(held: pl.Series, distinct: int) -> tuple[Kind, str | None]:
    """The kind of a column from its values, and the separator of lists in text."""
    name = held.name.lower()
    last_word = name.rpartition("_")[2]
    if not held.len():
        return "empty", None
    if isinstance(held.dtype, pl.List | pl.Array):
        return kind_of_lists(held), None
    if held.dtype == pl.Boolean or (held.dtype.is_numeric() and set(held.unique()) == {0, 1}):
        return "binary", None
    if distinct == 1:
        return "constant", None
    if held.dtype.is_temporal() or (_named(name, TIMES) and _is_time(held)):
        return "time", None
    if held.dtype.is_numeric():
        whole = held.dtype.is_integer() or bool((held == held.round()).all())
        if whole and last_word in _IDS:
            return ("category" if distinct <= _FEW_VALUES else "id"), None
        amount = last_word in _AMOUNTS
        return ("category" if whole and distinct <= _FEW_VALUES and not amount else "number"), None
    text = held.cast(pl.String)
    bracketed = int(text.str.starts_with("[").sum()) > SHARED * text.len()
    if bracketed or bool(text.str.contains(_SEPARATOR, literal=True).any()):
        lists = lists_of(text.head(FEW_LISTS), _SEPARATOR)
        return kind_of_lists(lists), _SEPARATOR
    sign = unsplit(text, _SEPARATOR)
    # "Bern, Switzerland" is no list: all its cells have two parts.
    if sign not in (None, " ") and text.str.split(sign).list.len().n_unique() > 2:
        return "list", sign
    if _is_time(text):
        return "time", None
    if int(text.str.contains(r"^\s*-?\d+,\d+\s*$").sum()) > SHARED * text.len():
        return "comma", None
    if int(text.str.contains(r"^\s*\d{1,2}[./]\d{1,2}[./]\d{2,4}").sum()) > SHARED * text.len():
        return "date", None
    own = distinct > _OWN_VALUES * held.len() and held.len() >= _LEAST_ROWS
    if own and last_word not in _IDS:
        return "text", None
    return ("id" if distinct > _FEW_VALUES else "category"), None


def _is_time(values: pl.Series) -> bool:
    try:
        seconds = unix_seconds(values.head(1000))
    except DataError:
        return False
    # Later than 1973: small numbers, also in text, are no seconds since 1970.
    return bool((seconds > 1e8).all())


def _named(name: str, names: Iterable[str]) -> bool:
    """Whether a name is one of these, or has one of them as its last word."""
    return name in names or any(name.endswith(f"_{one}") for one in names)


_NOT_READ: Mapping[Kind, str] = {
    "empty": "it has no value",
    "constant": "all rows have the same value",
    "text": "most rows have a value of their own",
    "comma": "it holds numbers with a decimal comma: write them with a point",
    "date": "it holds dates whose day and month may be confused: write them as 2024-03-10",
    "time": "there is another time",
    "numbers": "it holds lists of numbers, more in some rows than in others",
}


def _feature(one: InspectedColumn) -> tuple[str, str]:
    """The role of a column that has no other one."""
    if one.name.startswith(TRUTH_PREFIX):
        return "left out", "it holds the truth of a simulated market"
    if one.kind in _NOT_READ:
        return "left out", _NOT_READ[one.kind]
    if one.name.lower() in ROWS:
        return "left out", "it names the row"
    if one.name.lower() in _LATER_KNOWN:
        return "left out", "it is known only after the event"
    if one.name.lower() in _PREDICTIONS:
        return "left out", "it is a prediction of another model"
    reasons: Mapping[Kind, str] = {
        "number": "it holds numbers of many values",
        "binary": "it holds 0 and 1",
        "category": "it has few values",
        "id": "its values occur in many rows",
        "vector": "it holds numbers, as many in every row",
        "list": "it holds lists, taken for the events before the row, the oldest first",
    }
    return "feature", reasons[one.kind]


def _leaks(
    table: pl.DataFrame,
    columns: Mapping[str, InspectedColumn],
    features: Sequence[str],
    label: str,
    labels: Floats,
) -> dict[str, str]:
    """Features that give the label away -> why."""
    rows = telling_rows(labels)
    if not rows.size:
        return {}
    part = table[rows]
    values: dict[str, NDArray[np.generic]] = {}
    for name in features:
        if columns[name].kind in ("number", "binary"):
            values[name] = part[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        elif columns[name].kind in ("category", "id"):
            ids = ids_as_text(part[name].cast(pl.String)).fill_null("")
            values[name] = ids.rank("dense").to_numpy().astype(np.int64)
    return {leak.feature: leak.sentence for leak in find_leaks(label, values, labels[rows])}


def _with_histories(columns: Sequence[InspectedColumn], table: pl.DataFrame) -> tuple[InspectedColumn, ...]:
    """Lists with the column whose ids their events are. Those of other lengths than the history are bags, or
    a domain of events of its own if their events are ids of the same column.

    The history is the first list whose events are known ids, or else the first list.
    """
    ids = [one.name for one in columns if one.role == "feature" and one.kind in ("id", "category")]
    known = {name: ids_as_text(table[name].cast(pl.String)).unique().drop_nulls() for name in ids}
    found, lengths = list(columns), dict[int, pl.Series]()
    for place, one in enumerate(columns):
        if one.kind == "list" and one.role == "feature":
            cells = table[one.name]
            lists = cells if one.separator is None else lists_of(cells, one.separator)
            lengths[place] = lists.list.len().fill_null(0)
            owner = owner_of(one.name, lists.head(_LISTS), known)
            why = one.why if owner is None else f"{one.why}; its events are ids of '{owner}'"
            found[place] = replace(one, shares=owner, why=why)
    history = next((place for place in lengths if found[place].shares), next(iter(lengths), -1))
    # Lists that belong to one another: the first of them, and all.
    groups = dict[int, list[int]]()
    for place, counts in lengths.items():
        equal = (one for one in (history, *groups) if counts.equals(lengths[one], check_names=False))
        groups.setdefault(next(equal, place), []).append(place)
    item = found[history].shares if groups else None
    for first, places in groups.items():
        if first == history:
            continue
        of_items = [found[place].name for place in places if item and found[place].shares == item]
        change: dict[str, Any] = {"domain": of_items[0]} if of_items else {"kind": "bag"}
        taken = "another kind of events" if of_items else "sets of ids"
        change["why"] = f"it holds lists of other lengths than '{found[history].name}', taken for {taken}"
        for place in places:
            found[place] = replace(found[place], **change)
    return tuple(found)
