"""Tables in and out: one reader for every format that ctrkit takes, and writes that are atomic."""

from ctrkit.tables.chunks import Chunk, read_chunks
from ctrkit.tables.json_lines import BadLines
from ctrkit.tables.packed import TextFile, is_archive, members_of
from ctrkit.tables.reading import (
    DELIMITED,
    PARQUET,
    IsText,
    ReadTable,
    TableLike,
    check_same_columns,
    columns_of,
    delimiter_of,
    files_of,
    join_tables,
    kind_of,
    name_of,
    of_one_type,
    read_named,
    read_table,
    read_tables,
)
from ctrkit.tables.scanning import TextFormat, first_names, scan_files, scan_json_lines, scan_text
from ctrkit.tables.text import lines_of
from ctrkit.tables.writing import (
    WRITTEN,
    atomic_path,
    check_writable,
    table_writer,
    unwritable,
    write_json,
    write_table,
    write_text,
)

__all__ = [
    "DELIMITED",
    "PARQUET",
    "WRITTEN",
    "BadLines",
    "Chunk",
    "IsText",
    "ReadTable",
    "TableLike",
    "TextFile",
    "TextFormat",
    "atomic_path",
    "check_same_columns",
    "check_writable",
    "columns_of",
    "delimiter_of",
    "files_of",
    "first_names",
    "is_archive",
    "join_tables",
    "kind_of",
    "lines_of",
    "members_of",
    "name_of",
    "of_one_type",
    "read_chunks",
    "read_named",
    "read_table",
    "read_tables",
    "scan_files",
    "scan_json_lines",
    "scan_text",
    "table_writer",
    "unwritable",
    "write_json",
    "write_table",
    "write_text",
]
