"""How work that takes long tells of its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Called after every step with (steps done, steps in all, what is going on).
# Where rows are read, they are the steps.
OnStep: TypeAlias = Callable[[int, int, str], None]


def silent(done: int, total: int, what: str) -> None:
    """Tell nobody."""
