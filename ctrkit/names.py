"""Names from the data, made safe to show on a screen or to use as file names."""

from __future__ import annotations

import hashlib
import re

# Characters that move a terminal's cursor, change the writing direction, end a line, or cannot be encoded.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_NOT_OF_FILES = re.compile(r"[^\w.-]|^\.")
# Largest number of bytes of a file's name without its ending; file systems allow 255.
_LONGEST = 120


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with invisible characters escaped as in Python, such as `\x1b` and `\u202e`.

    Args:
        text: the text.
        lines: whether the text may have several lines.
    """
    return _HIDDEN.sub(lambda found: found[0] if lines and found[0] == "\n" else _escaped(found[0]), text)


def cut(text: str, most: int) -> str:
    """The text, cut to `most` characters with an ellipsis at its end where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def file_name(text: str) -> str:
    """A name for a file, without its ending: no folder, not hidden, not too long.

    Spaces become underscores. If other characters had to change, a hash keeps different names different.
    """
    name = text.replace(" ", "_")
    safe = _NOT_OF_FILES.sub("_", name)
    short = safe.encode()[:_LONGEST].decode(errors="ignore")
    if short and short == name:
        return short
    return f"{short}_{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
