"""Policies given as numbers: columns of the log, or a table beside it, of probabilities or of scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl
from pydantic import field_validator

from ctrkit.config import Config, build
from ctrkit.errors import ConfigError, DataError, nearest
from ctrkit.ope.evaluation.joined import JoinedPart, TableBeside, check_events
from ctrkit.ope.evaluation.parts import LogPart
from ctrkit.ope.logs.bandit_log import check_probability
from ctrkit.ope.logs.units import EVENT
from ctrkit.policies import POLICIES, Policy, PolicyConfig
from ctrkit.policies.given import (
    Beside,
    ColumnPattern,
    GivenNumbers,
    GivenPolicy,
    ListedNumbers,
    NumbersByAction,
)
from ctrkit.schema import Column, LogSchema
from ctrkit.settings import line_of, read_line
from ctrkit.tables import TableLike

COLUMN = "column:"
CANDIDATES = "candidates"
# The name in messages of a table in memory.
BESIDE = "the table of the policy"
_TABLE = LogSchema(
    "table of a policy",
    (
        Column(EVENT, "id", "the decision's unique id", required=True),
        Column(CANDIDATES, "ids", "the actions that the numbers belong to, in their order"),
    ),
)
# Where the numbers of a policy are found: a policy, or the column of the logged action's probability.
Found: TypeAlias = "Policy | str"


class TableSettings(Config):
    """What a table of a policy may leave open.

    Attributes:
        column: the column of the policy, or `p_*` for a column of each action; by default the only one
            beside the ids.
        event_id: the column of the events' ids.
    """

    column: str | None = None
    event_id: str | None = None

    @field_validator("column", "event_id")
    @classmethod
    def _named(cls, name: str | None) -> str | None:
        if name == "":
            raise ValueError("the name is empty")
        return name


def settings_apart(
    policy: str, settings: str, kind: type[Config], what: str
) -> tuple[dict[str, str], list[str]]:
    """Settings of a file that holds a policy, and the rest, which names a policy over its scores.

    Args:
        policy: as the user wrote it, for messages.
        settings: `key=value,...` of both.
        kind: the class of the file's own settings.
        what: such a file, for messages.

    Raises:
        ConfigError: an unknown setting, or one that is given twice.
    """
    own: dict[str, str] = {}
    named: list[str] = []
    for part in filter(None, settings.split(",")):
        key, sign, value = part.partition("=")
        if sign and not named and key not in kind.model_fields:
            problem = f"policy '{policy}': there is no setting '{key}' of {what}"
            raise ConfigError(problem, hint=nearest(key, kind.model_fields))
        if key in own:
            raise ConfigError(f"policy '{policy}': '{key}' needs one value", hint=f"Write {key}=VALUE once")
        if key in kind.model_fields:
            own[key] = value
        else:
            named.append(part)
    return own, named


@dataclass(frozen=True)
class Given:
    """Numbers of a policy, before the log is known.

    Attributes:
        column: the column, or a pattern with a star in place of the action; None: the only one of the table.
        scores: the policy over the numbers, which then are scores; None: they are probabilities.
        table: the table beside the log; None: they are columns of the log.
        settings: how to read that table.
    """

    column: ColumnPattern | None
    scores: PolicyConfig | None = None
    table: TableLike | None = None
    settings: TableSettings = field(default_factory=TableSettings)

    @property
    def of_log(self) -> ColumnPattern | None:
        """The columns of the log that are the policy's; None if a table beside it has them."""
        return self.column if self.table is None else None

    @property
    def name(self) -> str:
        """Of a policy of columns: what the user calls it."""
        text = "" if self.column is None else self.column.text
        return text if self.scores is None else f"{text}: {line_of(self.scores).replace(':', ',')}"

    @classmethod
    def of_column(cls, text: str) -> Given:
        """The policy of `NAME` or `NAME:POLICY`, such as `p_*` or `score_*:softmax,temperature=0.5`."""
        name, colon, after = text.rpartition(":")
        if colon and read_line(after)[0] in POLICIES:
            return cls(ColumnPattern(name), POLICIES.read(after))
        return cls(ColumnPattern(text))

    @classmethod
    def of_table(cls, table: TableLike, text: str) -> Given:
        """The policy of a table and its settings, such as `column=score_*,softmax,temperature=0.5`.

        Raises:
            ConfigError: an unknown setting or policy.
        """
        own, named = settings_apart(text, text, TableSettings, "a table")
        settings = build(TableSettings, own, what="policy")
        column = None if settings.column is None else ColumnPattern(settings.column)
        return cls(column, POLICIES.read(",".join(named)) if named else None, table, settings)

    def bound(
        self, parts: Sequence[LogPart], names: Collection[str], key: str
    ) -> tuple[Found, list[LogPart], tuple[str, ...]]:
        """The policy on a log, the log's parts with its columns, and notes.

        Args:
            parts: of the log.
            names: of the log's own columns.
            key: a name for the columns of a table, that no other policy has.

        Raises:
            DataError: the columns are not there, or of a wrong type; the table does not fit the log.
        """
        if self.table is None:
            own = {name: name for name in sorted(names)}
            return self._found(own, _first(parts), None), list(parts), ()
        beside, place = self._beside(key)
        notes = beside.check(parts)
        joined: list[LogPart] = [JoinedPart(part, beside) for part in parts]
        _check_candidates(joined, f"{key}:{CANDIDATES}", beside)
        own = {name: column for column, name in place.called.items()}
        return self._found(own, _first(joined), place), joined, notes

    def _beside(self, key: str) -> tuple[TableBeside, Beside]:
        """The table's columns under names of their own, and what they are called in it.

        Raises:
            DataError: it cannot be read, has an event twice, or has several columns and none is named.
        """
        own = self.settings.event_id
        called = own or EVENT
        table, file = (_TABLE if own is None else _TABLE.called({EVENT: own})).read(self.table)
        check_events(table[EVENT], file, called)
        others = [name for name in table.columns if name not in (EVENT, CANDIDATES)]
        if self.column is None and len(others) != 1:
            known = ", ".join(others[:10]) or "none"
            raise DataError(
                f"the table has {len(others)} columns beside the ids ({known}), and one is read",
                file=file or BESIDE,
                hint="Say which: column=NAME, or column=p_* for a column of each action",
            )
        # If no column fits, the error names all that there are.
        used = [name for name in others if self.column is None or self.column.fits(name)] or others
        if len(used) == 1 and table.schema[used[0]].is_numeric() and self.scores is None:
            check_probability(table[used[0]], file or BESIDE, used[0])
        names = {f"{key}:{name}": name for name in used}
        listed = {f"{key}:{CANDIDATES}": CANDIDATES} if CANDIDATES in table.columns else {}
        columns = table.select(pl.col(name).alias(own) for own, name in {**names, **listed}.items())
        beside = TableBeside(table[EVENT], columns, f"{key}:row", file, called)
        return beside, Beside(file or BESIDE, beside.row, names)

    def _found(self, names: Mapping[str, str], rows: pl.DataFrame, beside: Beside | None) -> Found:
        """The policy of the columns of some rows.

        Args:
            names: what the user calls a column -> its name in the log.
            rows: the first rows, which tell the types.
            beside: the table that they come from, if it is not the log.
        """
        file = None if beside is None else beside.file
        pattern = self.column or ColumnPattern(next(iter(names)))
        head, colon, after = pattern.text.rpartition(":")
        if colon and pattern.text not in names and any(ColumnPattern(head).fits(name) for name in names):
            POLICIES.read(after)  # says that there is no such policy
        if pattern.starred and pattern.text not in names:
            columns = {action: own for name, own in names.items() if (action := pattern.action(name))}
            if not columns:
                hint = nearest(pattern.text, names)
                raise DataError("no column has such a name", file=file, column=pattern.text, hint=hint)
            return self._of(NumbersByAction(pattern.text, columns, beside))
        if pattern.text not in names:
            hint = nearest(pattern.text, names)
            raise DataError("no such column", file=file, column=pattern.text, hint=hint)
        own = names[pattern.text]
        dtype = rows.schema[own]
        if dtype == pl.String or isinstance(dtype, pl.List | pl.Array):
            return self._of(ListedNumbers(own, beside))
        if self.scores is not None:
            raise DataError(
                f"the column has one number a row, and {self.scores.name} needs a score of every candidate",
                file=file,
                column=pattern.text,
                hint="Give a list in each row, or a column for each action with a star in place of its id",
            )
        return own

    def _of(self, numbers: GivenNumbers) -> Policy:
        if self.scores is None:
            return GivenPolicy(numbers)
        return self.scores.policy(numbers)


def _check_candidates(parts: Sequence[LogPart], column: str, table: TableBeside) -> None:
    """Refuse lists in the order of other candidates than the log's.

    Raises:
        DataError: names the first such row of the table.
    """
    for part in parts if {CANDIDATES, column} <= parts[0].names else ():
        for log in part.batches({CANDIDATES, column, table.row}):
            own, theirs = log.table[CANDIDATES], log.table[column]
            texts = pl.List(pl.String)
            other = own.cast(texts) != theirs.cast(texts)
            if other.any():
                row = int(other.arg_max() or 0)
                raise DataError(
                    f"the candidates are {theirs[row].to_list()}, those of the log {own[row].to_list()}",
                    file=table.file or BESIDE,
                    column=CANDIDATES,
                    row=int(log.table[table.row][row]),
                    hint="Give the numbers in the order of the log's candidates",
                )


def _first(parts: Sequence[LogPart]) -> pl.DataFrame:
    """The first rows of a log."""
    return next(parts[0].batches()).table


def bound(
    specs: Sequence[Given | Policy], parts: Sequence[LogPart]
) -> tuple[list[Found], list[LogPart], tuple[str, ...]]:
    """Policies on a log: those that are given as numbers found in it, the log with what they read, and notes.

    Raises:
        DataError: see `Given.bound`.
    """
    names, joined = parts[0].names, list(parts)
    found: list[Found] = []
    made: Found
    notes: tuple[str, ...] = ()
    for number, policy in enumerate(specs, start=1):
        if isinstance(policy, Given):
            made, joined, told = policy.bound(joined, names, f"policy {number}")
            notes += told
        else:
            made = policy
        found.append(made)
    return found, joined, notes
