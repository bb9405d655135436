"""Rows whose true probabilities are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ctrkit.evaluation import LabelledRows, Scored, by_count


@pytest.fixture
def true_rows() -> Callable[..., LabelledRows]:
    """Rows whose probabilities are the true ones, times a factor on those of the field's value `b`."""

    def make(n: int = 20_000, seed: int = 0, factor: float = 1.0, whole: float = 1.0) -> LabelledRows:
        rng = np.random.default_rng(seed)
        p = 1 / (1 + np.exp(2.0 - rng.normal(size=n)))
        place = rng.choice(np.array(["a", "b", "c"]), n)
        predicted = np.clip(p * whole * np.where(place == "b", factor, 1.0), 0, 1)
        other = np.clip(p * np.exp(rng.normal(0, 0.5, n)), 0, 1)
        counts = by_count(rng.integers(0, 50, n))
        groups = rng.integers(0, n // 4, n)
        labels = (rng.random(n) < p).astype(float)
        return LabelledRows(
            labels,
            np.ones(n),
            Scored(predicted, predicted),
            Scored(other, other),
            groups,
            {"place": place},
            {"item popularity": counts},
        )

    return make
