"""The values in table cells, and the one way in which a value becomes text.

The type of a value says what it is: a whole number is a count, a `Share` is shown as a percentage, and an
interval has two ends. So the same value looks the same wherever it is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, overload

from ctrkit.names import visible

# A value that is not defined or not known.
NONE = "–"
_DIGITS, _FEWER = 4, 3
# A number of at least this size is easier to read with an exponent.
_LONG = 1e15


class Ends(Protocol):
    """An estimate with the ends of its interval, from any room; None is an unknown end."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


class Interval(NamedTuple):
    """A number with the ends of its interval."""

    value: float
    low: float | None
    high: float | None


class Share(float):
    """A part of a whole: shown as a percentage, and a float everywhere else."""


class Change(float):
    """A difference: shown with its sign, and a float everywhere else."""


Value: TypeAlias = str | int | float | Ends | None


def interval(found: Mapping[str, Any] | None) -> Interval | None:
    """The interval of a mapping with `value`, `low` and `high`; None if there is no value."""
    if found is None or found["value"] is None:
        return None
    return Interval(found["value"], found["low"], found["high"])


@overload
def share(part: float) -> Share: ...
@overload
def share(part: Ends) -> Interval: ...
@overload
def share(part: None) -> None: ...
@overload
def share(part: float | None) -> Share | None: ...
def share(part: float | Ends | None) -> Share | Interval | None:
    """The same number or interval, as a part of a whole."""
    if part is None:
        return None
    if isinstance(part, (int, float)):
        return Share(part)
    return Interval(Share(part.value), share(part.low), share(part.high))


def cell(value: Value) -> str | int | float | Interval | None:
    """The value as a table holds it: control characters in texts made visible, every interval an `Interval`,
    and None for a number that is not finite."""
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not math.isfinite(value.value):
        return None
    low, high = (end if end is not None and math.isfinite(end) else None for end in (value.low, value.high))
    return Interval(value.value, low, high)


def text(value: Value) -> str:
    """The text of a value.

    A count is shown with all its digits. Other numbers have four significant digits or, from 1,000 on, no
    decimals. Percentages and the ends of intervals have three significant digits.
    """
    value = cell(value)
    if not isinstance(value, Interval):
        return _shown(value, _DIGITS)
    middle = _shown(value.value, _DIGITS)
    low, high = (_shown(end, _FEWER) for end in value[1:])
    return middle if low == high == NONE else f"{middle} [{low}, {high}]"


def _shown(value: str | float | None, digits: int) -> str:
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, Share):
        return f"{_number(100 * value, _FEWER)}%"
    sign = "+" if isinstance(value, Change) and value > 0 else ""
    return f"{value:,}" if isinstance(value, int) else f"{sign}{_number(value, digits)}"


def _number(value: float, digits: int) -> str:
    if 1000 <= abs(round(value, digits - 3)) < _LONG:  # 999.96 rounds to 1000
        return f"{value:,.0f}"
    return f"{value + 0.0:,.{digits}g}"  # -0.0 becomes 0.0
