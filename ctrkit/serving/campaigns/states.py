"""States of bid strategies as plain data: JSON, which can hold no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ctrkit.errors import ConfigError

# Only classes of this room are made from what a ledger holds.
_ROOM = "ctrkit.bidding."


def packed(state: Any) -> Any:
    """The plain data of a state.

    Raises:
        ConfigError: the state holds what is no plain data.
    """
    if state is None or isinstance(state, bool | int | float | str):
        return state.item() if isinstance(state, np.generic) else state
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, np.ndarray) and state.dtype.kind in "biuf":
        return {"array": state.ravel().tolist(), "shape": list(state.shape), "type": state.dtype.str}
    kind = type(state)
    if (names := _parts(kind)) is not None and kind.__module__.startswith(_ROOM):
        content = {name: packed(getattr(state, name)) for name in names}
        return {"class": f"{kind.__module__}:{kind.__qualname__}", "content": content}
    if isinstance(state, tuple):
        return {"tuple": [packed(one) for one in state]}
    raise ConfigError(
        f"a server cannot keep a {kind.__name__}, which the strategy learns with",
        hint="Choose a strategy without a model of its own, such as dual or pid",
    )


def unpacked(content: Any) -> Any:
    """The state of plain data.

    Raises:
        ValueError: the data are no state.
    """
    if not isinstance(content, Mapping):
        return content
    if "array" in content:
        return np.array(content["array"], dtype=content["type"]).reshape(content["shape"])
    if "tuple" in content:
        return tuple(unpacked(one) for one in content["tuple"])
    module, _, name = str(content.get("class", "")).partition(":")
    if not module.startswith(_ROOM):
        raise ValueError("this is no state of a strategy")
    kind = getattr(import_module(module), name, None)
    if not isinstance(kind, type) or _parts(kind) is None:
        raise ValueError(f"there is no state {name}")
    return kind(**{name: unpacked(one) for name, one in content["content"].items()})


def _parts(kind: type) -> Sequence[str] | None:
    """The names of the parts of a class of plain data; None for another class."""
    if is_dataclass(kind):
        return [one.name for one in fields(kind)]
    return getattr(kind, "_fields", None) if issubclass(kind, tuple) else None
