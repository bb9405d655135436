"""Public datasets in ctrkit's terms: one file each, a function `read(folder)` that gives one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import polars as pl

from ctrkit.data.sources import hillstrom, trivago
from ctrkit.errors import ConfigError, nearest

SOURCES: Mapping[str, Callable[[str | os.PathLike[str]], pl.DataFrame]] = {
    "hillstrom": hillstrom.read,
    "trivago": trivago.read,
}


def read_source(name: str, folder: str | os.PathLike[str]) -> pl.DataFrame:
    """The training table of a dataset that a config names as its `source`.

    Raises:
        ConfigError: for a name that is no source.
        DataError: when a file of the dataset is missing or damaged.
    """
    if name not in SOURCES:
        raise ConfigError(f"'{name}' is no source of data", hint=nearest(name, SOURCES))
    return SOURCES[name](folder)
