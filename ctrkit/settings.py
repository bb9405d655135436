"""Objects from a name and settings in one line, `NAME:key=value,key=value`: the grammar, and registries."""

from __future__ import annotations

import inspect
import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pkgutil import walk_packages
from typing import Annotated, Any, TypeAlias, TypeVar, dataclass_transform

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from ctrkit.config import build, fields_of, told
from ctrkit.errors import ConfigError, nearest

T = TypeVar("T")


def _divides(number: float) -> float:
    if number and math.isinf(1.0 / number):
        raise ValueError("the number is too small to divide by")
    return number


def _whole(given: Any) -> Any:
    # pydantic accepts the number 1e5 as a whole number, but not the text `1e5`.
    return float(given) if isinstance(given, str) and re.fullmatch(r"[\d.]+e\+?\d+", given) else given


Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_divides)]
NotNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_divides)]
UnitInterval: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]
Count: TypeAlias = Annotated[int, Field(ge=1), BeforeValidator(_whole)]


def check(kind: Any, value: Any, what: str) -> None:
    """Check that a value is of a kind, such as `Positive`.

    Args:
        kind: the annotated type.
        value: the value.
        what: name of the value, for messages.

    Raises:
        ConfigError: it is not.
    """
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise told(error, type(value), what=what) from error


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def checked(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass whose fields are checked like those of a `Config`.

    The class has `what`, its kind in messages, and may have a `name`. A field with `Field(exclude=True)` is
    set by code only: it is not a setting of lines and mappings.
    """
    rules = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    made = pydantic_dataclass(frozen=True, config=rules)(cls)
    plain = made.__init__

    @wraps(plain)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            plain(self, *args, **kwargs)
        except ValidationError as error:
            raise told(error, type(self), what=title(type(self))) from error

    made.__init__ = init  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def title(cls: Any) -> str:
    """Kind and name of a `checked` class, for messages: `strategy 'dual'`."""
    name = getattr(cls, "name", None)
    return f"{cls.what} '{name}'" if name else str(cls.what)


def setting_fields(cls: type[Any]) -> dict[str, FieldInfo]:
    """The fields that a line or a mapping may set, by key."""
    return {name: field for name, field in fields_of(cls).items() if not field.exclude}


def read_line(text: str) -> tuple[str, dict[str, str]]:
    """The name and the settings in `NAME:key=value,...`, where a comma may stand for the colon.

    Raises:
        ConfigError: a setting has no value or is given twice.
    """
    name, settings = re.fullmatch(r"([^:,]*)[:,]?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return name.strip(), read_settings(settings, f"'{text}'")


def read_settings(text: str, what: str) -> dict[str, str]:
    """The settings in `key=value,...`.

    Args:
        text: the settings.
        what: what is set, for messages.

    Raises:
        ConfigError: a setting has no value or is given twice.
    """
    found: dict[str, str] = {}
    for setting in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (part.strip() for part in setting.partition("="))
        if not key or not value:
            raise ConfigError(
                f"{what}: '{setting}' is not of the form key=value", hint=f"Write {key or 'KEY'}=VALUE"
            )
        if key in found:
            raise ConfigError(f"{what}: {key} is given twice", hint="Leave one out")
        found[key] = value
    return found


def content_of(made: Any) -> dict[str, Any]:
    """The mapping of `name` and settings that describes this object."""
    return {"name": made.name, **{name: getattr(made, name) for name in setting_fields(type(made))}}


def line_of(made: Any) -> str:
    """The shortest line `NAME:key=value,...` that describes this object or mapping, as far as a line can."""
    if not isinstance(made, Mapping):
        fields, content = setting_fields(type(made)), content_of(made)
        made = {key: value for key, value in content.items() if key == "name" or value != fields[key].default}
    given = ",".join(f"{key}={value}" for key, value in made.items() if key != "name")
    return f"{made.get('name', '')}:{given}" if given else str(made.get("name", ""))


@dataclass(frozen=True)
class Setting:
    """A setting, for help pages.

    Attributes:
        name: its key.
        kind: type and bounds of its values, such as `number above 0`.
        default: its default as a text; None for a required setting; empty where the default is None.
        meaning: what it means.
    """

    name: str
    kind: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Description:
    """One kind of a registry, for help pages. `meaning` is the first paragraph of its docstring."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


class Registry(dict[str, type[T]]):
    """All kinds of a thing, by name. Each class in the files of a folder is registered automatically.

    Args:
        base: base class; a subclass with a `name` of its own is a kind.
        package: dotted name of the folder, or of the single file, with the kinds.
    """

    def __init__(self, base: type[Any], package: str) -> None:
        for module in walk_packages(getattr(sys.modules[package], "__path__", ()), f"{package}."):
            import_module(module.name)
        kinds = {cls.name: cls for cls in _below(base) if f"{cls.__module__}.".startswith(f"{package}.")}
        super().__init__(sorted(kinds.items()))
        self.base = base

    def kind(self, name: str) -> type[T]:
        """The class of a name.

        Raises:
            ConfigError: there is none; the hint names the most similar one.
        """
        if name not in self:
            raise ConfigError(f"there is no {self.base.what} '{name}'", hint=nearest(name, self))
        return self[name]

    def read(self, given: str | Mapping[str, Any] | T) -> T:
        """An object from a line `NAME:key=value,...`, or from a mapping of `name` and settings.

        Args:
            given: the line or the mapping; an object is returned unchanged.

        Raises:
            ConfigError: a name or key is unknown (the hint names the most similar one), a key is missing, or
                a value has a wrong type or is out of bounds.
        """
        if isinstance(given, str):
            name, settings = read_line(given)
            return made_of(self.kind(name), settings)
        if isinstance(given, Mapping):
            # A line that was merged over a mapping is its name.
            name, settings = read_line(str(given.get("name", "")))
            rest = {key: value for key, value in given.items() if key != "name"}
            return made_of(self.kind(name), {**settings, **rest})
        return given

    def describe(self) -> tuple[Description, ...]:
        """All kinds, for help pages."""
        return tuple(describe(cls) for cls in self.values())


def made_of(cls: type[T], settings: Mapping[str, Any]) -> T:
    """An object of a `checked` class, from its settings.

    Raises:
        ConfigError: a setting is faulty (see `Registry.read`).
    """
    check_keys(settings, setting_fields(cls), title(cls))
    return build(cls, dict(settings), what=title(cls))


def check_keys(settings: Collection[str], known: Collection[str], what: str) -> None:
    """Raise a ConfigError for an unknown key; its hint names the most similar one."""
    for key in settings:
        if key not in known:
            hint = nearest(str(key), known) if known else "It has no settings"
            raise ConfigError(f"{what}: unknown key '{key}'", hint=hint)


def describe(cls: type[Any]) -> Description:
    """A `checked` class, for help pages."""
    settings = [
        Setting(name, values_of(field.annotation, *field.metadata), _default(field), field.description or "")
        for name, field in setting_fields(cls).items()
    ]
    return Description(getattr(cls, "name", ""), meaning_of(cls), tuple(settings))


def meaning_of(cls: type[Any]) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def _below(base: type[Any]) -> Iterator[Any]:
    """All subclasses with a `name` of their own."""
    for cls in base.__subclasses__():
        if "name" in vars(cls):
            yield cls
        yield from _below(cls)


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    return "" if field.default is None else str(field.default)


_KINDS = {"number": "number", "integer": "whole number", "boolean": "true or false", "string": "text"}
_BOUNDS = {
    "exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"
}  # fmt: skip


def values_of(kind: Any, *bounds: Any) -> str:
    """The allowed values of a type with bounds, such as `Positive`, in words."""
    schema = TypeAdapter(Annotated[(kind, Field(), *bounds)]).json_schema()
    return " or ".join(_words(one) for one in schema.get("anyOf", [schema]) if one.get("type") != "null")


def _words(schema: Mapping[str, Any]) -> str:
    if "const" in schema or "enum" in schema:
        return " or ".join(map(str, schema.get("enum", [schema.get("const")])))
    bounds = " and ".join(f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema)
    return f"{_KINDS.get(schema['type'], schema['type'])} {bounds}".rstrip()
