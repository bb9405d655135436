"""Text files as they are downloaded: plain, compressed by gzip or bzip2, or inside a zip or tar archive."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ctrkit.errors import DataError

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2")
COMPRESSED = (".gz", ".bz2")
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError)


@dataclass(frozen=True)
class TextFile:
    """A file, or a member of an archive.

    Attributes:
        path: the file.
        member: name of the member; None for the file itself.
    """

    path: Path
    member: str | None = None

    def __fspath__(self) -> str:
        """Its path in messages."""
        return os.fspath(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def name(self) -> str:
        """The name without folders and without the ending of a compression."""
        name = Path(self.member or self.path).name
        ending = next((one for one in COMPRESSED if name.endswith(one)), "")
        return name.removesuffix(ending)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content as a stream, decompressed while it is read.

        Raises:
            DataError: the file cannot be read, or is damaged; also while the stream is read.
        """
        try:
            with ExitStack() as stack:
                raw: BinaryIO
                if self.member is None:
                    raw = stack.enter_context(self.path.open("rb"))
                elif _is_zip(self.path):
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    raw = cast(BinaryIO, stack.enter_context(archive.open(self.member)))
                else:
                    # A tar archive has no index: it is read up to the member.
                    tar = stack.enter_context(tarfile.open(self.path, "r|*"))
                    content = next(tar.extractfile(one) for one in tar if one.name == self.member)
                    raw = cast(BinaryIO, stack.enter_context(cast(io.BufferedReader, content)))
                yield unpacked(raw)
        except _DAMAGE as error:
            raise damaged_text(self, error) from error


def unpacked(raw: BinaryIO) -> BinaryIO:
    """The content of a stream, which may be compressed by gzip or bzip2."""
    start = cast(io.BufferedReader, raw).peek(3)[:3]
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    return cast(BinaryIO, bz2.BZ2File(raw)) if start == b"BZh" else raw


def damaged_text(file: str | os.PathLike[str], error: Exception) -> DataError:
    """The error for a file that cannot be read to its end."""
    return DataError(
        f"the file is damaged or cannot be read ({error})", file=file, hint="Copy or download it again"
    )


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its ending."""
    return path.name.lower().endswith(ARCHIVES)


def members_of(path: Path) -> list[TextFile]:
    """The files in an archive, in their order; a tar archive is read to its end.

    Raises:
        DataError: the archive is damaged.
    """
    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                names = [one.filename for one in archive.infolist() if not one.is_dir()]
        else:
            with tarfile.open(path, "r|*") as tar:
                names = [one.name for one in tar if one.isfile()]
    except _DAMAGE as error:
        raise damaged_text(path, error) from error
    return [TextFile(path, name) for name in names]


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")
