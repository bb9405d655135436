"""SQLite: an online store in one file, for one machine."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ctrkit.errors import DataError, reason
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError
from ctrkit.online.values import packed, unpacked

T = TypeVar("T")

# `ctrk` as a number: a mark in the file's head by which a store is recognised.
_MARK = 0x6374726B
_TABLE = (
    "CREATE TABLE IF NOT EXISTS features (features TEXT, key TEXT, time REAL NOT NULL, expires REAL,"
    " content BLOB NOT NULL, PRIMARY KEY (features, key)) WITHOUT ROWID"
)
_GET = (
    "SELECT key, content FROM features WHERE features = ? AND key IN (SELECT value FROM json_each(?))"
    " AND (expires IS NULL OR expires > ?)"
)
# A row that has expired does not protect itself against an older one.
_PUT = (
    "INSERT INTO features VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET time = excluded.time,"
    " expires = excluded.expires, content = excluded.content"
    " WHERE excluded.time >= features.time OR features.expires <= ?"
)


class SqliteStore:
    """An online store in a file of SQLite.

    Args:
        path: the file; the first write makes it.
    """

    read_only = False

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._known: sqlite3.Connection | None = None

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """As in `OnlineStore`: one query for all keys."""
        if not self.path.exists():
            raise DataError(
                "no such online store", file=self.path, hint="Fill one with `ctrkit features push`"
            )
        wanted = (features.path, json.dumps(list(keys)), time.time())
        found = dict(self._work(lambda it: it.execute(_GET, wanted).fetchall()))
        try:
            return [unpacked(found[key]) if key in found else None for key in keys]
        except ValueError as error:
            raise StoreError(f"{self.path} holds damaged values: {reason(error)}") from error

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """As in `OnlineStore`: all rows in one transaction."""
        now = time.time()
        ends = None if ttl is None else now + ttl
        content = [(features.path, r.key, r.time, ends, packed(r.values, r.key), now) for r in rows]

        def write(connection: sqlite3.Connection) -> int:
            with connection:
                return connection.executemany(_PUT, content).rowcount

        return max(self._work(write), 0)

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                if self._known is None:
                    self._known = self._connected()
                return work(self._known)
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: {reason(error)}") from error

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
        try:
            (mark,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if mark != _MARK and tables:
                raise DataError(
                    "this is another database, not an online store", file=self.path, hint="Give another file"
                )
            # Readers do not wait for a writer.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA application_id = {_MARK}")
            connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            connection.close()
            if "not a database" in str(error):
                raise DataError(
                    "this is no file of SQLite", file=self.path, hint="Give another file"
                ) from error
            raise
        except DataError:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._known is not None:
                self._known.close()
                self._known = None
