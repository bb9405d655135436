"""Settings that every command on a log shares: which columns play which role."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field

from ctrkit.config import Config, ConfigLike, settings_of
from ctrkit.errors import ConfigError
from ctrkit.schema import BANDIT_LOG, LogSchema
from ctrkit.settings import read_settings


def _roles(given: Any) -> Any:
    """A mapping of one or several texts `ROLE=COLUMN,...`; anything else as it is."""
    if not isinstance(given, str | list | tuple):
        return given
    found: dict[str, str] = {}
    for text in [given] if isinstance(given, str) else given:
        for role, column in read_settings(str(text), "map").items():
            if role in found:
                raise ConfigError(f"map: '{role}' is given twice", hint="Name one column for it")
            found[role] = column
    return found


Roles: TypeAlias = Annotated[dict[str, str], BeforeValidator(_roles)]


class LogColumns(Config):
    """The names that a log has of its own.

    Attributes:
        map: role -> the log's column for it, such as `{action: ad, propensity: p}`, or a text
            `action=ad,propensity=p`. Roles are the columns of the log's kind in `ctrkit.schema.logs`.
    """

    map: Roles = Field(default_factory=dict)


class BanditLogColumns(LogColumns):
    """The same for logs of choices among candidates.

    Attributes:
        propensity: the propensity of every row, of a log that has none: 1/3 where one of three candidates
            was drawn with equal chances.
    """

    propensity: float | None = Field(default=None, gt=0.0, le=1.0)

    @property
    def schema_of_log(self) -> LogSchema:
        """`BANDIT_LOG` for a log with these names.

        Raises:
            ConfigError: there is no such role, or a role or a column is named twice.
        """
        return BANDIT_LOG.called(self.map, self.constants)

    @property
    def constants(self) -> dict[str, float]:
        """Columns that are the same in every row."""
        return {} if self.propensity is None else {"propensity": self.propensity}


class _Asked(BanditLogColumns):
    """What a call says of the columns, whatever its other settings are."""

    model_config = ConfigDict(extra="ignore")


def columns_asked(
    config: ConfigLike, overrides: Sequence[str], keywords: Mapping[str, Any]
) -> BanditLogColumns:
    """What a call says of the columns, before it is known which settings the kind of log has."""
    given = config.model_dump(include={"map", "propensity"}) if isinstance(config, Config) else config
    if not isinstance(given, Mapping | str | os.PathLike):
        given = None  # the settings of the log will say what is wrong with it
    return settings_of(_Asked, given, overrides, keywords)
