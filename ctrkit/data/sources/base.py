"""A public data set: what it is, where its owner publishes it, and how its official files become tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl


@dataclass(frozen=True)
class SourceTables:
    """The tables of a data set, not yet read: Polars reads what a command needs of them.

    Attributes:
        rows: one row for each impression (or what the data set has in its place), with its labels and with
            the features that are known of it, such as those of its user and of its item.
        events: name -> what users did, one row for each event, from which histories are made.
    """

    rows: pl.LazyFrame
    events: Mapping[str, pl.LazyFrame] = field(default_factory=dict)


class Source(ABC):
    """A public data set. Its class is found by its name when its file stands in `ctrkit/data/sources`.

    Attributes:
        name: its name in a config and on the command line.
        rows: number of rows of the published files, in words such as "45.8 M".
        columns: number of columns of a row; None where it depends on the files.
        labels: columns of `rows` that can be labels: 0 or 1.
        publisher: address of the page on which the owner publishes it.
        terms: terms of use, in a few words.
        first_line: regular expression of the beginning of its main file, or of the names of the columns of
            parquet with commas between, by which the data set is recognised; None if they do not tell.
    """

    what: ClassVar[str] = "source"
    name: ClassVar[str]
    rows: ClassVar[str]
    columns: ClassVar[int | None]
    labels: ClassVar[tuple[str, ...]] = ("click",)
    publisher: ClassVar[str]
    terms: ClassVar[str]
    first_line: ClassVar[str | None] = None

    @abstractmethod
    def tables(self, path: Path) -> SourceTables:
        """The tables of the official files, as they are downloaded.

        Args:
            path: the file, or the folder of the files.

        Raises:
            DataError: a file is missing or damaged.
        """
