from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ctrkit.errors import ConfigError
from tests.models.test_contract import FULL, PLAIN, make, make_batch

ONE = replace(FULL, tasks=("click",))


@pytest.mark.parametrize("name", ["rankmixer", "tokenmixer_large"])
@torch.no_grad()
def test_the_mean_of_the_last_tokens_is_read(name: str) -> None:
    model: Any = make({"name": name, **PLAIN}, ONE).eval()
    batch, own = make_batch(ONE, 4), model.heads.backbone
    fields = model.embedding.fields(batch)
    readings = model.history.read(model.encode_history(batch), fields, batch.categorical)
    embeddings = torch.cat([fields, readings], dim=1).flatten(1)
    tokens = own.tokens(embeddings)
    if name == "tokenmixer_large":
        projection = own.global_token.projection
        whole = embeddings @ projection.weight[0] + projection.bias[0]
        tokens = torch.cat([whole[:, None], tokens], dim=1)
    for block in own.blocks:
        tokens = block(tokens)
    assert tokens.shape == (4, 8 if name == "rankmixer" else 9, 64)
    torch.testing.assert_close(model(batch).hidden, sum(tokens.unbind(dim=1)) / tokens.shape[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "rankmixer", "tokens": 7}, "tokens must divide token_width"),
        ({"name": "tokenmixer_large", "mixing_heads": 7}, "mixing_heads must divide token_width"),
        ({"name": "rankmixer", "embedding": 1, "tokens": 16}, "7 numbers in all cannot be cut into 16"),
        ({"name": "tokenmixer_large", "embedding": 1}, "7 numbers in all cannot be cut into 8 tokens"),
    ],
)
def test_what_cannot_be_built(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(content, ONE)
