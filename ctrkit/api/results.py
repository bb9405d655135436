"""What the flat functions return."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctrkit.reports.document import Report

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result(ABC):
    """Base of all results: the same content for machines, for notebooks and for people."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; holds all that the tables show."""

    @abstractmethod
    def report(self) -> Report:
        """Tables and figures for a person."""

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self) -> pd.DataFrame:
        """The first table of the report."""
        import pandas as pd

        table = self.report().tables[0]
        return pd.DataFrame(list(table.rows), columns=list(table.header))
