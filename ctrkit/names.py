"""Names that came with the data, where they become text on a screen, or the name of a file."""

from __future__ import annotations

import hashlib
import re

# What moves a terminal's cursor, turns the direction of writing, ends a line, or cannot be written at all.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_NOT_OF_FILES = re.compile(r"[^\w.-]|^\.")
# Bytes of a file's name; file systems take 255, and an ending comes after it.
_LONGEST = 120


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with what is not to be seen as it is written in Python, such as `\x1b` and `\u202e`.

    Args:
        lines: whether the text may have several lines.
    """
    return _HIDDEN.sub(lambda found: found[0] if lines and found[0] == "\n" else _escaped(found[0]), text)


def cut(text: str, most: int) -> str:
    """The text, with an ellipsis at its end where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def file_name(text: str) -> str:
    """A name for a file, without its ending: no folder, nothing hidden, not too long.

    Spaces become underscores; of names that had to be changed otherwise, different ones stay different.
    """
    name = text.replace(" ", "_")
    safe = _NOT_OF_FILES.sub("_", name)
    short = safe.encode()[:_LONGEST].decode(errors="ignore")
    if short and short == name:
        return short
    return f"{short}_{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
