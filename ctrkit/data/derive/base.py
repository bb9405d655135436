"""What a step is: it makes columns of rows from their other columns and from earlier events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

import polars as pl
from pydantic import BeforeValidator, Field

from ctrkit.data.derive.part import Part
from ctrkit.data.derive.windows import Windows
from ctrkit.errors import nearest
from ctrkit.settings import checked


def _listed(given: Any) -> Any:
    return (given,) if isinstance(given, str | int | float | bool) else given


# What a step makes: a value for each row, or a list of events for each.
Column: TypeAlias = pl.Series | Windows
# Names of columns; one name stands for a list of one.
Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_listed)]
SomeNames: TypeAlias = Annotated[Names, Field(min_length=1)]
# Values of a column; one value stands for a list of one.
Values: TypeAlias = Annotated[tuple[str | float, ...], BeforeValidator(_listed)]


def measures(*known: str) -> Any:
    """The type of a mapping from new columns to what they hold, which must be one of the given measures."""

    def check(given: Any) -> Any:
        if not isinstance(given, Mapping) or not given:
            raise ValueError(f"give names of new columns, each with what it holds: {', '.join(known)}")
        for what in given.values():
            if what not in known:
                raise ValueError(f"there is no measure '{what}'. {nearest(str(what), known)}")
        return dict(given)

    return Annotated[dict[str, str], BeforeValidator(check)]


@checked
class Step(ABC):
    """A step of `derive`. Its settings are its fields.

    A step sees some of the rows at a time: all rows that agree in the columns of `keys`, whichever other rows
    are there. What it makes of a row depends on these rows and on the events with the same keys alone, and
    not on their order.

    Attributes:
        counts_rows: whether it reads earlier rows of the table.
    """

    what: ClassVar[str] = "derive step"
    name: ClassVar[str]
    counts_rows: ClassVar[bool] = False

    @property
    @abstractmethod
    def new_columns(self) -> tuple[str, ...]:
        """Names of the columns that it makes."""

    @property
    def keys(self) -> Names:
        """Columns by which rows belong together; none where each row stands alone."""
        return ()

    @property
    def reads(self) -> Names:
        """Columns of the rows that it reads, beside keys and times."""
        return ()

    @property
    def ids(self) -> Names:
        """Columns that hold ids: those of rows and events are compared as ids."""
        return self.keys

    @property
    def times(self) -> Names:
        """Columns of the rows that hold times."""
        return ()

    @property
    def looks_at(self) -> str | None:
        """Name of the history that it looks at."""
        return None

    @property
    def reads_of_events(self) -> Names:
        """Columns that it reads of the events of that history."""
        return ()

    @abstractmethod
    def derive(self, part: Part) -> Sequence[Column]:
        """The new columns, one value for each row of the part, in the order of its rows."""
