"""Configs of the heads: what the tasks share, and the tower of each."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveInt

from ctrkit.config import Config


class TowersConfig(Config):
    """What all heads have: a tower a task.

    Attributes:
        towers: widths of each task's tower; none by default: a linear layer on what the bottom gives.
        dropout: share dropped in the towers.
    """

    name: str
    towers: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class SharedBottomConfig(TowersConfig):
    """One backbone, a tower a task."""

    name: Literal["shared_bottom"] = "shared_bottom"


class ESMMConfig(TowersConfig):
    """One backbone and one tower a task, over shared embeddings."""

    name: Literal["esmm"] = "esmm"


HeadsConfig: TypeAlias = Annotated[SharedBottomConfig | ESMMConfig, Field(discriminator="name")]
