from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.models.onetrans import OneTrans
from ctrkit.nn.encoders.onetrans import EventBlock, OneTransEncoder, OneTransEncoderConfig
from tests.models.test_contract import FULL, PLAIN, make_batch

HEADS, WIDTH = 2, 8


def make(**encoder: Any) -> tuple[CtrModel, OneTrans, OneTransEncoder]:
    torch.manual_seed(0)
    settings = {"name": "onetrans", "heads": HEADS, "expand": 2, **encoder}
    content = {
        "name": "onetrans",
        "embedding": WIDTH,
        "tokens": 3,
        "history": {"encoder": settings, **PLAIN["history"]},
    }
    model = build_model(model_config(content), FULL).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    backbone, reader = model.heads.backbone, model.history
    assert isinstance(backbone, OneTrans)
    assert reader is not None
    assert isinstance(reader.encoder, OneTransEncoder)
    return model, backbone, reader.encoder


def norm(x: Floats) -> Floats:
    scaled: Floats = x / math.sqrt(sum(x**2) / len(x) + 1e-6)
    return scaled


def gelu(x: float) -> float:
    return 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0)))


def weights_of(block: torch.nn.Module, token: int | None) -> list[Floats]:
    """Weights and biases of inputs, outputs, W1 and W2, of a token of fields or of all events."""
    parts = [p.detach().numpy() for p in block.parameters()]
    if token is not None:
        return [part[token].T if number % 2 == 0 else part[token, 0] for number, part in enumerate(parts)]
    inputs, outputs, *rest = parts
    return [inputs, np.zeros(len(inputs)), outputs, np.zeros(len(outputs)), *rest]


def weights_of_events(encoder: OneTransEncoder) -> list[list[Floats]]:
    """Those of each block. The last has keys and values alone."""
    assert encoder.last is not None
    inputs = np.concatenate([np.zeros((WIDTH, WIDTH)), encoder.last.weight.detach().numpy()])
    nothing = [np.zeros((WIDTH, WIDTH)), np.zeros(WIDTH)] * 3
    return [*(weights_of(block, None) for block in encoder.blocks), [inputs, np.zeros(len(inputs)), *nothing]]


def by_hand(blocks: list[tuple[list[list[Floats]], int]], tokens: list[Floats], fields: int) -> list[Floats]:
    """The paper's formulas, token by token.

    Args:
        blocks: of each block the weights of every token of the list, and how many events it updates.
        tokens: events of one row without padding, oldest first, then tokens of fields.
        fields: how many of them are tokens of fields.
    """
    for weights, updated in blocks:
        weights = weights[len(weights) - len(tokens) :]
        parts = [
            np.split(w @ norm(x) + b, 3) for (w, b, *_), x in zip(weights, tokens, strict=True)
        ]  # q, k, v
        result = []
        for i in range(len(tokens)):
            if i < len(tokens) - fields - updated:
                continue  # asks no more
            _, _, outputs, shift, w1, b1, w2, b2 = weights[i]
            read = np.zeros(WIDTH)
            for head in np.split(np.arange(WIDTH), HEADS):
                scores = [parts[i][0][head] @ parts[j][1][head] / math.sqrt(len(head)) for j in range(i + 1)]
                shares = [math.exp(score) for score in scores]
                for j, share in enumerate(shares):
                    read[head] += share / sum(shares) * parts[j][2][head]
            z = tokens[i] + outputs @ read + shift
            inner = np.array([gelu(number) for number in w1 @ norm(z) + b1])
            result.append(z + w2 @ inner + b2)
        tokens = result
    return tokens


@pytest.mark.parametrize(
    ("settings", "updated"),
    [({"blocks": 1}, [6]), ({"blocks": 2, "newest": 2}, [6, 2]), ({"blocks": 4, "newest": 1}, [6, 4, 3, 1])],
)
def test_it_is_the_papers_formula(settings: dict[str, int], updated: list[int]) -> None:
    model, backbone, encoder = make(**settings)
    batch = replace(make_batch(FULL, 9), numeric=make_batch(FULL, 9).numeric.double())
    assert encoder.updated == updated
    assert model.embedding is not None
    with torch.no_grad():
        state, vectors = model.encode_history(batch), model.embedding.fields(batch)
        placed = state.events + encoder.positions(FULL.max_length)
        starts = backbone.split(vectors.flatten(1)).reshape(9, 3, WIDTH)
        found = model(batch).hidden
    for row in range(9):
        events = [*placed[row][state.mask[row]].numpy()]
        blocks = []
        for mine, theirs, count in zip(weights_of_events(encoder), backbone.blocks, updated, strict=True):
            of_fields = [weights_of(theirs, token) for token in range(3)]
            blocks.append(([mine] * len(events) + of_fields, count))
        tokens = by_hand(blocks, [*events, *starts[row].numpy()], 3)
        np.testing.assert_allclose(found[row], sum(tokens[-3:]) / 3, rtol=1e-9, atol=1e-12)


def test_the_events_are_computed_once_for_all_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = make(blocks=3, newest=2)
    users, rows = make_batch(FULL, 4), make_batch(FULL, 12, seed=2)
    users, rows = (replace(one, numeric=one.numeric.double()) for one in (users, rows))
    own = {name: ids.repeat_interleave(3, dim=0) for name, ids in users.sequences.items()}
    expected, history = model(replace(rows, sequences=own)), model.encode_history(users)

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(EventBlock, "forward", never)
    monkeypatch.setattr(EventBlock, "keys_and_values", never)
    torch.testing.assert_close(model(rows, history).logits, expected.logits)


def test_it_reads_the_blocks_of_its_own_encoder() -> None:
    for encoder in ("sasrec", "none"):
        with pytest.raises(ConfigError, match=f"the encoder 'onetrans', and not those of '{encoder}'"):
            model_config({"name": "onetrans", "history": {"encoder": encoder, "readouts": ["mean"]}})
    with pytest.raises(ConfigError, match="heads do not divide 10"):
        build_model(model_config({"name": "onetrans", "embedding": 10}), FULL)


def test_no_more_events_are_updated_than_there_are() -> None:
    assert OneTransEncoderConfig(blocks=3, newest=12).updated(6) == [6, 6, 6]
    assert OneTransEncoderConfig(blocks=6, newest=12).updated(1190) == [1190, 954, 719, 483, 248, 12]
