"""Public datasets, one file each with a function `read(folder)` that gives a table with ctrkit's columns."""

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
        ConfigError: there is no source of that name.
        DataError: a file of the dataset is missing or damaged.
    """
    if name not in SOURCES:
        raise ConfigError(f"unknown source '{name}'", hint=nearest(name, SOURCES))
    return SOURCES[name](folder)
