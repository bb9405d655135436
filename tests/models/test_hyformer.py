from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.models.hyformer import HyFormer, HyFormerBlock, QueryDecoding
from ctrkit.nn.batches import Batch
from tests.models.test_contract import FULL, PLAIN, make_batch

WIDTH, HEADS, TOKENS, QUERIES = 24, 4, 6, 2
SETTINGS = {"width": WIDTH, "tokens": TOKENS, "queries": QUERIES, "hidden": [], "blocks": 2}


def make() -> tuple[CtrModel, HyFormer]:
    torch.manual_seed(0)
    model = build_model(model_config({"name": "hyformer", "embedding": 8, **PLAIN, **SETTINGS}), FULL)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    backbone = model.heads.backbone
    assert isinstance(backbone, HyFormer)
    return model.double().eval(), backbone


def rows(count: int, seed: int = 1) -> Batch:
    batch = make_batch(FULL, count, seed=seed)
    return replace(batch, numeric=batch.numeric.double())


def array(tensor: Any) -> Floats:
    numbers: Floats = tensor.detach().numpy()
    return numbers


def norm(x: Floats) -> Floats:
    scaled: Floats = x / math.sqrt(sum(x**2) / len(x) + 1e-6)
    return scaled


def gelu(x: Floats) -> Floats:
    return np.array([0.5 * number * (1.0 + math.erf(number / math.sqrt(2.0))) for number in x])


def linear(layer: nn.Linear, x: Floats) -> Floats:
    read: Floats = array(layer.weight) @ x + (0.0 if layer.bias is None else array(layer.bias))
    return read


def decoded(layer: QueryDecoding, query: Floats, events: list[Floats]) -> Floats:
    """Q + Attention(norm(Q), norm(H)) for one query of one row."""
    if not events:
        return query
    w_query, w_keys, w_values = np.split(array(layer.attention.inputs.weight), 3)
    keys, values = [], []
    for event in events:
        gate, inner = np.split(linear(layer.up, event), 2)
        encoded = norm(linear(layer.down, gate / (1.0 + np.exp(-gate)) * inner))
        keys.append(w_keys @ encoded)
        values.append(w_values @ encoded)
    asked, read = w_query @ norm(query), np.zeros(WIDTH)
    for head in np.split(np.arange(WIDTH), HEADS):
        shares = [math.exp(asked[head] @ key[head] / math.sqrt(len(head))) for key in keys]
        for share, value in zip(shares, values, strict=True):
            read[head] += share / sum(shares) * value[head]
    return query + linear(layer.attention.outputs, read)


def boosted(block: HyFormerBlock, tokens: list[Floats]) -> list[Floats]:
    """X + FFN(Mix(X)) of one row."""
    piece, result = WIDTH // TOKENS, []
    up, down = block.feed_forward.up, block.feed_forward.down
    assert up.bias is not None
    assert down.bias is not None
    for t, token in enumerate(tokens):
        mixed = np.concatenate([other[t * piece : (t + 1) * piece] for other in tokens])
        inner = gelu(mixed @ array(up.weight)[t] + array(up.bias)[t, 0])
        result.append(token + inner @ array(down.weight)[t] + array(down.bias)[t, 0])
    return result


def test_it_is_the_papers_formula() -> None:
    model, backbone = make()
    batch = rows(9)
    with torch.no_grad():
        found, state = model(batch).hidden, model.encode_history(batch)
        assert model.embedding is not None
        fields = array(backbone.fields(model.embedding.fields(batch).flatten(1)))
        parts = model.embedding.sequences(batch)
    assert backbone.second.bias is not None
    for row in range(9):
        present, ages = state.mask[row], array(backbone.ages.weight)
        sequences = []
        for number, project in enumerate(backbone.events):
            assert isinstance(project, nn.Linear)
            alone = [array(backbone.norm(part)) for part in parts[row, present, number]]
            placed = zip(alone, ages[: len(alone)][::-1], strict=True)
            sequences.append([linear(project, event) + age for event, age in placed])
        means = [sum(events) / len(events) if events else np.zeros(WIDTH) for events in sequences]
        inner = np.split(gelu(linear(backbone.first, np.concatenate([*fields[row], *means]))), 2 * QUERIES)
        tokens = [
            x @ array(backbone.second.weight)[n] + array(backbone.second.bias)[n, 0]
            for n, x in enumerate(inner)
        ] + [*fields[row]]
        for block in backbone.blocks:
            assert isinstance(block, HyFormerBlock)
            for number, layer in enumerate(block.decoding):
                assert isinstance(layer, QueryDecoding)
                for place in range(number * QUERIES, (number + 1) * QUERIES):
                    tokens[place] = decoded(layer, tokens[place], sequences[number])
            tokens = boosted(block, tokens)
        np.testing.assert_allclose(found[row], np.concatenate(tokens), rtol=1e-9, atol=1e-12)


def test_what_is_read_of_the_events_is_computed_once_for_all_candidates() -> None:
    model, backbone = make()
    users, candidates = rows(4), rows(12, seed=2)
    own = {name: ids.repeat_interleave(3, dim=0) for name, ids in users.sequences.items()}
    expected = model(replace(candidates, sequences=own)).logits
    seen: list[int] = []
    for module in backbone.modules():
        if isinstance(module, QueryDecoding):
            module.up.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    torch.testing.assert_close(model(candidates, model.encode_history(users)).logits, expected)
    assert seen == [4] * 4  # two sequences in two blocks


def test_sequences_meet_only_where_tokens_are_mixed() -> None:
    model, backbone = make()
    batch = rows(9)
    other = {**batch.sequences, "seen_categories": batch.sequences["seen_categories"].flip(0)}
    decodings = [module for module in backbone.modules() if isinstance(module, QueryDecoding)]
    outputs: list[torch.Tensor] = []
    for decoding in decodings[:2]:
        decoding.up.register_forward_hook(lambda _, __, output: outputs.append(output))
    model(batch)
    model(replace(batch, sequences=other))
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[1], outputs[3])


def test_tokens_that_do_not_fit() -> None:
    for name in ("tokens", "attention_heads"):
        with pytest.raises(ConfigError, match=f"{name} must divide width"):
            model_config({"name": "hyformer", "width": 64, name: 5})
    config = model_config({"name": "hyformer", "tokens": 4, "queries": 2})
    with pytest.raises(ConfigError, match="2 sequences have 4 queries, which leaves no token for the fields"):
        build_model(config, FULL)
