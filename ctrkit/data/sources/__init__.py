"""Public data sets, one file each with a subclass of `Source`. Every file of this folder is registered."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.settings import Registry

__all__ = ["SOURCES", "Source", "SourceTables", "read_source"]

SOURCES: Registry[Source] = Registry(Source, __name__)


def read_source(name: str, folder: str | os.PathLike[str]) -> pl.DataFrame:
    """The training table of a data set that a config names as its `source`.

    Raises:
        ConfigError: there is no source of that name.
        DataError: a file of the data set is missing or damaged.
    """
    return SOURCES.kind(name)().tables(Path(folder)).rows.collect()
