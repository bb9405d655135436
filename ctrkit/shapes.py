"""Shapes of arrays for compiled code, which checks no bounds: declared once, and checked at every call.

One line declares the shapes of a kernel's arguments:

    Shapes("x: B L D; weight: D T+1; mask: B L")

Letters are sizes. The first argument with a letter sets its size, and all others must agree. A size may be a
number, a multiple, or a sum, as in `R+2N`; `N|1` allows both. Arguments that are not named, or are None, are
not checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

# A size: what is added, and letters with how often each counts.
_Sum: TypeAlias = tuple[int, tuple[tuple[int, str], ...]]
_TERM = re.compile(r"(\d*)([A-Za-z]?)")


class Shapes:
    """The shapes of a function's arguments.

    Args:
        text: `NAME: SIZE SIZE ...; NAME: ...`, in the order in which letters get their sizes. An argument
            whose name ends in `?` may also be an empty array, which means no array.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._of: list[tuple[str, bool, tuple[tuple[_Sum, ...], ...], str]] = []
        for part in text.split(";"):
            name, _, sizes = part.partition(":")
            axes = tuple(tuple(_sum(one) for one in size.split("|")) for size in sizes.split())
            self._of.append((name.strip().rstrip("?"), name.strip().endswith("?"), axes, sizes.strip()))

    def of(self, name: str, **sizes: int) -> tuple[int, ...]:
        """The shape of an argument, for given sizes of the letters."""
        axes = next(axes for known, _, axes, _ in self._of if known == name)
        return tuple(
            added + sum(count * sizes[letter] for count, letter in letters) for ((added, letters), *_) in axes
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arguments that are checked."""
        return tuple(name for name, *_ in self._of)

    def check(self, called: str, arguments: Mapping[str, Any]) -> dict[str, int]:
        """Check the arguments of a call.

        Args:
            called: the function's name, for messages.
            arguments: name -> array or tensor.

        Returns:
            letter -> size.

        Raises:
            ValueError: an argument has another number of dimensions, or a size that does not fit.
        """
        known: dict[str, int] = {}
        for name, may_be_empty, axes, wanted in self._of:
            given = arguments[name]
            if given is None or (may_be_empty and 0 in given.shape):
                continue
            shape = tuple(given.shape)
            if len(shape) != len(axes) or not all(map(_fits, axes, shape, (known,) * len(shape))):
                sizes = ", ".join(f"{letter} = {size}" for letter, size in known.items())
                raise ValueError(
                    f"{called}: `{name}` has the shape {list(shape)}, and [{', '.join(wanted.split())}] is "
                    f"needed{f' with {sizes}' if sizes else ''}"
                )
        return known


def _sum(text: str) -> _Sum:
    added, letters = 0, []
    for term in text.split("+"):
        found = _TERM.fullmatch(term)
        if not term or found is None:
            raise ValueError(f"'{text}' is no size")
        count, letter = found.groups()
        if letter:
            letters.append((int(count or 1), letter))
        else:
            added += int(count)
    return added, tuple(letters)


def _fits(sums: tuple[_Sum, ...], size: int, known: dict[str, int]) -> bool:
    """Whether a size is one of the allowed sizes. A single letter without a size yet gets one here."""
    for added, letters in sums:
        if len(letters) == 1 and letters[0][1] not in known:
            count, letter = letters[0]
            if size >= added and (size - added) % count == 0:
                known[letter] = (size - added) // count
                return True
        elif size == added + sum(count * known[letter] for count, letter in letters):
            return True
    return False
