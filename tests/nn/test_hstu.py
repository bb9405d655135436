from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError
from ctrkit.nn.encoders import HistoryEncoder
from ctrkit.nn.encoders.hstu import HSTU, HSTUBlock, HSTUConfig
from tests.nn.test_encoders import LENGTH, WIDTH, histories


def make(blocks: int = 2, *, reads_states: bool = True, reads_target: bool = True) -> HSTU:
    torch.manual_seed(0)
    config = HSTUConfig(blocks=blocks, heads=2)
    encoder = config.encoder(WIDTH, LENGTH, reads_states=reads_states, reads_target=reads_target)
    for block in encoder.modules():
        if isinstance(block, HSTUBlock):
            nn.init.normal_(block.bias)
    assert isinstance(encoder, HSTU)
    return encoder.double().eval()


def by_hand(block: HSTUBlock, x: Floats, length: int) -> Floats:
    """The formula of the paper, number by number: events without padding, `[L, width] -> [L, width]`."""
    weight, shift = (p.detach().numpy() for p in (block.inputs.weight, block.inputs.bias))
    out, out_shift = (p.detach().numpy() for p in (block.outputs.weight, block.outputs.bias))
    bias = block.bias.detach().numpy()

    def silu(number: float) -> float:
        return number / (1.0 + math.exp(-number))

    def norm(vector: Floats) -> Floats:
        centred = vector - sum(vector) / len(vector)
        return centred / math.sqrt(sum(centred**2) / len(vector) + 1e-6)

    inner = [
        np.array([silu(sum(row * norm(event)) + b) for row, b in zip(weight, shift, strict=True)])
        for event in x
    ]
    width, wide = x.shape[1], x.shape[1] // block.heads
    result = []
    for i, event in enumerate(x):
        gate, query = inner[i][:width], inner[i][2 * width : 3 * width]
        read = np.zeros(width)
        for head in range(block.heads):
            own = slice(head * wide, (head + 1) * wide)
            for j in range(i + 1):
                value, key = inner[j][width : 2 * width], inner[j][3 * width :]
                score = sum(query[own] * key[own]) + bias[min(i - j, len(bias) - 1)]
                read[own] += silu(score) / length * value[own]
        gated = norm(read) * gate
        result.append([event[k] + sum(out[k] * gated) + out_shift[k] for k in range(width)])
    return np.array(result)


@pytest.mark.parametrize("blocks", [1, 2])
def test_it_is_the_papers_formula(blocks: int) -> None:
    encoder, (events, mask) = make(blocks), histories(length=LENGTH + 2)  # longer than N: distances are cut
    targets = torch.randn(len(mask), 2, WIDTH, dtype=torch.float64)
    history = encoder.encode(events, mask)
    next_states = encoder.next_states(targets, history)
    for row in range(len(mask)):
        alone = events[row][mask[row]]
        for k in range(2):
            x = torch.cat([alone, targets[row, k : k + 1]]).numpy()
            for block in encoder.blocks:
                x = by_hand(block, x, LENGTH)
            np.testing.assert_allclose(history.states[row][mask[row]].detach(), x[:-1], rtol=1e-10)
            np.testing.assert_allclose(next_states[row, k].detach(), x[-1], rtol=1e-10)


def test_candidates_and_new_events_need_no_new_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, (events, mask) = make(), histories(length=LENGTH - 2)
    history = encoder.encode(events, mask)
    more = torch.randn(len(mask), 2, WIDTH, dtype=torch.float64)
    longer = torch.cat([events, more], dim=1)
    whole = encoder.encode(longer, nn.functional.pad(mask, (0, 2), value=True))

    def never(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(HistoryEncoder, "encode", never)
    monkeypatch.setattr(HSTUBlock, "forward", never)
    torch.testing.assert_close(encoder.next_states(more[:, :1], history)[:, 0], whole.states[:, -2])
    for event in more.unbind(1):
        history = encoder.append(history, event)
    torch.testing.assert_close(history.states[whole.mask], whole.states[whole.mask])
    readable = whole.mask[:, None, :, None].expand_as(whole.memory[0])
    for ours, theirs in zip(history.memory, whole.memory, strict=True):
        torch.testing.assert_close(ours[readable], theirs[readable])


def test_states_that_no_readout_reads_are_not_computed() -> None:
    encoder, (events, mask) = make(reads_states=False), histories()
    whole, history = make().encode(events, mask), encoder.encode(events, mask)
    assert history.states.shape == (7, 0, WIDTH)
    assert encoder.append(history, events[:, 0]).states.shape == (7, 0, WIDTH)
    targets = events[:, :2]
    torch.testing.assert_close(encoder.next_states(targets, history), make().next_states(targets, whole))


def test_heads_that_do_not_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide 8, the width of embeddings"):
        HSTUConfig(heads=3).encoder(WIDTH, LENGTH)
