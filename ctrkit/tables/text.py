"""Text files, gzip-compressed or not, as Unicode."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from ctrkit.errors import DataError
from ctrkit.file_kinds import file_kind

_MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
_RESAVE = "Save it as UTF-8; if it is Latin-1, use `iconv -f LATIN1 -t UTF-8 OLD > NEW`"


def content_of(path: Path, most: int = -1) -> bytes:
    """A text file as UTF-8, decompressed and without a byte order mark.

    Args:
        path: the file.
        most: number of bytes to read; -1: all.

    Raises:
        DataError: the archive is damaged, or the encoding of the text is not recognised.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(most)
    except (OSError, EOFError, zlib.error) as error:
        if not packed:
            raise
        raise DataError(
            f"the gzip archive is damaged ({error})", file=path, hint="Copy or write it again"
        ) from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        encoding = _wide(content[:1000])
    if encoding is None and b"\0" in content[:1000]:
        raise DataError(
            f"the file is not a text table: it is {file_kind(path).name}",
            file=path,
            hint="Give a parquet file the ending .parquet, or save the table as CSV",
        )
    try:
        # The last letter may be cut off.
        errors = "strict" if most < 0 else "ignore"
        return content if encoding is None else content.decode(encoding, errors).encode()
    except UnicodeDecodeError as error:
        raise DataError(f"the {encoding} text is damaged ({error})", file=path, hint=_RESAVE) from error


def _wide(head: bytes) -> str | None:
    """UTF-16 without its mark: where every other byte of plain letters is zero."""
    low, high = (head[start::2] for start in (0, 1))
    for zeros, others, name in ((high, low, "utf-16-le"), (low, high, "utf-16-be")):
        if 10 * zeros.count(0) > 9 * len(zeros) and not others.count(0):
            return name
    return None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their indices, from 0; blank lines are left out.

    Raises:
        DataError: the file cannot be read (see `content_of`), or the text is not UTF-8.
    """
    content = content_of(path)
    check_unicode(content, path)
    for number, line in enumerate(content.split(b"\n")):
        if text := line.decode().strip():
            yield number, text


def check_unicode(content: bytes, path: str | os.PathLike[str]) -> None:
    """Refuse text in an 8-bit encoding, because it is unknown which letters its bytes are."""
    try:
        if not content.isascii():
            content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"the file is not UTF-8 text: line {line} holds the byte 0x{content[error.start]:02X}, as in "
            "Latin-1 or another 8-bit encoding",
            file=path,
            hint=_RESAVE,
        ) from error
