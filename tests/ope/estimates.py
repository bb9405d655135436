"""What tests share: rows that each stand for themselves, and what they compare of estimates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import polars as pl

Made = TypeVar("Made")


def once(kind: Callable[..., Made], first: Any, *others: Any, counts: Any = None, **named: Any) -> Made:
    """Rows of a kind, of which each stands for one decision, unless told otherwise."""
    return kind(first, *others, counts=np.ones(len(first)) if counts is None else counts, **named)


def numbers(estimates: Any) -> list[list[float]]:
    """Of each estimate its value, its difference and the ends of both intervals."""
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


def told(estimator: Any, confidence: float = 0.95) -> list[float]:
    """The numbers of what an estimator tells, under its name."""
    found = estimator.result(confidence)
    assert found.estimator == estimator.name
    return numbers([found])[0]


def held(kept: Any, seen: set[int] | None = None) -> int:
    """Bytes of all arrays and tables that an object keeps, each counted once."""
    seen = set() if seen is None else seen
    if id(kept) in seen or isinstance(kept, (str, type)):
        return 0
    seen.add(id(kept))
    if isinstance(kept, np.ndarray):
        base = kept if kept.base is None else kept.base
        return 0 if base is not kept and id(base) in seen else int(kept.nbytes)
    if isinstance(kept, (pl.DataFrame, pl.Series)):
        return int(kept.estimated_size())
    if isinstance(kept, Mapping):
        return sum(held(one, seen) for one in kept.values())
    if isinstance(kept, (list, tuple, set)):
        return sum(held(one, seen) for one in kept)
    return sum(held(one, seen) for one in vars(kept).values()) if hasattr(kept, "__dict__") else 0
