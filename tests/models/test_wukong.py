from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from tests.models.test_contract import FULL, PLAIN, make, make_batch

ONE = replace(FULL, tasks=("click",))


@torch.no_grad()
def test_forward_step_by_step() -> None:
    model: Any = make({"name": "wukong", "layers": 2, "hidden": [9], **PLAIN}, ONE).eval()
    batch, own = make_batch(ONE, 4), model.heads.backbone
    fields = model.embedding.fields(batch)
    readings = model.history.read(model.encode_history(batch), fields, batch.categorical)
    # A reading is normalised to the length sqrt(16), four times that of a vector to multiply.
    vectors = torch.cat([fields, readings / 4], dim=1)
    for layer in own.layers:
        vectors = layer(vectors)
    assert vectors.shape == (4, 8 + 8, 16)
    expected = torch.relu(own.tower[0](vectors.flatten(1)))
    torch.testing.assert_close(model(batch).hidden, expected)


@pytest.mark.parametrize(
    ("content", "feature_map", "message"),
    [
        ({"embedding": 1}, ONE, "width 1"),
        ({}, FeatureMap(tables={"item": 9}, categorical={"item": "item"}), "number of features is 1"),
    ],
)
def test_what_cannot_be_built(content: dict[str, Any], feature_map: FeatureMap, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make({"name": "wukong", **content}, feature_map)
