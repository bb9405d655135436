"""Configs: strict pydantic models from objects, mappings or YAML, with overrides and helpful errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ctrkit.errors import ConfigError, missing, nearest


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error.

    Attributes:
        keyword_names: key -> its name as a keyword argument, where a function already has an argument of the
            key's name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    keyword_names: ClassVar[Mapping[str, str]] = {}


ConfigT = TypeVar("ConfigT", bound=Config)
T = TypeVar("T")
# What a function takes as `config`: a config, a mapping of its keys, or the path of a YAML file with them.
ConfigLike: TypeAlias = "Config | Mapping[str, Any] | str | os.PathLike[str] | None"


def settings_of(
    kind: type[ConfigT],
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    keywords: Mapping[str, Any] | None = None,
) -> ConfigT:
    """The settings of a call: keywords override `--set` strings, which override a config.

    Args:
        kind: class of the config.
        config: a config of this kind, a mapping, or the path of a YAML file; None for the defaults.
        overrides: `key.path=value` strings (see `apply_overrides`).
        keywords: values by keyword name, merged part by part (see `merged`).

    Raises:
        ConfigError: names the key and what is wrong; for an unknown key also the most similar valid key.
    """
    file = config if isinstance(config, str | os.PathLike) else None
    return build(kind, _content(kind, config), file, overrides, given=_of_keywords(kind, keywords))


def _content(kind: type[Config], config: ConfigLike) -> dict[str, Any]:
    """The keys that a config sets, in a new dictionary."""
    if isinstance(config, kind | Mapping):
        return _opened(config)
    if isinstance(config, str | os.PathLike):
        return read_yaml(config)
    if config is None:
        return {}
    raise ConfigError(
        f"the config has the type {type(config).__name__}",
        hint=f"Give a {kind.__name__}, a mapping of its keys, or the path of a YAML file",
    )


def _of_keywords(kind: type[Config], keywords: Mapping[str, Any] | None) -> dict[str, Any]:
    """Values by key, from values by keyword name."""
    keys = {name: key for key, name in kind.keyword_names.items()}
    return {keys.get(name, name): value for name, value in (keywords or {}).items()}


def keys_of(
    kind: type[Config],
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    keywords: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The keys that a call sets, as paths such as `training.epochs`, and their values.

    Args:
        kind: class of the config.
        config: as for `settings_of`.
        overrides: as for `settings_of`.
        keywords: as for `settings_of`.
    """
    given = (_content(kind, config), _of_keywords(kind, keywords))
    paths = {".".join(path): value for one in given for path, value in _paths(one)}
    return {**paths, **dict(_names_first(overrides))}


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file."""
    file = Path(path)
    if not file.is_file():
        raise missing("config", path)
    try:
        content = _load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the config file cannot be read ({error.strerror})", file=path, hint="Check its permissions"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"this is not YAML ({reason})", file=path, hint="Fix that line") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            "a config must be a mapping of keys to values", file=path, hint="Write `key: value` lines"
        )
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML without duplicate keys: other YAML readers silently take the last of two."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' occurs twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    """The content of a YAML text; raises `yaml.YAMLError`."""
    return yaml.load(text, _UniqueKeys)


def merged(content: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a mapping (`given`) over another (`content`), part by part. Values that are not mappings replace
    the old value.

    A part that gets another `name` loses its old settings. A text over a part that has a `name` is its new
    name.
    """
    result = {**content, **given}
    for key, value in given.items():
        part = _opened(content.get(key))
        if isinstance(value, str) and "name" in part:
            value = {"name": value}
        if isinstance(value, Mapping):
            renamed = value.get("name", part.get("name")) != part.get("name")
            result[key] = merged({} if renamed else part, value)
    return result


def _opened(part: Any) -> dict[str, Any]:
    """The keys that a mapping or a config sets, in a new dictionary; empty for any other value."""
    if isinstance(part, BaseModel):
        named = {"name"} & set(type(part).model_fields)
        return {
            key: getattr(part, key) for key in type(part).model_fields if key in part.model_fields_set | named
        }
    if hasattr(type(part), "__pydantic_fields__"):  # one of a registry, see `ctrkit.settings.checked`
        keys = [key for key, field in fields_of(type(part)).items() if not field.exclude]
        return {key: getattr(part, key) for key in ("name", *keys)}
    return dict(part) if isinstance(part, Mapping) else {}


def apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Override keys of a mapping by `key.path=value` strings. Values are read as YAML scalars or lists.

    A part that gets another `name` loses its old settings, and keeps those of the same call in any order.
    """
    merged = {**content}
    for path, value in _names_first(overrides):
        node = merged
        *parents, last = path.split(".")
        for key in parents:
            node[key] = _opened(node.get(key))
            node = node[key]
        if last == "name" and parents and node.get("name", value) != value:
            node.clear()
        node[last] = value
    return merged


def _names_first(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Paths and values; the `name` of a part comes before its settings."""
    ordered: list[tuple[str, Any]] = []
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--set {override}: not of the form key.path=value",
                hint="Write for example --set training.epochs=3",
            )
        try:
            chosen = _load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML", hint="Quote it") from error
        part, _, last = path.rpartition(".")
        within = [at for at, (one, _) in enumerate(ordered) if one.startswith(f"{part}.") and one != path]
        ordered.insert(within[0] if within and part and last == "name" else len(ordered), (path, chosen))
    return ordered


def build(
    config: type[T],
    content: dict[str, Any],
    file: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
    what: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> T:
    """Validate a mapping as a config or a `checked` class, after overrides and then given keys.

    Args:
        config: the class.
        content: the mapping.
        file: the file of the mapping, for messages about keys that are not overridden.
        overrides: `key.path=value` strings (see `apply_overrides`).
        what: what is set, for messages, such as `strategy 'dual'`; by default a config.
        given: values merged over all (see `merged`).

    Raises:
        ConfigError: names the key and what is wrong; for an unknown key also the most similar valid key.
    """
    overrides, given = tuple(overrides), given or {}
    try:
        return TypeAdapter(config).validate_python(merged(apply_overrides(content, overrides), given))
    except ValidationError as error:
        paths = [
            *(one.partition("=")[0].split(".") for one in overrides),
            *(path for path, _ in _paths(given)),
        ]
        if _is_set(_first(error)["loc"], paths):
            file = None
        raise told(error, config, file, what) from error
    except ConfigError as error:  # of a part that its own registry has read
        if file is None or overrides or given or error.file is not None:
            raise
        raise ConfigError(error.problem, file=file, hint=error.hint) from error


_UNKNOWN_KEY: Final = ("extra_forbidden", "unexpected_keyword_argument")
# pydantic's name of a fault -> what the value must be.
_MUST_BE: Final = {
    "greater_than": "above {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "below {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "finite_number": "finite",
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "a mapping of keys to values"),
}


def told(
    error: ValidationError,
    config: type[Any],
    file: str | os.PathLike[str] | None = None,
    what: str | None = None,
) -> ConfigError:
    """The error message for the most helpful fault that pydantic found; arguments as in `build`."""
    first = _first(error)
    kind, location, given = first["type"], first["loc"], first["input"]
    key = ".".join(str(part) for part in location)
    prefix = "" if what is None else f"{what}: "
    subject = (f"key '{key}'" if what is None else f"{what}: {key}") if key else what or "the config"
    if kind in _UNKNOWN_KEY:
        known = _keys_at(config, location[:-1])
        hint = nearest(str(location[-1]), known) if known else None
        return ConfigError(f"{prefix}unknown key '{key}'", file=file, hint=hint)
    if kind in ("union_tag_invalid", "literal_error"):
        context = first["ctx"]
        valid = re.findall(r"'([^']*)'", context.get("expected_tags", context.get("expected", "")))
        tag = str(context.get("tag", given))
        if kind == "union_tag_invalid":
            subject = f"key '{f'{key}.name'.removeprefix('.')}'"
        return ConfigError(f"{subject}: there is no '{tag}'", file=file, hint=nearest(tag, valid))
    field = fields_of(config).get(str(location[0])) if len(location) == 1 else None
    if kind in ("missing", "missing_argument"):
        return ConfigError(f"{subject} is missing", file=file, hint=f"Give {location[-1]}")
    if kind in _MUST_BE:
        must_be = _MUST_BE[kind].format(**first.get("ctx", {}))
        hint = "Give another value"
        if field is not None and not field.is_required():
            hint += ", or leave it out" + (f" for {field.default}" if _is_short(field.default) else "")
        return ConfigError(f"{subject} is {_shown(given)} and must be {must_be}", file=file, hint=hint)
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if isinstance(given, (str, int, float, bool)):
        message += f" (given: {given!r})"
    return ConfigError(f"{subject}: {message}", file=file)


def _first(error: ValidationError) -> Any:
    """An unknown key if there is one, as a misspelt key is often missing too; else the first fault."""
    faults = error.errors()
    return next((fault for fault in faults if fault["type"] in _UNKNOWN_KEY), faults[0])


def _is_short(default: Any) -> bool:
    """Whether a default can be shown in a message: not None, and not a config of many keys."""
    return default is not None and not isinstance(default, BaseModel)


def _shown(given: Any) -> str:
    """A value as it was given. A number is shown without quotes, even if it is a text."""
    try:
        float(given)
    except (TypeError, ValueError):
        return repr(given)
    return str(given)


def _is_set(location: Sequence[Any], paths: Iterable[Sequence[str]]) -> bool:
    """Whether one of the paths is the location of an error, or contains it or is contained in it."""
    place = [str(part) for part in location]
    return any(all(one == two for one, two in zip(path, place, strict=False)) for path in paths if place)


def _paths(given: Mapping[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """The paths of all values in a mapping of mappings and configs, and the values."""
    for key, value in given.items():
        inner = list(_paths(_opened(value)))
        yield from (([str(key), *path], one) for path, one in inner or [([], value)])


def fields_of(config: type[Any]) -> dict[str, FieldInfo]:
    """The fields of a config or of a `checked` class."""
    found: dict[str, FieldInfo] = config.__pydantic_fields__
    return found


def _keys_at(config: type[Any], location: Sequence[Any]) -> set[str]:
    """The valid keys of the nested model that an error's location points into."""
    models = [config]
    for part in location:
        inner: list[type[Any]] = []
        for model in models:
            field = fields_of(model).get(part) if isinstance(part, str) else None
            # A part that is no field (a list index, a union's tag) stays where it is.
            inner.extend(_models_in(field.annotation) if field is not None else [model])
        models = inner
    return {name for model in models for name, field in fields_of(model).items() if not field.exclude}


def _models_in(annotation: Any) -> list[type[Any]]:
    if isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
