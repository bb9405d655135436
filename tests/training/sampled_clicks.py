"""A small log, and a network that is trained on it with settings of `sampling`."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

import ctrkit
from ctrkit.api.train import TrainingResult

FEATURES: dict[str, Any] = {"categorical": [{"name": "place"}], "numeric": [{"name": "price"}]}


def clicks(count: int = 20_000, base: float = -3.2) -> pl.DataFrame:
    """Rows whose clicks depend on place and price; of the clicks, some buy."""
    rng = np.random.default_rng(0)
    place, price = rng.integers(0, 6, count), rng.normal(size=count)
    click = rng.random(count) < expit(base + 0.3 * place + 0.7 * price)
    buy = click & (rng.random(count) < 0.1 + 0.05 * place)
    return pl.DataFrame({"place": place, "price": price, "click": click * 1, "buy": buy * 1})


def trained(
    data: pl.DataFrame, features: dict[str, Any], sampling: dict[str, Any], train: float
) -> TrainingResult:
    """A network of one layer, trained on a share of the rows."""
    return ctrkit.train(
        data=data,
        features=features,
        network={"name": "dnn", "crosses": None, "hidden": [16]},
        split={"train": train, "valid": 0.1},
        training={
            "epochs": 3,
            "batch_size": 128,
            "validations_per_epoch": 1,
            "optimizer": {"learning_rate": 5e-3},
        },
        sampling=sampling,
    )
