"""Encoders of a behaviour sequence: they read events and give a state for each event.

Every file of this folder is registered automatically.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import Field

from ctrkit.nn.encoders.attention import SASRecEncoderConfig, TransformerEncoderConfig
from ctrkit.nn.encoders.base import Encoded, EncoderConfig, HistoryEncoder, Memory, RecurrentEncoder
from ctrkit.nn.encoders.mamba import Mamba4RecEncoderConfig, MambaConfig
from ctrkit.nn.encoders.none import NoEncoder, NoEncoderConfig
from ctrkit.nn.encoders.recurrent import GRUConfig, LSTMConfig

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)


def _named(base: Any) -> Iterator[type[EncoderConfig]]:
    """The configs below a class that have a `name` of their own."""
    for config in base.__subclasses__():
        if not config.model_fields["name"].is_required():
            yield config
        yield from _named(config)


ENCODERS = {config.model_fields["name"].default: config for config in _named(EncoderConfig)}

# In configs: any of them, chosen by its name.
if TYPE_CHECKING:
    EncoderSetting: TypeAlias = EncoderConfig
else:
    EncoderSetting = Annotated[reduce(or_, ENCODERS.values()), Field(discriminator="name")]

__all__ = [
    "ENCODERS",
    "Encoded",
    "EncoderConfig",
    "EncoderSetting",
    "GRUConfig",
    "HistoryEncoder",
    "LSTMConfig",
    "Mamba4RecEncoderConfig",
    "MambaConfig",
    "Memory",
    "NoEncoder",
    "NoEncoderConfig",
    "RecurrentEncoder",
    "SASRecEncoderConfig",
    "TransformerEncoderConfig",
]
