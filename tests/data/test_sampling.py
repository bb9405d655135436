"""Thinned negatives: which rows are read, and predictions of all rows again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import ctrkit
from ctrkit.data.sampling import SamplingConfig, sampled
from ctrkit.data.split import Split

SPLIT = Split(np.arange(8000), np.arange(8000, 9000), np.arange(9000, 10_000), "random")


def test_all_positives_and_a_share_of_the_negatives_are_read() -> None:
    labels = (np.random.default_rng(0).random((10_000, 1)) < 0.05).astype(np.float32)
    read = sampled(SPLIT, labels, SamplingConfig(kept_negatives=0.2), seed=3)
    for part, whole in ((read.train, SPLIT.train), (read.valid, SPLIT.valid)):
        positive = whole[labels[whole, 0] == 1]
        assert np.isin(positive, part).all()
        assert np.isin(part, whole).all()
        negatives = whole.size - positive.size
        assert part.size - positive.size == pytest.approx(0.2 * negatives, abs=4 * (0.16 * negatives) ** 0.5)
    assert read.test is SPLIT.test
    assert sampled(SPLIT, labels, SamplingConfig(), seed=3) is SPLIT


def rows(count: int = 60_000) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    place, price = rng.integers(0, 6, count), rng.normal(size=count)
    click = rng.random(count) < 1 / (1 + np.exp(3.2 - 0.3 * place - 0.7 * price))
    buy = click & (rng.random(count) < 0.2 + 0.1 * (place > 2))
    return pl.DataFrame({"place": place, "price": price, "click": click * 1, "buy": buy * 1})


@pytest.mark.parametrize("name", ["lr", "lightgbm"])
def test_predictions_are_those_of_all_rows(name: str, tmp_path: Path) -> None:
    """Without the correction the PCOC of the click would be about 7."""
    if name == "lightgbm":
        pytest.importorskip("lightgbm")
    features = {
        "categorical": [{"name": "place"}],
        "numeric": [{"name": "price"}],
        "labels": {"click": "click", "buy": "buy"},
    }
    network = {"name": name, **({"rounds": 60, "leaves": [7], "categories": [True]} if name != "lr" else {})}
    table = rows()
    thinned, whole = (
        ctrkit.train(data=table, features=features, network=network, sampling={"kept_negatives": kept})
        for kept in (0.1, 1.0)
    )
    for task in ("click", "buy"):
        assert thinned.metrics[task]["pcoc"] == pytest.approx(1.0, abs=0.15)
        assert thinned.metrics[task]["auc"] == pytest.approx(whole.metrics[task]["auc"], abs=0.01)
    assert any("Predictions are those of all rows" in note for note in thinned.notes)
    thinned.artifact.save(tmp_path / "model.pt")
    assert ctrkit.load(tmp_path / "model.pt").predict(table).equals(thinned.trained.predict(table))
    if name == "lr":
        one, other = (result.artifact.posterior for result in (thinned, whole))
        # Fewer rows are read, so less is known.
        assert np.linalg.slogdet(one["precision"])[1] < np.linalg.slogdet(other["precision"])[1]
        layer = thinned.trained.network.last_layer
        np.testing.assert_allclose(one["mean"][-1], layer.bias.item(), rtol=1e-6)
