"""AutoInt and FiBiNET against those of DeepCTR-Torch: the same weights, the same probabilities."""

from __future__ import annotations

import pytest
import torch

from ctrkit.models import MODELS
from tests.models.test_interaction_peers import WIDTH, assert_equal, carry_last_layer, make_pair, part


@torch.no_grad()
def test_autoint_plus() -> None:
    content = {"name": "autoint", "layers": 2, "attention_width": WIDTH}
    ours, theirs = make_pair("AutoInt", content, att_layer_num=2)
    carry_last_layer(ours, theirs, theirs.dnn_linear)
    for layer, peer in zip(part(ours, MODELS["autoint"]).attention, theirs.int_layers, strict=True):
        query, key, value = layer.query_key_value.weight.chunk(3)
        peer.W_Query.copy_(query.T)
        peer.W_key.copy_(key.T)
        peer.W_Value.copy_(value.T)
        peer.W_Res.copy_(layer.residual.weight.T)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("form", ["all", "each", "interaction"])
@torch.no_grad()
def test_fibinet(form: str) -> None:
    content = {"name": "fibinet", "form": form, "reduction": 2.0}
    ours, theirs = make_pair("FiBiNET", content, bilinear_type=form, reduction_ratio=2)
    carry_last_layer(ours, theirs, theirs.dnn_linear)
    backbone = part(ours, MODELS["fibinet"])
    theirs.SE.excitation[0].weight.copy_(backbone.senet.squeeze.weight)
    theirs.SE.excitation[2].weight.copy_(backbone.senet.excite.weight)
    # There, both interactions share their matrices, and that of SENET's embeddings comes first.
    backbone.weighed.load_state_dict(backbone.raw.state_dict())
    for matrix, peer in zip(backbone.raw.weight, theirs.Bilinear.parameters(), strict=False):
        peer.copy_(matrix.T)
    first = theirs.dnn.linears[0].weight
    first.copy_(torch.cat(first.chunk(2, dim=1)[::-1], dim=1))
    assert_equal(ours, theirs)
