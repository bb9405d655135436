"""Recognises the format of a source by its file extension and its first lines."""

from __future__ import annotations

import json
from pathlib import Path

from ctrkit.errors import ConfigError, nearest
from ctrkit.ope.formats.align import aligned
from ctrkit.ope.formats.base import Format, LogTable, check_file
from ctrkit.ope.formats.criteo import CRITEO
from ctrkit.ope.formats.dsjson import DSJSON, LABELS
from ctrkit.ope.formats.obp_feedback import OBP, is_feedback
from ctrkit.ope.formats.open_bandit import COLUMNS, OPEN_BANDIT
from ctrkit.ope.formats.table import TABLE, read_together
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.tables import DELIMITED, PARQUET, IsText, TableLike, columns_of, files_of, kind_of, lines_of

FORMATS = {format.name: format for format in (TABLE, OBP, OPEN_BANDIT, DSJSON, CRITEO)}

# DSJSON may have this many lines of checkpoints or rewards before its first decision.
_LOOK_AT = 100


def read_log(
    source: TableLike,
    format: str | None = None,
    skip_bad_lines: bool = False,
    schema: LogSchema = BANDIT_LOG,
    also_text: IsText | None = None,
) -> tuple[LogTable, ...]:
    """Read a log: one `LogTable` for each file, in the order given. Values are not checked yet.

    Args:
        source: a path, a glob, a list of paths and globs, a table in memory, or obp's dictionary.
        format: a name of `FORMATS`; by default recognised from each file's content.
        skip_bad_lines: whether broken lines of JSON lines and DSJSON are left out, with a note.
        schema: says which columns of a table are ids or lists.
        also_text: says which other columns of a table hold ids, for example `FeatureSpec.is_text`.

    Raises:
        ConfigError: there is no such format.
        DataError: a file cannot be read in its format.
    """
    if format is not None and format not in FORMATS:
        raise ConfigError(f"there is no format '{format}'", hint=nearest(format, FORMATS))
    files = files_of(source)
    if files is None:
        if format == OBP.name or (format is None and is_feedback(source)):
            return (OBP.read(source, skip_bad_lines),)
        return read_together(source, skip_bad_lines, schema, also_text)
    chosen = [FORMATS[format] if format is not None else detect(file) for file in files]
    # Tables are read together, so that a column has one type in all of them.
    plain = [file for one, file in zip(chosen, files, strict=True) if one is TABLE]
    of_tables = iter(read_together(plain, skip_bad_lines, schema, also_text) if plain else ())
    tables = tuple(
        next(of_tables) if one is TABLE else one.read(file, skip_bad_lines)
        for one, file in zip(chosen, files, strict=True)
    )
    return aligned(tables) if all(one in (DSJSON, CRITEO) for one in chosen) else tables


def detect(path: Path) -> Format:
    """The format of a file; a table of the schema's columns where no other format is recognised.

    Raises:
        DataError: when the file is missing, empty, or damaged text.
    """
    check_file(path)
    kind = kind_of(path)
    if kind in PARQUET:
        return TABLE
    if kind == ".npz":
        return OBP
    if kind in DELIMITED:
        return OPEN_BANDIT if set(COLUMNS) <= set(columns_of(path)) else TABLE
    if kind == ".dsjson":
        return DSJSON
    if kind in (".jsonl", ".ndjson", ".json", ".txt", ".log", ""):
        return _of_text(path)
    return TABLE


def _of_text(path: Path) -> Format:
    for number, (_, text) in enumerate(lines_of(path)):
        if text.startswith("example "):
            return CRITEO
        event = parsed(text)
        if isinstance(event, dict) and any(label in event for label in LABELS):
            return DSJSON
        # A checkpoint, a broken line or a reward alone decides nothing; any other line belongs to a table.
        silent = text.startswith("[") or (text.startswith("{") and event is None) or '"RewardValue"' in text
        if number >= _LOOK_AT or not silent:
            break
    return TABLE


def parsed(text: str) -> object:
    """The content of a line of JSON; None if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
