from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.nn.attention import TargetAttention


def carried_over(first: nn.Linear, *others: nn.Linear) -> TargetAttention:
    """Our attention with the weights of a published one, whose first layer reads [t, h, t - h, t * h]."""
    width = first.in_features // 4
    attention = TargetAttention(width, [layer.out_features for layer in (first, *others[:-1])])
    of_target, of_event, of_difference, of_product = first.weight.detach().split(width, dim=1)
    with torch.no_grad():
        attention.of_target.weight.copy_(of_target + of_difference)
        attention.of_event.weight.copy_(of_event - of_difference)
        attention.of_pair.weight.copy_(of_product)
        attention.of_target.bias.copy_(first.bias)
    own = [layer for layer in attention.tower if isinstance(layer, nn.Linear)]
    for ours, theirs in zip((*own, attention.score), others, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return attention.to(first.weight.dtype)


@pytest.mark.parametrize("hidden", [(6,), (6, 3)])
def test_target_attention_equals_the_published_form(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b).double() for a, b in zip((16, *hidden), (*hidden, 1), strict=True)]
    attention = carried_over(*layers)
    targets, events = torch.randn(3, 2, 4).double(), torch.randn(3, 5, 4).double()
    mask = torch.rand(3, 5) > 0.4
    readings = attention(targets, events, mask)
    for row, k in np.ndindex(3, 2):
        t, expected = targets[row, k], torch.zeros(4, dtype=torch.float64)
        for h, present in zip(events[row], mask[row], strict=True):
            x = torch.cat([t, h, t - h, t * h])
            for layer in layers[:-1]:
                x = (layer.weight @ x + layer.bias).clamp(min=0)
            expected = expected + present * (layers[-1].weight @ x + layers[-1].bias) * h
        torch.testing.assert_close(readings[row, k], expected)


def test_gradients_of_target_attention() -> None:
    torch.manual_seed(0)
    attention, mask = TargetAttention(3, (4,)).double(), torch.tensor([[True] * 3, [False, True, True]])
    targets = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    events = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in attention.named_parameters()]

    def reading(targets: torch.Tensor, events: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        changed = dict(zip(names, weights, strict=True))
        result: torch.Tensor = torch.func.functional_call(attention, changed, (targets, events, mask))
        return result

    assert torch.autograd.gradcheck(reading, (targets, events, *attention.parameters()))


def test_an_empty_history_reads_zero() -> None:
    attention, empty = TargetAttention(4), torch.zeros(2, 5, dtype=torch.bool)
    events = torch.randn(2, 5, 4, requires_grad=True)
    reading = attention(torch.randn(2, 3, 4), events, empty)
    reading.sum().backward()
    assert torch.equal(reading, torch.zeros(2, 3, 4))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in attention.parameters())


def test_target_attention_equals_fuxictr() -> None:
    layers = pytest.importorskip("fuxictr.pytorch.layers")
    torch.manual_seed(0)
    theirs = layers.DIN_Attention(embedding_dim=4, attention_units=[6, 3])
    attention = carried_over(*(layer for layer in theirs.modules() if isinstance(layer, nn.Linear)))
    target, events, mask = torch.randn(5, 4), torch.randn(5, 7, 4), torch.rand(5, 7) > 0.4
    expected = theirs(target, events, mask)
    torch.testing.assert_close(attention(target.unsqueeze(1), events, mask).squeeze(1), expected)


def test_target_attention_equals_deepctr() -> None:
    sequence = pytest.importorskip("deepctr_torch.layers.sequence")
    torch.manual_seed(0)
    theirs = sequence.AttentionSequencePoolingLayer((6, 3), "relu", supports_masking=True, embedding_dim=4)
    attention = carried_over(*(layer for layer in theirs.modules() if isinstance(layer, nn.Linear)))
    target, events, mask = torch.randn(5, 1, 4), torch.randn(5, 7, 4), torch.rand(5, 7) > 0.4
    torch.testing.assert_close(attention(target, events, mask), theirs(target, events, None, mask))
