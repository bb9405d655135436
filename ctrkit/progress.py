"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

# Called after every step with (steps done, number of steps, what is being done).
# Where rows are read, each row is a step.
OnStep: TypeAlias = Callable[[int, int, str], None]


def stage(on_step: OnStep, at: int, stages: int, name: str) -> OnStep:
    """How one of several equal stages of work, counted from 0, reports its progress as a part of all."""

    def step(done: int, total: int, what: str) -> None:
        on_step(100 * at + 100 * done // max(total, 1), 100 * stages, f"{name}, {what}")

    return step


def silent(done: int, total: int, what: str) -> None:
    """Report nothing."""
