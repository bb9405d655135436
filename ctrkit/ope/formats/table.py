"""The schema's own format: parquet, CSV or JSON lines with the columns of `ctrkit.schema.BANDIT_LOG`.

A CSV has no list columns. There `candidates`, `logging_probabilities` and `candidate_*` are text, with values
separated by `|` (`3|7|9`) or in brackets (`[3, 7, 9]`); see `ctrkit.tables.cells.lists_of`.
"""

from __future__ import annotations

from ctrkit.ope.formats.base import Format, LogTable
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.tables import IsText, TableLike, read_tables


def read(source: TableLike, skip_bad_lines: bool = False) -> LogTable:
    """Read one file or a table in memory.

    Raises:
        DataError: the file cannot be read (see `ctrkit.tables.read_table`).
    """
    (table,) = read_together(source, skip_bad_lines)
    return table


def read_together(
    source: TableLike,
    skip_bad_lines: bool = False,
    schema: LogSchema = BANDIT_LOG,
    also_text: IsText | None = None,
) -> tuple[LogTable, ...]:
    """Read the files of one log, or a table in memory; a column has the same type in all files.

    Raises:
        DataError: a file cannot be read (see `ctrkit.tables.read_table`).
    """
    found = read_tables(source, schema.text(also_text), skip_bad_lines=skip_bad_lines)
    tables = schema.typed(found, also_text)
    return tuple(LogTable(one.table, one.file, one.notes) for one in tables)


TABLE = Format("table", "the schema's own columns, as parquet, CSV or JSON lines", read)
