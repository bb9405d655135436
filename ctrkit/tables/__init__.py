"""Tables in and out: one reader for every format that ctrkit takes, and writes that are atomic."""

from ctrkit.tables.reading import TableLike, files_of, join_tables, name_of, read_table
from ctrkit.tables.writing import atomic_path, write_json, write_table, write_text

__all__ = [
    "TableLike",
    "atomic_path",
    "files_of",
    "join_tables",
    "name_of",
    "read_table",
    "write_json",
    "write_table",
    "write_text",
]
