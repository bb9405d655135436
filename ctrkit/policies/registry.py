"""Policies by name: each `PolicyConfig` of this folder is registered by being there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from ctrkit.policies.base import PolicyConfig
from ctrkit.settings import Registry, content_of, read_line, setting_fields

POLICIES: Final = Registry[PolicyConfig](PolicyConfig, __name__.rpartition(".")[0])


def policy_config(given: str | Mapping[str, Any] | PolicyConfig) -> PolicyConfig:
    """The config in `NAME,key=value,...`, or a mapping of `name` and settings; without a name that of greedy.

    Runs and artifacts of before wrote down the settings of all policies; those of the others are left out.

    Raises:
        ConfigError: see `Registry.read`.
    """
    if isinstance(given, Mapping):
        given = {"name": "greedy", **given}
        own = setting_fields(POLICIES.kind(read_line(str(given["name"]))[0]))
        of_others = {key for kind in POLICIES.values() for key in setting_fields(kind)} - own.keys()
        given = {key: value for key, value in given.items() if key not in of_others}
    return POLICIES.read(given)


# In configs.
PolicySetting: TypeAlias = Annotated[
    InstanceOf[PolicyConfig], BeforeValidator(policy_config), PlainSerializer(content_of)
]
