from __future__ import annotations

import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.nn.field_attention import InteractingLayer

ROWS, FIELDS, WIDTH, HEADS = 3, 5, 8, 2


def fields(width: int = WIDTH) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(ROWS, FIELDS, width)


@torch.no_grad()
def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer = InteractingLayer(WIDTH, WIDTH, HEADS)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
    weight = layer.query_key_value.weight.clone()
    weight[:WIDTH] *= (WIDTH // HEADS) ** 0.5  # torch divides the products by this
    theirs.in_proj_weight.copy_(weight)
    theirs.out_proj.weight.copy_(torch.eye(WIDTH))
    x = fields()
    attended = theirs(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(layer(x), torch.relu(attended + x @ layer.residual.weight.T))


def test_fields_may_change_their_width() -> None:
    torch.manual_seed(0)
    layer, x = InteractingLayer(3, 4, HEADS), fields(3)
    query, key, value = layer.query_key_value.weight.detach().reshape(3, HEADS, 2, 3)
    expected = torch.zeros(ROWS, FIELDS, 4)
    for b in range(ROWS):
        for m in range(FIELDS):
            for h in range(HEADS):
                q = query[h] @ x[b, m]
                a = torch.softmax(torch.stack([q @ key[h] @ x[b, k] for k in range(FIELDS)]), dim=0)
                expected[b, m, 2 * h : 2 * h + 2] = sum(a[k] * (value[h] @ x[b, k]) for k in range(FIELDS))
            expected[b, m] += layer.residual.weight.detach() @ x[b, m]
    torch.testing.assert_close(layer(x).detach(), expected.relu())


def test_fields_have_no_order() -> None:
    torch.manual_seed(0)
    layer, x, order = InteractingLayer(WIDTH, WIDTH, HEADS), fields(), [3, 0, 4, 1, 2]
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])


def test_dropout_acts_on_attention_in_training_alone() -> None:
    torch.manual_seed(0)
    layer, plain = InteractingLayer(WIDTH, WIDTH, HEADS, dropout=0.5), InteractingLayer(WIDTH, WIDTH, HEADS)
    plain.load_state_dict(layer.state_dict())
    assert not torch.equal(layer(fields()), plain(fields()))
    assert torch.equal(layer.eval()(fields()), plain(fields()))


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="3 attention heads do not divide the attention width 8"):
        InteractingLayer(WIDTH, WIDTH, heads=3)


@torch.no_grad()
def test_layer_equals_deepctr_torch_with_its_weights() -> None:
    peers = pytest.importorskip("deepctr_torch.layers.interaction")
    theirs, layer = peers.InteractingLayer(WIDTH, HEADS), InteractingLayer(WIDTH, WIDTH, HEADS)
    theirs.W_Query.normal_()  # far from uniform attention
    layer.query_key_value.weight.copy_(torch.cat([theirs.W_Query.T, theirs.W_key.T, theirs.W_Value.T]))
    layer.residual.weight.copy_(theirs.W_Res.T)
    torch.testing.assert_close(layer(fields()), theirs(fields()))
