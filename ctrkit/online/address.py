"""Addresses of online stores: where a store is, in one line, without any secret.

sqlite:PATH
redis://HOST:PORT/DB                 rediss:// with TLS; password: REDIS_PASSWORD
dynamodb:TABLE?region=R&endpoint=URL credentials: those of boto3 (AWS_ACCESS_KEY_ID, a profile, a role)
feast+http://HOST:PORT/VIEW?features=A,B    or ?service=NAME; add &keys=int for whole numbers as keys
tecton+https://HOST/WORKSPACE/SERVICE       key: TECTON_API_KEY
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from ctrkit.errors import ConfigError, nearest
from ctrkit.online.store import OnlineStore

_KINDS = ("sqlite", "redis", "rediss", "dynamodb", "feast+http", "feast+https", "tecton+http", "tecton+https")


@dataclass(frozen=True)
class Address:
    """The parts of an address.

    Attributes:
        text: the address.
        kind: what stands before the colon.
        place: host and port; empty for a file or a table.
        path: the path, the file or the table.
        options: what stands behind the question mark.
    """

    text: str
    kind: str
    place: str
    path: str
    options: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Address:
        """Read an address.

        Raises:
            ConfigError: it is none, or holds a password.
        """
        kind, colon, rest = text.partition(":")
        if not colon or kind not in _KINDS:
            raise ConfigError(
                f"'{kind}' is no kind of online store",
                hint=nearest(kind, _KINDS) if colon else "Give an address such as sqlite:features.db",
            )
        if kind == "sqlite":
            if not rest:
                raise ConfigError("the address has no file", hint="Give sqlite:PATH")
            return cls(text, kind, "", rest, {})
        parts = urlsplit(rest)
        if "@" in rest:
            raise ConfigError(
                f"the address of {kind} holds a user or a password",
                hint="Leave it out; the password of Redis comes from the variable REDIS_PASSWORD",
            )
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if kind != "dynamodb" and not parts.hostname:
            raise ConfigError(f"the address '{text}' has no host", hint=f"Give {kind}://HOST:PORT/…")
        return cls(text, kind, parts.netloc, parts.path, options)

    def only(self, known: Collection[str]) -> None:
        """Refuse options of another name.

        Raises:
            ConfigError: an option is not known. The message does not repeat its value, which may be a secret.
        """
        for name in self.options:
            if name not in known:
                hint = nearest(name, known) if known else "Leave it out"
                raise ConfigError(f"an address of {self.kind} has no option '{name}'", hint=hint)


def open_store(address: str) -> OnlineStore:
    """The online store at an address. No connection is made before its first use.

    Args:
        address: such as `sqlite:features.db` (see `ctrkit.online.address`).

    Raises:
        ConfigError: the address is wrong.
        MissingPackage: the package of the store is not installed; the message names the extra.
    """
    # Here, and not above: a store reads its address, and only the one in use is loaded.
    known = Address.of(address)
    if known.kind == "sqlite":
        from ctrkit.online.sqlite import SqliteStore

        return SqliteStore(known.path)
    if known.kind in ("redis", "rediss"):
        from ctrkit.online.redis import RedisStore

        known.only(())
        return RedisStore(address)
    if known.kind == "dynamodb":
        from ctrkit.online.dynamodb import DynamoStore

        known.only(("region", "endpoint"))
        if not known.path:
            raise ConfigError("the address has no table", hint="Give dynamodb:TABLE?region=REGION")
        return DynamoStore(known.path, known.options.get("region"), known.options.get("endpoint"))
    url = f"{known.kind.split('+')[1]}://{known.place}"
    names = [part for part in known.path.split("/") if part]
    if known.kind.startswith("feast"):
        from ctrkit.online.feast import FeastStore

        known.only(("features", "service", "keys"))
        columns = tuple(name for name in known.options.get("features", "").split(",") if name)
        service = known.options.get("service")
        if (service is None) != (len(names) == 1 and bool(columns)) or (service and columns):
            raise ConfigError(
                f"the address '{address}' names no features",
                hint="Give feast+http://HOST:PORT/VIEW?features=A,B or feast+http://HOST:PORT?service=NAME",
            )
        whole = known.options.get("keys", "text")
        if whole not in ("text", "int"):
            raise ConfigError(f"keys={whole} is no kind of keys", hint="Give keys=int or keys=text")
        return FeastStore(url, "" if service else names[0], columns, service, whole_keys=whole == "int")
    from ctrkit.online.tecton import TectonStore

    known.only(())
    if len(names) != 2:
        raise ConfigError(
            f"the address '{address}' names no service", hint="Give tecton+https://HOST/WORKSPACE/SERVICE"
        )
    return TectonStore(url, *names)
