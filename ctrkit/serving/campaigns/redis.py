"""A ledger in a server of Redis, for processes of many machines."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from ctrkit.errors import reason
from ctrkit.extras import require
from ctrkit.serving.campaigns.ledger import Account, Auction, LedgerError, Transaction

T = TypeVar("T")

# How often a change is tried that others came before, and the longest pause between two tries in seconds.
_TRIES, _PAUSE = 200, 0.01
# Seconds to wait for the server, and in which a server that has not answered is not asked again: a thread
# that waits for it does nothing else.
_PATIENCE, _REST = 0.5, 1.0


class RedisLedger:
    """A ledger in a server of Redis. The password comes from the variable REDIS_PASSWORD.

    Args:
        address: `redis://HOST:PORT/DB`, or `rediss://` for TLS.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._redis = require("redis", "the ledger of Redis", "redis")
        self._client: Any = self._redis.Redis.from_url(
            address,
            password=os.environ.get("REDIS_PASSWORD"),
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
        )
        self._asked_from = 0.0

    def change(self, campaign: str, period: int, work: Callable[[Transaction], T]) -> T:
        """As in `Ledger`: what was read must not have changed when it is written, or all begins again."""
        if time.monotonic() < self._asked_from:
            raise LedgerError(f"The ledger {self.address} has just not answered.")
        version = f"ctrkit:ledger:{campaign}:version"
        try:
            for _ in range(_TRIES):
                with self._client.pipeline() as pipe:
                    pipe.watch(version)
                    change = _Change(pipe, campaign, period)
                    found = work(change)
                    pipe.multi()
                    change.write()
                    pipe.incr(version)
                    try:
                        pipe.execute()
                    except self._redis.WatchError:
                        time.sleep(random.random() * _PAUSE)
                        continue
                    return found
        except (self._redis.RedisError, msgspec.MsgspecError) as error:
            if isinstance(error, self._redis.ConnectionError | self._redis.TimeoutError):
                self._asked_from = time.monotonic() + _REST
            raise LedgerError(f"The ledger {self.address} does not answer: {reason(error)}") from error
        raise LedgerError(f"The ledger {self.address} is too busy: others came before {_TRIES} times.")

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._client.close()


class _Change:
    """A `Transaction` on a connection that watches; writes are kept until the end."""

    def __init__(self, pipe: Any, campaign: str, period: int) -> None:
        self._pipe, self._of, self._periods = pipe, f"ctrkit:ledger:{campaign}", (period, period - 1)
        self._accounts: dict[int, Account] = {}
        self._auctions: dict[str, Auction] = {}
        self._forgotten: list[int] = []

    def account(self, period: int) -> Account | None:
        if period in self._accounts:
            return self._accounts[period]
        found = self._pipe.hget(f"{self._of}:accounts", period)
        return None if found is None else msgspec.json.decode(found, type=Account)

    def keep_account(self, account: Account) -> None:
        self._accounts[account.period] = account

    def auction(self, id: str) -> Auction | None:
        if id in self._auctions:
            return self._auctions[id]
        for period in self._periods:
            if (found := self._pipe.hget(f"{self._of}:{period}:auctions", id)) is not None:
                return msgspec.json.decode(found, type=Auction)
        return None

    def keep_auction(self, auction: Auction) -> None:
        self._auctions[auction.id] = auction

    def open_before(self, moment: float) -> Sequence[Auction]:
        ids = []
        for period in self._periods:
            ids += self._pipe.zrangebyscore(f"{self._of}:{period}:open", "-inf", f"({moment!r}")
        found = [self.auction(id.decode()) for id in ids]
        return [one for one in found if one is not None and one.open]

    def between(self, period: int, first: int, end: int) -> Sequence[Auction]:
        place = f"{self._of}:{period}"
        ids = self._pipe.zrangebyscore(f"{place}:places", first, f"({end}")
        kept = self._pipe.hmget(f"{place}:auctions", ids) if ids else []
        found = {
            id.decode(): msgspec.json.decode(one, type=Auction) for id, one in zip(ids, kept, strict=True)
        }
        found |= self._new(period, first, end)
        return sorted(found.values(), key=lambda one: one.place)

    def any_open(self, period: int, first: int, end: int) -> bool:
        kept = self._pipe.zrangebyscore(f"{self._of}:{period}:open_places", first, f"({end}")
        new = self._new(period, first, end)
        return any(one.open for one in new.values()) or any(id.decode() not in new for id in kept)

    def forget(self) -> None:
        kept = [int(period) for period in self._pipe.smembers(f"{self._of}:periods")]
        self._forgotten = [period for period in kept if period < min(self._periods)]

    def _new(self, period: int, first: int, end: int) -> dict[str, Auction]:
        """The auctions of these places that are not written yet."""
        written = self._auctions.items()
        return {id: one for id, one in written if one.period == period and first <= one.place < end}

    def write(self) -> None:
        """Put all writes into the transaction."""
        for period, account in self._accounts.items():
            self._pipe.hset(f"{self._of}:accounts", period, msgspec.json.encode(account))
            self._pipe.sadd(f"{self._of}:periods", period)
        for one in self._auctions.values():
            place = f"{self._of}:{one.period}"
            self._pipe.hset(f"{place}:auctions", one.id, msgspec.json.encode(one))
            self._pipe.zadd(f"{place}:places", {one.id: one.place})
            if one.open:
                self._pipe.zadd(f"{place}:open", {one.id: one.moment})
                self._pipe.zadd(f"{place}:open_places", {one.id: one.place})
            else:
                self._pipe.zrem(f"{place}:open", one.id)
                self._pipe.zrem(f"{place}:open_places", one.id)
        for period in self._forgotten:
            for kind in ("auctions", "open", "open_places", "places"):
                self._pipe.unlink(f"{self._of}:{period}:{kind}")
            self._pipe.srem(f"{self._of}:periods", period)
