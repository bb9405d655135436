"""Public data sets, one file each with a subclass of `Source`. Every file of this folder is registered."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ctrkit.data.sources.base import Source, SourceTables
from ctrkit.errors import DataError
from ctrkit.settings import Registry
from ctrkit.tables import TextFile, first_line_of, is_archive, members_of

__all__ = ["SOURCES", "Source", "SourceTables", "recognised", "source_tables"]

# Number of files of a folder that are looked at.
_LOOK_AT = 20

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


def recognised(path: str | os.PathLike[str]) -> str | None:
    """The name of the public data set of which this is the main file, its archive or its folder; else None.

    Args:
        path: the path; of a folder or an archive, the first files are looked at.
    """
    place = Path(path)
    try:
        if place.is_dir():
            files = [TextFile(file) for file in sorted(place.rglob("*")) if file.is_file()]
        else:
            files = members_of(place) if is_archive(place) else [TextFile(place)]
        lines = [first_line_of(file) for file in files[:_LOOK_AT]]
    except DataError:
        return None
    known = ((name, source.first_line) for name, source in SOURCES.items() if source.first_line is not None)
    return next((name for name, sign in known if any(re.match(sign, line) for line in lines)), None)
