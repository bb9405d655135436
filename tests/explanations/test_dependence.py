"""Partial dependence against changing the raw table."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.encoder import Encoder
from ctrkit.errors import DataError
from ctrkit.explanations import Names, partial_dependence
from ctrkit.models import build_model, model_config
from ctrkit.schema import FeatureSpec
from ctrkit.training import predict

SPEC = FeatureSpec.model_validate(
    {
        "categorical": [{"name": "shop"}, {"name": "size", "min_count": 3}],
        "numeric": [{"name": "age"}, {"name": "price", "transform": "log1p"}],
        "sequences": [{"name": "shops", "shares": "shop", "max_length": 3}],
        "labels": {"click": "click", "conversion": "conversion"},
    }
)


def table(count: int = 60) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    shop = generator.choice(["a", "b", "c", "d"], count, p=[0.5, 0.3, 0.15, 0.05])
    return pl.DataFrame(
        {
            "shop": shop,
            "size": generator.integers(1, 25, count),
            "age": generator.integers(18, 70, count).astype(float),
            "price": generator.exponential(30.0, count),
            "shops": [list(generator.choice(["a", "b", "c"], k)) for k in generator.integers(0, 4, count)],
            "click": [0] * count,
            "conversion": [0] * count,
        }
    )


@pytest.mark.parametrize("feature", ["shop", "size", "age", "price"])
def test_a_curve_is_what_the_model_says_of_the_changed_table(feature: str) -> None:
    import torch

    torch.manual_seed(0)
    raw = table()
    encoder = Encoder.fit(SPEC, raw)
    network = build_model(model_config({"name": "mdaf", "embedding": 4}), encoder.feature_map()).eval()

    def calibrated(logits: NDArray[np.float64], of: EncodedTable) -> NDArray[np.float64]:
        """Differently by shop, as a calibrator of segments does."""
        return np.asarray(expit(3.0 * logits[:, 1] - 0.1 * of.categorical[:, 0]))

    chosen = np.array([3, 4, 20, 41])
    found = partial_dependence(
        network, encoder.encode(raw), calibrated, Names(encoder), feature, rows=chosen, grid=5
    )
    assert found.curves.shape == (4, len(found.values))
    assert 2 <= len(found.values) <= 5
    for number, value in enumerate(found.values):
        given: Any = -1 if value == "(unknown)" else value
        column = pl.lit(given).cast(raw.schema[feature]).alias(feature)
        encoded = encoder.encode(raw[chosen].with_columns(column))
        expected = calibrated(predict(network, encoded)[0], encoded)
        np.testing.assert_allclose(found.curves[:, number], expected, rtol=1e-4)
    np.testing.assert_allclose(found.mean, found.curves.mean(axis=0))
    if found.share is None:
        low, high = np.quantile(raw[feature], [0.05, 0.95])
        assert list(found.values) == sorted(found.values)  # type: ignore[type-var]
        assert low - 2.0 <= float(found.values[0]) < float(found.values[-1]) <= high + 2.0
    else:
        assert (np.diff(found.share) <= 0).all()
        if feature == "shop":
            counts = raw["shop"].value_counts(sort=True)
            assert list(found.values) == counts["shop"].to_list()
            np.testing.assert_allclose(found.share, counts["count"].to_numpy() / raw.height)
    content = found.to_dict()
    assert content["rows"] == 4
    assert all(
        low <= mean <= high
        for low, mean, high in zip(content["low"], content["mean"], content["high"], strict=True)
    )


def test_missing_numbers_are_no_places_of_the_curve() -> None:
    raw = table().with_columns(age=pl.when(pl.int_range(60) % 3 > 0).then(pl.col("age")))
    encoder = Encoder.fit(SPEC, raw)
    network = build_model(model_config({"name": "dnn", "embedding": 4}), encoder.feature_map()).eval()
    names, data = Names(encoder), encoder.encode(raw)

    def click(logits: NDArray[np.float64], of: EncodedTable) -> NDArray[np.float64]:
        return np.asarray(expit(logits[:, 0]))

    found = partial_dependence(network, data, click, names, "age", grid=5)
    assert np.isfinite(np.asarray(found.values, dtype=float)).all()
    assert np.isfinite(found.curves).all()
    assert names.field(2, float("nan")) == "(missing)"
    data.numeric[:, 0] = np.nan
    with pytest.raises(DataError, match="no row has a number of the feature 'age'"):
        partial_dependence(network, data, click, names, "age")
