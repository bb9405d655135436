from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.models import model_config
from ctrkit.models.base import Inputs
from tests.models.test_contract import FULL, make, make_batch

ONE = replace(FULL, tasks=("click",))
SMALL = {"name": "finalmlp", "hidden": [8, 6], "second_hidden": [4], "fusion_heads": 2}


def made(**content: Any) -> Any:
    return make({**SMALL, **content}, ONE).eval()


@torch.no_grad()
def test_logit_is_the_papers_at_the_start() -> None:
    model, batch = made(), make_batch(ONE, 9)
    model.last_layer.bias.fill_(0.3)
    output, w = model(batch), model.heads.backbone.fusion.weight
    x, y = output.hidden[:, :6], output.hidden[:, 6:10]
    linear = torch.cat([x, y], dim=1) @ model.last_layer.weight[0, :10] + 0.3
    bilinear = sum(
        x[:, 3 * h + i] * w[h, i, j] * y[:, 2 * h + j] for h in range(2) for i in range(3) for j in range(2)
    )
    assert float(bilinear.abs().min()) > 0
    torch.testing.assert_close(output.logits[:, 0], linear + bilinear)


@torch.no_grad()
def test_each_stream_is_gated_by_its_own_context() -> None:
    model, batch = made(), make_batch(ONE, 9)
    profile, target = model.heads.backbone.streams
    names = list(ONE.fields)
    assert [names[i] for i in profile.context] == ["user", "age"]
    assert [names[i] for i in target.context] == ["item", "category"]
    fields = model.embedding.fields(batch)
    features = torch.cat([fields, torch.randn(9, 1, 16)], dim=1)
    gates = 2 * torch.sigmoid(profile.gate.gates(profile.gate.mlp(fields[:, [0, 5]].flatten(1))))
    inputs = Inputs(batch, features[:, :-1], features[:, -1:], None)
    torch.testing.assert_close(profile(inputs), profile.tower(features.flatten(1) * gates))


@torch.no_grad()
def test_gates_that_are_open_are_as_if_there_were_none() -> None:
    constant, none = made(contexts=["constant", "constant"]), made(contexts=["none", "none"])
    assert (
        sum(p.numel() for p in constant.parameters()) - sum(p.numel() for p in none.parameters()) == 2 * 112
    )
    weights = {n: v for n, v in constant.state_dict().items() if not n.endswith("gate.constant")}
    none.load_state_dict(weights, strict=True)
    batch = make_batch(ONE, 9)
    torch.testing.assert_close(constant(batch).logits, none(batch).logits)
    constant.heads.backbone.streams[1].gate.constant.fill_(1.0)
    assert not torch.allclose(constant(batch).logits, none(batch).logits)


@pytest.mark.parametrize("heads", [4, 3])
def test_heads_that_do_not_divide_a_stream(heads: int) -> None:
    with pytest.raises(ConfigError, match="fusion_heads must divide the last width"):
        model_config({**SMALL, "fusion_heads": heads})


@torch.no_grad()
def test_fusion_equals_fuxictr_with_its_weights() -> None:
    peers = pytest.importorskip("model_zoo.LongCTR.FinalMLP.FinalMLP")
    theirs, model = peers.InteractionAggregation(6, 4, num_heads=2), made()
    theirs.w_xy.copy_(model.heads.backbone.fusion.weight.reshape(-1, 1))
    theirs.w_x.weight.copy_(model.last_layer.weight[:, :6])
    theirs.w_y.weight.copy_(model.last_layer.weight[:, 6:10])
    theirs.w_x.bias.copy_(model.last_layer.bias)
    theirs.w_y.bias.zero_()
    output = model(make_batch(ONE, 9))
    expected = theirs(output.hidden[:, :6], output.hidden[:, 6:10])
    torch.testing.assert_close(output.logits, expected)
