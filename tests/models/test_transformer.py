from __future__ import annotations

import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.models import build_model, model_config
from ctrkit.models.base import Inputs
from ctrkit.models.transformer import Transformer
from ctrkit.nn.encoders.attention import AttentionBlock
from tests.models.test_contract import FULL, make_batch


def torch_layer(block: AttentionBlock, width: int, heads: int) -> nn.TransformerEncoderLayer:
    """torch's own layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="relu", norm_first=True, batch_first=True
    ).eval()
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(block.attention.inputs.weight)
        layer.self_attn.in_proj_bias.zero_()
        layer.self_attn.out_proj.weight.copy_(block.attention.outputs.weight)
        layer.self_attn.out_proj.bias.zero_()
        layer.linear1.load_state_dict(block.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(block.feed_forward[2].state_dict())
        layer.norm1.load_state_dict(block.attention_norm.state_dict())
        layer.norm2.load_state_dict(block.feed_forward_norm.state_dict())
    return layer


def test_it_is_torchs_transformer_with_queries_that_nothing_else_reads() -> None:
    torch.manual_seed(0)
    model = build_model(model_config({"name": "transformer", "embedding": 8}), FULL).eval()
    backbone = model.heads.backbone
    assert isinstance(backbone, Transformer)
    batch = make_batch(FULL, 9)
    state = model.encode_history(batch)
    fields = model.embedding.fields(batch)
    inputs = Inputs(batch, fields, fields[:, :0], state)
    ages = backbone.ages(FULL.max_length)
    tokens = torch.cat([fields + backbone.kinds, state.events + ages, backbone.queries.expand(9, -1, -1)], 1)
    count, queries = tokens.shape[1], len(FULL.tasks)
    hidden = torch.zeros(count, count, dtype=torch.bool)  # True: may not be read
    hidden[:, -queries:] = ~torch.eye(count, dtype=torch.bool)[:, -queries:]
    missing = torch.zeros(9, count, dtype=torch.bool)
    missing[:, fields.shape[1] : -queries] = ~state.mask
    with torch.no_grad():
        x = tokens
        for block in backbone.blocks:
            x = torch_layer(block, 8, 4)(x, src_mask=hidden, src_key_padding_mask=missing)
        expected = backbone.norm(x[:, -queries:])
        torch.testing.assert_close(backbone(inputs).vector, expected, rtol=1e-4, atol=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="attention_heads must divide"):
        model_config({"name": "transformer", "embedding": 10})
