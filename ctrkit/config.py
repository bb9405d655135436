"""Configs: strict pydantic models from YAML, with `--set key.path=value` on top and errors that help."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ctrkit.errors import ConfigError, missing, nearest


class Config(BaseModel):
    """Base of every config: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


ConfigT = TypeVar("ConfigT", bound=Config)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file."""
    file = Path(path)
    if not file.is_file():
        raise missing("config", path)
    try:
        content = _load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"the config file cannot be read ({error.strerror})", file=path, mend="Check its permissions"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"this is not YAML ({reason})", file=path, mend="Mend the line named") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(
            "a config is a mapping of keys to values", file=path, mend="Write `key: value` lines"
        )
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Plain YAML in which a key stands once: of two, YAML readers take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load(text: str) -> Any:
    """What a YAML text says; raises `yaml.YAMLError`."""
    return yaml.load(text, _UniqueKeys)


def apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Lay `key.path=value` strings over a mapping; values are read as YAML scalars or lists.

    A part that gets another `name` becomes another kind of thing, and starts from nothing.
    """
    merged = {**content}
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path:
            raise ConfigError(
                f"--set {override}: not of the form key.path=value",
                mend="Write for example --set training.epochs=3",
            )
        try:
            chosen = _load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML", mend="Quote it") from error
        node = merged
        *parents, last = path.split(".")
        for key in parents:
            inner = node.get(key)
            node[key] = {**inner} if isinstance(inner, dict) else {}
            node = node[key]
        if last == "name" and parents and node.get("name", chosen) != chosen:
            node.clear()
        node[last] = chosen
    return merged


def build(
    config: type[ConfigT],
    content: dict[str, Any],
    file: str | os.PathLike[str] | None = None,
    overrides: Iterable[str] = (),
) -> ConfigT:
    """Validate a mapping, with overrides laid over it, as a config.

    Args:
        file: where the mapping comes from; it is not named for a key that an override has set.
        overrides: see `apply_overrides`.

    Raises:
        ConfigError: names the key, what is wrong and, for an unknown key, the nearest valid one.
    """
    overrides = tuple(overrides)
    try:
        return config.model_validate(apply_overrides(content, overrides))
    except ValidationError as error:
        first = error.errors()[0]
        if _is_set(first["loc"], overrides):
            file = None
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = _keys_at(config, first["loc"][:-1])
            raise ConfigError(
                f"unknown key '{key}'",
                file=file,
                mend=nearest(str(first["loc"][-1]), known) if known else None,
            ) from error
        if first["type"] in ("union_tag_invalid", "literal_error"):
            context = first["ctx"]
            valid = re.findall(r"'([^']*)'", context.get("expected_tags", context.get("expected", "")))
            tag = str(context.get("tag", first["input"]))
            where = key if first["type"] == "literal_error" else f"{key}.name".removeprefix(".")
            raise ConfigError(
                f"key '{where}': there is no '{tag}'", file=file, mend=nearest(tag, valid)
            ) from error
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        given = first["input"] if isinstance(first["input"], (str, int, float, bool)) else None
        what = f"key '{key}'" if key else "the config"
        raise ConfigError(
            f"{what}: {message}" + (f" (given: {given!r})" if given is not None else ""), file=file
        ) from error


def _is_set(location: Sequence[Any], overrides: Iterable[str]) -> bool:
    """Whether an override has set the key at an error's location, a part of it, or what it is part of."""
    place = [str(part) for part in location]
    paths = (override.partition("=")[0].split(".") for override in overrides)
    return any(all(one == two for one, two in zip(path, place, strict=False)) for path in paths if place)


def load_config(
    config: type[ConfigT], path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> ConfigT:
    """A config from an optional YAML file with overrides on top."""
    content = read_yaml(path) if path is not None else {}
    return build(config, content, path, overrides)


def _keys_at(config: type[BaseModel], location: Sequence[Any]) -> set[str]:
    """The valid keys of the nested model that an error's location points into."""
    models = [config]
    for part in location:
        inner: list[type[BaseModel]] = []
        for model in models:
            field = model.model_fields.get(part) if isinstance(part, str) else None
            # A part that is no field (a list index, a union's tag) stays where it is.
            inner.extend(_models_in(field.annotation) if field is not None else [model])
        models = inner
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
