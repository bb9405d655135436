"""Show the settings that a function takes as keywords: name, type, default and meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, formatannotation, getdoc, signature
from typing import Any, ParamSpec, TypeVar

from pydantic.fields import FieldInfo

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_EXAMPLE = "\nExample:\n"


def takes_settings(
    *kinds: type[Config],
) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Decorate a function that hands its `**settings` to `ctrkit.config.settings_of`.

    `inspect.signature`, `help` and the completion of notebooks then know every keyword.

    Args:
        kinds: the configs that have the settings; if there are several, the input decides which one applies.

    Raises:
        ConfigError: the function is called with a keyword that is neither an argument nor a setting.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        own = signature(function)
        known = {name: one for name, one in own.parameters.items() if one.kind is not Parameter.VAR_KEYWORD}
        for kind in kinds:
            for key, field in kind.model_fields.items():
                name = kind.keyword_names.get(key, key)
                known.setdefault(name, _parameter(name, field))

        @wraps(function)
        def taking(*args: Parameters.args, **keywords: Parameters.kwargs) -> Returned:
            for name in keywords:
                if name not in known:
                    raise ConfigError(
                        f"{function.__name__}() has no argument '{name}'", hint=nearest(name, known)
                    )
            return function(*args, **keywords)

        said, example, shown = (getdoc(function) or "").partition(_EXAMPLE)
        taking.__doc__ = "\n".join(
            [f"{said.rstrip()}\n", *(_meaning(kind) for kind in kinds), example + shown]
        )
        taking.__signature__ = own.replace(parameters=[*known.values()])  # type: ignore[attr-defined]
        return taking

    return decorate


def _parameter(name: str, field: FieldInfo) -> Parameter:
    # Text, as the other annotations are; names of modules are left out.
    kind = re.sub(r"(\w+\.)+(?=\w)", "", formatannotation(field.annotation))
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=_Shown.of(default), annotation=kind)


class _Shown(str):
    """A default, shown in its shortest form."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def of(cls, default: Any) -> Any:
        """A config as the call that makes it; any other default unchanged."""
        if not isinstance(default, Config):
            return default
        given = (f"{key}={getattr(default, key)!r}" for key in sorted(default.model_fields_set))
        return cls(f"{type(default).__name__}({', '.join(given)})")


def _meaning(kind: type[Config]) -> str:
    """What a config's docstring says about its keys, under their names as keywords."""
    bases = [base for base in kind.__mro__ if issubclass(base, Config) and base is not Config]
    keys = "\n".join((getdoc(base) or "").partition("Attributes:\n")[2].rstrip() for base in bases)
    for key, name in kind.keyword_names.items():
        keys = re.sub(rf"\b{key}\b(?=[\w, ]*:)", name, keys, count=1)
    return f"Settings of `{kind.__name__}`, as keywords that override `config` and `overrides`:\n{keys}\n"
