"""Redis: an online store that many machines share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ctrkit.errors import reason
from ctrkit.extras import require
from ctrkit.online.store import FeatureRow, FeatureSet, StoreError
from ctrkit.online.values import packed, unpacked

# A value is its time, a line break, and the content. The script runs at once: no other client comes between.
_PUT = """
local written = 0
for place, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  local time = ARGV[2 * place]
  if not held or tonumber(string.match(held, '^[^\\n]*')) <= tonumber(time) then
    local value = time .. '\\n' .. ARGV[2 * place + 1]
    if ARGV[1] == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ARGV[1]) end
    written = written + 1
  end
end
return written
"""
# Rows in one call of the script: Redis serves nobody else while it runs.
_ROWS = 500


class RedisStore:
    """An online store in a server of Redis. The password comes from the variable REDIS_PASSWORD.

    Args:
        address: `redis://HOST:PORT/DB`, or `rediss://` for TLS.
    """

    read_only = False

    def __init__(self, address: str) -> None:
        self.address = address
        self._redis = require("redis", "the online store of Redis", "redis")
        self._client: Any = self._redis.Redis.from_url(
            address, password=os.environ.get("REDIS_PASSWORD"), socket_timeout=10, socket_connect_timeout=5
        )
        self._put = self._client.register_script(_PUT)

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """As in `OnlineStore`: one round trip for all keys."""
        if not keys:
            return []
        try:
            held = self._client.mget([_key(features, key) for key in keys])
        except self._redis.RedisError as error:
            raise self._failed(error) from error
        try:
            return [None if one is None else unpacked(one.split(b"\n", 1)[1]) for one in held]
        except (ValueError, IndexError) as error:
            raise StoreError(f"{self.address} holds damaged values: {reason(error)}") from error

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """As in `OnlineStore`: one round trip for 500 rows."""
        life = "" if ttl is None else str(max(1, round(1000 * ttl)))
        content = [(_key(features, r.key), repr(r.time), packed(r.values, r.key)) for r in rows]
        written = 0
        try:
            for start in range(0, len(content), _ROWS):
                part = content[start : start + _ROWS]
                values = [value for _, time, packed_row in part for value in (time, packed_row)]
                written += int(self._put(keys=[key for key, _, _ in part], args=[life, *values]))
        except self._redis.RedisError as error:
            raise self._failed(error) from error
        return written

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._client.close()

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"the online store {self.address} does not answer: {reason(error)}")


def _key(features: FeatureSet, key: str) -> str:
    return f"ctrkit:{features.path}:{key}"
