"""Where a registry is: a folder, or an object store through fsspec. Files are made once, and never change."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from ctrkit.errors import ArtifactError, ConfigError, RunError
from ctrkit.extras import require
from ctrkit.serving.bundle import MANIFEST, check_files, read_manifest
from ctrkit.tables import atomic_path, unwritable


class StorageError(RunError):
    """The registry cannot be read or written now; it may come back."""


class Storage(Protocol):
    """A place of files.

    Attributes:
        address: the address, for messages.
    """

    address: str

    def names(self, folder: str) -> list[str]:
        """The names in a folder; none where there is no such folder.

        Raises:
            StorageError: it cannot be read.
        """

    def read(self, path: str) -> bytes:
        """A file.

        Raises:
            StorageError: it cannot be read.
        """

    def create(self, path: str, content: bytes) -> bool:
        """Make a file, whole or not at all; False if there is one already.

        Raises:
            StorageError: it cannot be written.
        """

    def upload(self, files: Sequence[Path], folder: str) -> None:
        """Copy files into a folder, in their order, in place of those that are there.

        Raises:
            RunError: one cannot be written.
        """

    def export(self, folder: str, cache: Path | None) -> Path:
        """The folder of an exported model on this machine.

        Args:
            folder: its folder here.
            cache: where copies of remote ones are kept; None for the user's cache.

        Raises:
            ArtifactError: a file is missing.
            RunError: it cannot be read, or the cache cannot be written.
        """


class FolderStorage:
    """A folder.

    Args:
        home: its path.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.address = home, os.fspath(home)

    def names(self, folder: str) -> list[str]:
        with _told(self.address):
            path = self.home / folder
            return sorted(os.listdir(path)) if path.is_dir() else []

    def read(self, path: str) -> bytes:
        with _told(self.address):
            return (self.home / path).read_bytes()

    def create(self, path: str, content: bytes) -> bool:
        target = self.home / path
        with _told(self.address):
            target.parent.mkdir(parents=True, exist_ok=True)
            # The lock ends with its process, however that ends.
            with (self.home / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if target.exists():
                    return False
                with atomic_path(target) as part:
                    part.write_bytes(content)
                return True

    def upload(self, files: Sequence[Path], folder: str) -> None:
        for file in files:
            with atomic_path(self.home / folder / file.name) as part:
                shutil.copyfile(file, part)

    def export(self, folder: str, cache: Path | None) -> Path:
        return self.home / folder


class RemoteStorage:
    """A place that fsspec knows, such as `s3://bucket/models`.

    Args:
        address: its address.

    Raises:
        ConfigError: fsspec knows no such place, or needs a package for it.
    """

    def __init__(self, address: str) -> None:
        fsspec = require("fsspec", "A registry at an address", "serve")
        self.address = address
        try:
            self._files, path = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"'{address}' cannot be opened: {error}", hint="Give a folder, or s3://BUCKET/PATH"
            ) from error
        self._home = path.rstrip("/")

    def names(self, folder: str) -> list[str]:
        with _told(self.address):
            self._files.invalidate_cache()
            try:
                found = self._files.ls(f"{self._home}/{folder}", detail=False)
            except FileNotFoundError:
                return []
            return sorted(str(one).rstrip("/").rpartition("/")[2] for one in found)

    def read(self, path: str) -> bytes:
        with _told(self.address):
            content: bytes = self._files.cat_file(f"{self._home}/{path}")
            return content

    def create(self, path: str, content: bytes) -> bool:
        with _told(self.address):
            try:
                self._files.makedirs(f"{self._home}/{path}".rpartition("/")[0], exist_ok=True)
                self._files.pipe_file(f"{self._home}/{path}", content, mode="create")
            except FileExistsError:
                return False
            return True

    def upload(self, files: Sequence[Path], folder: str) -> None:
        with _told(self.address):
            self._files.makedirs(f"{self._home}/{folder}", exist_ok=True)
            for file in files:
                self._files.put_file(os.fspath(file), f"{self._home}/{folder}/{file.name}")

    def export(self, folder: str, cache: Path | None) -> Path:
        own = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        target = (cache or _user_cache()) / own / folder
        with suppress(ArtifactError):  # a copy that is damaged is made again
            check_files(target, read_manifest(target))
            return target
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".copy-", dir=target.parent) as made:
                part = Path(made) / target.name
                part.mkdir()
                self._download(f"{folder}/{MANIFEST}", part)
                for name in read_manifest(part)["files"]:
                    self._download(f"{folder}/{name}", part)
                shutil.rmtree(target, ignore_errors=True)
                with suppress(OSError):  # another process was quicker
                    part.rename(target)
        except OSError as error:
            raise unwritable(target, error) from error
        return target

    def _download(self, path: str, folder: Path) -> None:
        with _told(self.address):
            try:
                self._files.get_file(f"{self._home}/{path}", os.fspath(folder / path.rpartition("/")[2]))
            except FileNotFoundError as error:
                raise ArtifactError(
                    "the file is missing", file=f"{self.address}/{path}", hint="Push the model again"
                ) from error


def _user_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ctrkit" / "registry"


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Stores raise errors of many kinds."""
    try:
        yield
    except (ArtifactError, ConfigError, RunError):
        raise
    except Exception as error:
        raise StorageError(
            f"The registry {address} cannot be read or written: {type(error).__name__}: {error}."
        ) from error


def storage_of(address: str | os.PathLike[str]) -> Storage:
    """The storage at an address: a folder, or what fsspec knows.

    Raises:
        ConfigError: the address is wrong, or a package is not installed.
    """
    text = os.fspath(address)
    return RemoteStorage(text) if "://" in text else FolderStorage(Path(text))
