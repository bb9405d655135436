"""A ledger in one file of SQLite, for the processes of one machine."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from ctrkit.errors import reason
from ctrkit.serving.campaigns.ledger import Account, Auction, LedgerError, Transaction

T = TypeVar("T")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS accounts (campaign TEXT, period INTEGER, content BLOB NOT NULL,"
    " PRIMARY KEY (campaign, period)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS auctions (campaign TEXT, id TEXT, period INTEGER NOT NULL,"
    " place INTEGER NOT NULL, open INTEGER NOT NULL, moment REAL NOT NULL, content BLOB NOT NULL,"
    " PRIMARY KEY (campaign, id)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS places ON auctions (campaign, period, place)",
    "CREATE INDEX IF NOT EXISTS open_bids ON auctions (campaign, moment) WHERE open",
    "CREATE INDEX IF NOT EXISTS open_places ON auctions (campaign, period, place) WHERE open",
)


class SqliteLedger:
    """A ledger in a file of SQLite. What was written stays if the process is killed.

    Args:
        path: the file; the first change makes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: sqlite3.Connection | None = None

    def change(self, campaign: str, period: int, work: Callable[[Transaction], T]) -> T:
        """As in `Ledger`: one transaction, which waits for those of other processes."""
        with self._lock:
            try:
                connection = self._known = self._known or self._connected()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    found = work(_Change(connection, campaign, period))
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise LedgerError(f"The ledger {self.path} does not answer: {reason(error)}") from error
        return found

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for table in _TABLES:
            connection.execute(table)
        return connection

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._known is not None:
                self._known.close()
                self._known = None


class _Change:
    """A `Transaction` on a connection."""

    def __init__(self, connection: sqlite3.Connection, campaign: str, period: int) -> None:
        self._connection, self._campaign, self._period = connection, campaign, period

    def account(self, period: int) -> Account | None:
        query = "SELECT content FROM accounts WHERE campaign = ? AND period = ?"
        found = self._connection.execute(query, (self._campaign, period)).fetchone()
        return None if found is None else msgspec.json.decode(found[0], type=Account)

    def keep_account(self, account: Account) -> None:
        row = (self._campaign, account.period, msgspec.json.encode(account))
        changed = "INSERT INTO accounts VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET content = excluded.content"
        self._connection.execute(changed, row)

    def auction(self, id: str) -> Auction | None:
        query = "SELECT content FROM auctions WHERE campaign = ? AND id = ?"
        found = self._read(query, id)
        return found[0] if found else None

    def keep_auction(self, auction: Auction) -> None:
        key, content = (
            (self._campaign, auction.id, auction.period, auction.place),
            msgspec.json.encode(auction),
        )
        row = (*key, auction.open, auction.moment, content)
        self._connection.execute("INSERT OR REPLACE INTO auctions VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def open_before(self, moment: float) -> Sequence[Auction]:
        query = "SELECT content FROM auctions WHERE campaign = ? AND open AND moment < ?"
        return self._read(query, moment)

    def between(self, period: int, first: int, end: int) -> Sequence[Auction]:
        places = "period = ? AND place >= ? AND place < ? ORDER BY place"
        return self._read(f"SELECT content FROM auctions WHERE campaign = ? AND {places}", period, first, end)

    def any_open(self, period: int, first: int, end: int) -> bool:
        query = (
            "SELECT 1 FROM auctions WHERE campaign = ? AND open AND period = ? AND place >= ? AND place < ?"
        )
        key = (self._campaign, period, first, end)
        return self._connection.execute(f"{query} LIMIT 1", key).fetchone() is not None

    def forget(self) -> None:
        old = (self._campaign, self._period - 1)
        self._connection.execute("DELETE FROM auctions WHERE campaign = ? AND period < ?", old)

    def _read(self, query: str, *given: object) -> list[Auction]:
        rows = self._connection.execute(query, (self._campaign, *given)).fetchall()
        return [msgspec.json.decode(content, type=Auction) for (content,) in rows]
