"""What tests share: rows that each stand for themselves, and what they compare of estimates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Made = TypeVar("Made")


def once(kind: Callable[..., Made], first: Any, *others: Any, counts: Any = None, **named: Any) -> Made:
    """Rows of a kind, of which each stands for one decision, unless told otherwise."""
    return kind(first, *others, counts=np.ones(len(first)) if counts is None else counts, **named)


def numbers(estimates: Any) -> Any:
    return [
        [
            found.value,
            found.interval.low,
            found.interval.high,
            found.difference,
            found.difference_interval.low,
            found.difference_interval.high,
        ]
        for found in estimates
    ]
