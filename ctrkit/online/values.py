"""Values of features as bytes and back: JSON, which keeps the kind of every value and can run no code.

A value is a missing value, a truth value, a whole number, a number, a text, or a list of these. NaN is not a
missing value; NaN and the infinities are written as Python's `json` does, `NaN` and `Infinity`. A number is
written with as many digits as identify it, so that it is read with the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from ctrkit.errors import DataError

Values: TypeAlias = Mapping[str, object]
_PLAIN = (bool, int, float, str, type(None))


def packed(values: Values, key: str) -> bytes:
    """Values as bytes; equal values give equal bytes.

    Args:
        values: column -> value.
        key: the key of the values, for messages.

    Raises:
        DataError: a value is of another type, or a text is not Unicode.
    """
    for name, value in values.items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if type(one) not in _PLAIN:
                raise DataError(
                    f"the value of key '{key}' has the type {type(one).__name__}",
                    column=name,
                    hint="Online values are numbers, texts, truth values, and lists of these",
                )
    try:
        return json.dumps(dict(values), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a text of key '{key}' is not Unicode", hint="Mend or remove the text") from error


def unpacked(content: bytes | str) -> dict[str, object]:
    """The values that `packed` wrote.

    Raises:
        ValueError: the bytes are damaged.
    """
    found = json.loads(content)
    if not isinstance(found, dict):
        raise ValueError("the values have no columns")
    return found
