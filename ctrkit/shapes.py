"""Sizes of arrays that compiled code takes on trust: written down once, and checked at its door.

Compiled loops do not look where an array ends. What they are given is described in one line a kernel:

    Shapes("x: B L D; weight: D T+1; mask: B L")

Letters are sizes. The first argument that has a size says how large it is, and all others must agree. A size
may be a number, a multiple, or a sum, as in `R+2N`; of `N|1`, either will do. What is not named
is not looked at, and neither is an argument that is None.
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
        text: `NAME: SIZE SIZE ...; NAME: ...`, in the order in which letters get their sizes. A name with `?`
            may also be an empty array, which stands for nothing.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._of: list[tuple[str, bool, tuple[tuple[_Sum, ...], ...], str]] = []
        for part in text.split(";"):
            name, _, sizes = part.partition(":")
            axes = tuple(tuple(_sum(one) for one in size.split("|")) for size in sizes.split())
            self._of.append((name.strip().rstrip("?"), name.strip().endswith("?"), axes, sizes.strip()))

    def of(self, name: str, **sizes: int) -> tuple[int, ...]:
        """The shape of an argument where letters have these sizes."""
        axes = next(axes for known, _, axes, _ in self._of if known == name)
        return tuple(
            added + sum(count * sizes[letter] for count, letter in letters) for ((added, letters), *_) in axes
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments that are looked at."""
        return tuple(name for name, *_ in self._of)

    def check(self, called: str, arguments: Mapping[str, Any]) -> dict[str, int]:
        """The sizes that letters have.

        Args:
            called: the function's name, for messages.
            arguments: by name, arrays or tensors with a `shape`.

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
    """Whether a size is one of these; a letter that stands alone and is not known yet becomes known."""
    for added, letters in sums:
        if len(letters) == 1 and letters[0][1] not in known:
            count, letter = letters[0]
            if size >= added and (size - added) % count == 0:
                known[letter] = (size - added) // count
                return True
        elif size == added + sum(count * known[letter] for count, letter in letters):
            return True
    return False
