"""Base of the results that the functions of `ctrkit` return."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctrkit.names import cut
from ctrkit.reports.document import Drawings, Report, notebook_html
from ctrkit.reports.tables import Table

if TYPE_CHECKING:
    import pandas as pd

# Characters of an answer that is shown as one line, at most.
_LINE = 120


@dataclass(frozen=True, repr=False)
class Result(ABC):
    """Base of all results: the same content for machines, for notebooks and for people."""

    def __init_subclass__(cls) -> None:
        """A result holds arrays: its `repr` shows the answer, and not all fields as `dataclass` would."""
        super().__init_subclass__()
        setattr(cls, "__repr__", Result.__repr__)  # noqa: B010 (a method, to the type checker)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, with everything that the tables show."""

    @abstractmethod
    def report(self) -> Report:
        """The answer, tables and notes for people; this draws no figure."""

    def figures(self) -> Drawings:
        """Figures by name; each is drawn when its function is called."""
        return {}

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables, the main one first: `result.tables[1].to_pandas()`."""
        report = self.report()
        return (*report.tables, *report.details)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """The values of the main table (see `ctrkit.reports.Table.to_pandas`)."""
        return self.tables[0].to_pandas()

    def __repr__(self) -> str:
        report = self.report()
        said = " ".join((report.answer or report.title).split())
        return f"<{type(self).__name__}: {cut(said, _LINE)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return notebook_html(self.report())
