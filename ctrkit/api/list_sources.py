"""`ctrkit sources`: all public data sets of the registry, and where their owners publish them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ctrkit.api.results import Result
from ctrkit.data.sources import SOURCES
from ctrkit.reports import Report, Table
from ctrkit.settings import meaning_of


@dataclass(frozen=True)
class SourceFacts:
    """A public data set.

    Attributes:
        name: its name in a config.
        description: what it is, in one line.
        rows: number of rows of the published files, in words.
        columns: number of columns of a row; None where it depends on the files.
        labels: columns that can be labels.
        publisher: address of the page on which the owner publishes it.
        terms: terms of use, in a few words.
    """

    name: str
    description: str
    rows: str
    columns: int | None
    labels: tuple[str, ...]
    publisher: str
    terms: str


@dataclass(frozen=True)
class SourceList(Result):
    """All data sets of the registry, by name."""

    sources: tuple[SourceFacts, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"sources": [asdict(source) for source in self.sources]}

    def report(self) -> Report:
        rows = tuple(
            (one.name, one.rows, one.columns, ", ".join(one.labels), one.description) for one in self.sources
        )
        places = tuple((one.name, one.terms, one.publisher) for one in self.sources)
        return Report(
            "Data sources",
            f"{len(rows)} data sources. `source: NAME` in a config reads the files in the folder DATA.",
            (
                Table("Data sources", ("source", "rows", "columns", "labels", "what it is"), rows),
                Table("Where their owners publish them", ("source", "terms", "page"), places),
            ),
        )


def list_sources() -> SourceList:
    """List all public data sets that a config can name as its `source`.

    Example:
        >>> import ctrkit
        >>> "criteo" in [source.name for source in ctrkit.list_sources().sources]
        True
    """
    return SourceList(
        tuple(
            SourceFacts(name, meaning_of(cls), cls.rows, cls.columns, cls.labels, cls.publisher, cls.terms)
            for name, cls in SOURCES.items()
        )
    )
