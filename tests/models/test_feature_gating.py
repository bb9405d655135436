from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.models.test_contract import FULL, make, make_batch

ONE = replace(FULL, tasks=("click",))


@pytest.mark.parametrize("per", ["dimension", "vector"])
@torch.no_grad()
def test_open_gates_leave_dcnv2(per: str) -> None:
    hidden = {"hidden": [16, 8]}
    gated: Any = make({"name": "feature_gating", "per": per, **hidden}, ONE).eval()
    plain = make({"name": "dcnv2", **hidden}, ONE).eval()
    for parameter in gated.heads.backbone.gate.parameters():
        parameter.zero_()  # 2 sigmoid(0) = 1
    weights = {name: value for name, value in gated.state_dict().items() if ".gate." not in name}
    plain.load_state_dict(weights, strict=True)
    batch = make_batch(ONE, 9)
    torch.testing.assert_close(gated(batch).logits, plain(batch).logits)


@torch.no_grad()
def test_own_gates_halve_embeddings_at_zero() -> None:
    gated: Any = make({"name": "feature_gating", "gate": "embedding"}, ONE).eval()
    row: Any = make({"name": "feature_gating", "gate": "row"}, ONE).eval()
    gated.heads.backbone.gate.weight.zero_()  # sigmoid(0) = 1/2
    last = row.heads.backbone.gate.gate.gates
    last.weight.zero_()
    last.bias.fill_(torch.logit(torch.tensor(0.25)))  # 2 sigmoid = 1/2
    weights = {name: value for name, value in gated.state_dict().items() if ".gate." not in name}
    row.load_state_dict(weights, strict=False)
    batch = make_batch(ONE, 9)
    torch.testing.assert_close(gated(batch).logits, row(batch).logits)


@torch.no_grad()
def test_a_closed_gate_hides_its_field() -> None:
    model: Any = make({"name": "feature_gating", "per": "vector"}, ONE).eval()
    last = model.heads.backbone.gate.gate.gates
    last.weight.zero_()
    last.bias.zero_()
    last.bias[3] = -200.0  # of the hour
    batch = make_batch(ONE, 9)
    other = batch.categorical.clone()
    other[:, 3] = other[:, 3] % 25 + 1
    torch.testing.assert_close(model(replace(batch, categorical=other)).logits, model(batch).logits)
    other[:, 2] = other[:, 2] % 8 + 1
    assert not torch.allclose(model(replace(batch, categorical=other)).logits, model(batch).logits)
