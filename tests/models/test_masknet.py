from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from tests.models.test_contract import MAPS, make, make_batch

ONE = replace(MAPS["no history, one task"], tasks=("click",))


def masked(block: Any, embeddings: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    first, _, second = block.mask
    mask = torch.relu(embeddings @ first.weight.T + first.bias) @ second.weight.T + second.bias
    return nn.functional.layer_norm((mask * hidden) @ block.hidden.weight.T, [len(block.norm.weight)]).relu()


@pytest.mark.parametrize("form", ["serial", "parallel"])
@torch.no_grad()
def test_forward_step_by_step(form: str) -> None:
    content = {"name": "masknet", "form": form, "hidden": [9, 7], "blocks": 2, "block_width": 5}
    model, batch = make(content, ONE).eval(), make_batch(ONE, 4)
    fields = model.embedding.fields(batch)
    # The masks read embeddings as they are; what they mask first is normalised, field by field.
    embeddings, hidden = fields.flatten(1), nn.functional.layer_norm(fields, [16]).flatten(1)
    own: Any = model.heads.backbone
    if form == "serial":
        expected = masked(own.blocks[1], embeddings, masked(own.blocks[0], embeddings, hidden))
    else:
        expected = torch.cat([masked(block, embeddings, hidden) for block in own.blocks], dim=1)
        for layer in (own.tower[0], own.tower[3]):
            expected = torch.relu(expected @ layer.weight.T + layer.bias)
    torch.testing.assert_close(model(batch).hidden, expected)


@pytest.mark.parametrize(
    ("content", "message"), [({"embedding": 1}, "width 1"), ({"hidden": [8, 1]}, "hidden.1")]
)
def test_what_cannot_be_normalised(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(model_config({"name": "masknet", **content}), ONE)
