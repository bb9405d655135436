"""Tables in and out: one reader for every format that ctrkit takes, and writes that are atomic."""

from ctrkit.tables.reading import TableLike, files_of, join_tables, name_of, read_table
from ctrkit.tables.writing import atomic_path, check_writable, unwritable, write_json, write_table, write_text

__all__ = [
    "TableLike",
    "atomic_path",
    "check_writable",
    "files_of",
    "join_tables",
    "name_of",
    "read_table",
    "unwritable",
    "write_json",
    "write_table",
    "write_text",
]
