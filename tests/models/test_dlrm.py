from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from tests.models.test_contract import FULL, MAPS, make, make_batch


def backbone_of(model: Any) -> Any:
    return model.heads.backbone


@torch.no_grad()
def test_forward_pair_by_pair() -> None:
    feature_map = replace(MAPS["no history, one task"], tasks=("click",))
    model, batch = (
        make({"name": "dlrm", "bottom": [5], "hidden": [7]}, feature_map),
        make_batch(feature_map, 3),
    )
    own, fields = backbone_of(model), model.embedding.fields(batch)
    hidden = model(batch).hidden
    for b in range(3):
        x = torch.cat([fields[b, 4], fields[b, 5]])  # the numeric ones, after four categorical ones
        for layer in (own.bottom[0], own.bottom[3]):
            x = torch.clamp(layer.weight @ x + layer.bias, min=0)
        vectors = [x, *fields[b, :4]]
        products = torch.stack([left @ right for left, right in combinations(vectors, 2)])
        top = own.top[0].weight @ torch.cat([x, products]) + own.top[0].bias
        torch.testing.assert_close(hidden[b], torch.clamp(top, min=0))


@torch.no_grad()
def test_first_tower_begins_with_a_linear_layer_of_the_numbers() -> None:
    feature_map = MAPS["no history, one task"]
    model = make({"name": "dlrm"}, feature_map)
    embedding, first = model.embedding, backbone_of(model).bottom[0]
    weight = (first.weight.unflatten(1, (2, 16)) * embedding.direction).sum(dim=2)
    bias = first.bias + (first.weight.unflatten(1, (2, 16)) * embedding.bias).sum(dim=(1, 2))
    batch = make_batch(feature_map, 5)
    inner = first(embedding.fields(batch)[:, 4:].flatten(1))
    torch.testing.assert_close(inner, batch.numeric @ weight.T + bias)


def test_without_numbers_there_is_no_first_tower() -> None:
    assert backbone_of(make({"name": "dlrm"}, MAPS["no numeric"])).bottom is None


ALONE = replace(
    FULL, tables={"user": 30}, categorical={"user": "user"}, numeric=(), sequences={}, target=(), profile=()
)
NUMBERS = replace(ALONE, tables={}, categorical={}, numeric=("price", "age"))


# All numbers together are one vector to DLRM.
@pytest.mark.parametrize(("name", "feature_map"), [("dlrm", ALONE), ("dlrm", NUMBERS), ("fibinet", ALONE)])
def test_one_vector_alone_has_no_pair(name: str, feature_map: FeatureMap) -> None:
    with pytest.raises(ConfigError, match="multiplies pairs of features, but the number of features is 1"):
        build_model(model_config({"name": name}), feature_map)
