"""Addresses of ledgers."""

from __future__ import annotations

from ctrkit.errors import ConfigError
from ctrkit.serving.campaigns.ledger import Ledger


def open_ledger(address: str) -> Ledger:
    """The ledger at an address.

    Args:
        address: `sqlite:PATH` or `redis://HOST:PORT/DB`.

    Raises:
        ConfigError: the address is wrong.
        MissingPackage: Redis' package is not installed.
    """
    kind, _, place = address.partition(":")
    if kind == "sqlite" and place:
        from ctrkit.serving.campaigns.sqlite import SqliteLedger

        return SqliteLedger(place)
    if kind in ("redis", "rediss") and place and "@" not in place:
        from ctrkit.serving.campaigns.redis import RedisLedger

        return RedisLedger(address)
    raise ConfigError(
        "the address of the ledger is wrong",
        hint="Give sqlite:PATH, or redis://HOST:PORT/DB without a password",
    )
