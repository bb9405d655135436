"""What an online store is: the protocol of its two methods, and what they take and give."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ctrkit.errors import ConfigError, RunError
from ctrkit.online.values import Values

_NAME = re.compile(r"[\w.-]{1,200}")


class StoreError(RunError):
    """An online store cannot be reached, refuses the work, or holds damaged data."""


@dataclass(frozen=True)
class FeatureSet:
    """Which features a key has values of. Two versions of one set stand beside each other in a store.

    Attributes:
        name: name of the set.
        version: its version, for example `ctrkit.data.versions.version_of` of an encoder.
        key: column of the keys, for example `user_id`.

    Raises:
        ConfigError: a part is empty, or has signs other than letters, digits, `_`, `.` and `-`.
    """

    name: str
    version: str
    key: str

    def __post_init__(self) -> None:
        for part, text in vars(self).items():
            if not _NAME.fullmatch(text):
                raise ConfigError(
                    f"the {part} of a feature set is {text!r}",
                    hint="Use letters, digits, `_`, `.` and `-`",
                )

    @property
    def path(self) -> str:
        """The set as the beginning of a key in a store."""
        return f"{self.name}:{self.version}:{self.key}"


@dataclass(frozen=True)
class FeatureRow:
    """The values of one key at one time.

    Attributes:
        key: the key.
        time: when the values became true, in unix seconds. A row never replaces one of a later time.
        values: column -> value.
    """

    key: str
    time: float
    values: Values


class OnlineStore(Protocol):
    """A store of the newest values of every key.

    Both methods may be called from several threads. They raise `StoreError` if the store cannot be reached,
    and `DataError` for values that cannot be stored.

    Attributes:
        read_only: another system fills the store, and `put_many` refuses.
    """

    @property
    def read_only(self) -> bool: ...

    def get_many(self, features: FeatureSet, keys: Sequence[str]) -> list[Mapping[str, object] | None]:
        """The values of some keys, in their order; None for a key without values or with expired ones."""

    def put_many(self, features: FeatureSet, rows: Sequence[FeatureRow], *, ttl: float | None = None) -> int:
        """Write rows, and give the number of those that were written. The others have a later row already.

        The same rows may be written again: a row of the same time is replaced.

        Args:
            features: the set that the values belong to.
            rows: the rows.
            ttl: seconds from now after which these rows count as missing; None: never.
        """


def read_only(what: str) -> ConfigError:
    """The error for writing into a store that another system fills."""
    return ConfigError(
        f"{what} is read only: another system fills it", hint="Write into sqlite, redis or dynamodb"
    )
