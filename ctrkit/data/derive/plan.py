"""A plan: the steps of a config, checked against one another, and what they read and make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ctrkit.data.derive.base import Names, Step
from ctrkit.data.derive.history import History
from ctrkit.data.derive.part import ROWS
from ctrkit.errors import ConfigError, nearest
from ctrkit.settings import title


@dataclass(frozen=True)
class Stage:
    """Steps for which the same rows belong together: those that agree in the columns of `keys`."""

    keys: Names
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Plan:
    """Steps in their order; a step may read what steps before it make.

    Raises:
        ConfigError: two steps make the same column or history, or a history has no step.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        made: dict[str, Step] = {}
        for step in self.steps:
            for column in step.new_columns:
                if column in made:
                    raise ConfigError(
                        f"{title(step)} makes the column '{column}', which {title(made[column])} makes too",
                        hint="Give one of them another name",
                    )
                made[column] = step
        names = [step.history for step in self.steps if isinstance(step, History)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two histories have the name '{twice[0]}'", hint="Rename one of them")
        for step in self.steps:
            if step.looks_at is not None and step.looks_at not in names:
                raise ConfigError(
                    f"{title(step)}: there is no history '{step.looks_at}'",
                    hint=nearest(step.looks_at, names),
                )

    @cached_property
    def histories(self) -> Mapping[str, History]:
        """Name -> history."""
        return {step.history: step for step in self.steps if isinstance(step, History)}

    @cached_property
    def content(self) -> Mapping[str, Names]:
        """Name of a history -> the columns of its events that steps read."""
        return {
            name: _distinct(
                column for step in self.steps if step.looks_at == name for column in step.reads_of_events
            )
            for name in self.histories
        }

    @property
    def new_columns(self) -> Names:
        """All columns that the steps make."""
        return tuple(column for step in self.steps for column in step.new_columns)

    @property
    def counted_from_rows(self) -> Names:
        """The new columns that hold what earlier rows of the table say."""
        return tuple(
            column
            for step in self.steps
            if (self.histories[step.looks_at].events == ROWS if step.looks_at else step.counts_rows)
            for column in step.new_columns
        )

    def keys(self, step: Step) -> Names:
        """The columns by which rows belong together for a step."""
        return step.keys if step.looks_at is None else self.histories[step.looks_at].keys

    def reads(self, step: Step) -> Names:
        """The columns of the rows that a step reads, without times."""
        own = (*self.keys(step), *step.reads)
        if step.looks_at is None:
            return _distinct(own)
        history = self.histories[step.looks_at]
        of_events = (*history.keys, *self.content[history.history]) if history.events == ROWS else ()
        return _distinct((*own, *history.reads, *of_events))

    def times(self, step: Step) -> Names:
        """The columns of the rows' times that a step reads."""
        if step.looks_at is None:
            return step.times
        history = self.histories[step.looks_at]
        of_events = (history.time_of_events,) if history.events == ROWS else ()
        return _distinct((*history.times, *of_events))

    @property
    def ids(self) -> Names:
        """All columns whose values are compared as ids."""
        return _distinct(column for step in self.steps for column in (*step.ids, *self.keys(step)))

    def reads_of_rows(self, steps: Sequence[Step]) -> tuple[Names, Names]:
        """The columns of the rows that steps read and do not make themselves, and those of times."""
        made: set[str] = set()
        needed: list[str] = []
        for step in steps:
            needed += [name for name in self.reads(step) if name not in made]
            made |= {*step.new_columns}
        return _distinct(needed), _distinct(name for step in steps for name in self.times(step))

    def tables_of(self, steps: Sequence[Step]) -> set[str]:
        """The names of the tables of events that steps read."""
        looked_at = {step.looks_at for step in steps if step.looks_at is not None}
        return {self.histories[name].events for name in looked_at} - {ROWS}

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The steps in runs for which the same rows belong together."""
        found: list[Stage] = []
        for step in self.steps:
            keys = self.keys(step)
            if found and (found[-1].keys == keys or not keys or not found[-1].keys):
                found[-1] = Stage(found[-1].keys or keys, (*found[-1].steps, step))
            else:
                found.append(Stage(keys, (step,)))
        return tuple(found)

    @property
    def reads_of_events(self) -> Mapping[str, tuple[Names, Names]]:
        """Name of a table of events -> the columns that histories read, and those of times."""
        read: dict[str, tuple[Names, Names]] = {}
        for name, history in self.histories.items():
            if history.events != ROWS:
                columns, times = read.get(history.events, ((), ()))
                read[history.events] = (
                    _distinct((*columns, *history.keys, *self.content[name])),
                    _distinct((*times, history.time_of_events)),
                )
        return read


def _distinct(names: Iterable[str]) -> Names:
    return tuple(dict.fromkeys(names))
