"""What tests compare of estimates."""

from __future__ import annotations

from typing import Any


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
