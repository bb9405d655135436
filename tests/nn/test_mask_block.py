from __future__ import annotations

import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.nn.mask_block import FieldNorm, MaskBlock


@torch.no_grad()
def test_field_norm_is_a_layer_norm_a_vector() -> None:
    torch.manual_seed(0)
    norm, vectors = FieldNorm(3, 5), torch.randn(4, 3, 5)
    torch.testing.assert_close(norm(vectors), nn.LayerNorm(5, elementwise_affine=False)(vectors))
    norm.gain.normal_()
    norm.shift.normal_()
    for i in range(3):
        own = nn.LayerNorm(5)
        own.weight.copy_(norm.gain[i])
        own.bias.copy_(norm.shift[i])
        torch.testing.assert_close(norm(vectors)[:, i], own(vectors[:, i]))


def test_embeddings_of_width_one_cannot_be_normalised() -> None:
    with pytest.raises(ConfigError, match="width 1"):
        FieldNorm(3, 1)


@pytest.mark.parametrize(("reduction", "between"), [(1.0, 6), (2.0, 12), (0.01, 1)])
@torch.no_grad()
def test_block_number_by_number(reduction: float, between: int) -> None:
    torch.manual_seed(0)
    block = MaskBlock(guide=5, inputs=6, outputs=4, reduction=reduction)
    embeddings, hidden = torch.randn(3, 5), torch.randn(3, 6)
    narrow, _, wide = block.mask
    assert narrow.weight.shape == (between, 5)
    block.norm.weight.normal_()
    block.norm.bias.normal_()
    for b in range(3):
        mask = wide.weight @ torch.clamp(narrow.weight @ embeddings[b] + narrow.bias, min=0) + wide.bias
        z = torch.stack(
            [sum(block.hidden.weight[k, i] * mask[i] * hidden[b, i] for i in range(6)) for k in range(4)]
        )
        z = (z - z.mean()) / (z.var(unbiased=False) + block.norm.eps).sqrt()
        expected = torch.clamp(z * block.norm.weight + block.norm.bias, min=0)
        torch.testing.assert_close(block(embeddings, hidden)[b], expected)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    block, row = MaskBlock(4, 4, 100, dropout=0.5), torch.randn(1, 4)
    positive = (block.eval()(row, row) > 0).sum()
    kept = (block.train()(row, row) > 0).sum()
    assert 0.3 < float(kept / positive) < 0.7
