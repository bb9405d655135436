"""Public data sets, one file each with a subclass of `Source`. Every file of this folder is registered."""

from __future__ import annotations

import os
from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.settings import Registry

__all__ = ["SOURCES", "Source", "SourceTables", "source_tables"]

SOURCES: Registry[Source] = Registry(Source, __name__)


def source_tables(name: str, path: str | os.PathLike[str]) -> SourceTables:
    """The tables of a data set that a config names as its `source`.

    Args:
        name: name of the source.
        path: its file, or the folder of its files.

    Raises:
        ConfigError: there is no source of that name.
        DataError: a file of the data set is missing or damaged.
    """
    return SOURCES.kind(name)().tables(Path(path))
