"""The settings of a scenario in a text: `key=value,key=value`."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ctrkit.errors import ConfigError, nearest


def read_settings(what: str, text: str, known: Collection[str]) -> dict[str, str]:
    """The value of each key that the text gives.

    Args:
        what: is being set, for messages, for example `shock 'price'`.

    Raises:
        ConfigError: an unknown key (names the nearest), one without a value, or one that is given twice.
    """
    found: dict[str, str] = {}
    for setting in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in setting.partition("="))
        if key not in known:
            raise ConfigError(f"{what} has no setting '{key}'", mend=nearest(key, known))
        if not equals or not value:
            raise ConfigError(f"{what}: '{setting}' is not of the form key=value", mend=f"Write {key}=VALUE")
        if key in found:
            raise ConfigError(f"{what}: {key} is given twice", mend="Leave one out")
        found[key] = value
    return found


def read_number(what: str, key: str, value: str) -> float:
    """A finite number; raises a ConfigError for anything else."""
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if not np.isfinite(number):
        raise ConfigError(
            f"{what}: {key} is '{value}', which is no number", mend=f"Write for example {key}=1"
        )
    return number


def read_count(what: str, key: str, value: str) -> int:
    """A whole number; raises a ConfigError for anything else."""
    number = read_number(what, key, value)
    if number != int(number):
        raise ConfigError(f"{what}: {key} is {value} and must be whole", mend=f"Write {key}={round(number)}")
    return int(number)


def need(what: str, name: str, value: float, low: float, high: float = np.inf) -> None:
    """Raise a ConfigError for a number that is not finite and within [low, high]."""
    if not (np.isfinite(value) and low <= value <= high):
        wanted = f"at least {low:g}" if high == np.inf else f"in [{low:g}, {high:g}]"
        raise ConfigError(f"{what}: {name} is {value:g} and must be {wanted}", mend=f"Give a number {wanted}")


def need_above(what: str, name: str, value: float, low: float = 0.0, below: float = np.inf) -> None:
    """Raise a ConfigError for a number that is not within (low, below), both ends left out."""
    if not low < value < below:
        wanted = f"above {low:g}" + ("" if below == np.inf else f" and below {below:g}")
        raise ConfigError(f"{what}: {name} is {value:g} and must be {wanted}", mend=f"Give a number {wanted}")
