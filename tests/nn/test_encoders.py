from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError
from ctrkit.nn.encoders import (
    ENCODERS,
    EncoderConfig,
    HistoryEncoder,
    LSTMConfig,
    Mamba4RecEncoderConfig,
    MambaConfig,
    RecurrentEncoder,
    SASRecEncoderConfig,
    TransformerEncoderConfig,
)
from ctrkit.nn.encoders.attention import AttentionBlock, SelfAttention, TransformerEncoder
from ctrkit.nn.encoders.onetrans import OneTransEncoderConfig
from ctrkit.nn.encoders.recurrent import GRU, LSTM

WIDTH, LENGTH = 8, 6
CONFIGS: list[EncoderConfig] = [
    *(config(name=name) for name, config in ENCODERS.items()),
    LSTMConfig(layers=2),
    MambaConfig(blocks=1, state=4),
    Mamba4RecEncoderConfig(blocks=2, state=4),
    TransformerEncoderConfig(blocks=2, heads=4),
    SASRecEncoderConfig(blocks=1),
    OneTransEncoderConfig(blocks=3, newest=2),
]
every_encoder = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


def make(config: EncoderConfig) -> HistoryEncoder:
    torch.manual_seed(0)
    return config.encoder(WIDTH, LENGTH, reads_states=True, reads_target=True).double().eval()


def histories(rows: int = 7, length: int = LENGTH, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Events of histories of 0, 1, 2, ... events, with numbers at padding too."""
    generator = torch.Generator().manual_seed(seed)
    events = torch.randn(rows, length, WIDTH, generator=generator, dtype=torch.float64)
    return events, torch.arange(length - 1, -1, -1) < (torch.arange(rows) % (length + 1))[:, None]


@every_encoder
def test_padding_changes_no_state_and_what_stands_there_is_finite(config: EncoderConfig) -> None:
    encoder, (events, mask) = make(config), histories()
    alone = encoder.encode(events, mask)
    assert bool(alone.states.isfinite().all())
    for padding in (1, 4):
        more = torch.cat([torch.randn(7, padding, WIDTH, dtype=torch.float64) * 9, events], dim=1)
        padded = encoder.encode(more, nn.functional.pad(mask, (padding, 0)))
        torch.testing.assert_close(padded.states[:, padding:][mask], alone.states[mask])
        targets = torch.randn(7, 2, WIDTH, dtype=torch.float64)
        torch.testing.assert_close(encoder.next_states(targets, padded), encoder.next_states(targets, alone))
        changed = encoder.encode(torch.where(mask.unsqueeze(-1), events, 5.0), mask)
        torch.testing.assert_close(changed.states[mask], alone.states[mask])


@every_encoder
def test_an_appended_event_is_as_if_encoded_with_the_rest(config: EncoderConfig) -> None:
    encoder, (events, mask) = make(config), histories(length=LENGTH - 3)
    more = torch.randn(7, 3, WIDTH, dtype=torch.float64)
    history = encoder.encode(events, mask)
    for event in more.unbind(1):
        history = encoder.append(history, event)
    whole = encoder.encode(torch.cat([events, more], dim=1), nn.functional.pad(mask, (0, 3), value=True))
    assert torch.equal(history.mask, whole.mask)
    assert torch.equal(history.events, whole.events)
    torch.testing.assert_close(history.states[whole.mask], whole.states[whole.mask])
    targets = torch.randn(7, 2, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(encoder.next_states(targets, history), encoder.next_states(targets, whole))


@every_encoder
def test_no_place_is_one_of_padding_and_no_histories_are_none(config: EncoderConfig) -> None:
    encoder, (events, mask) = make(config), histories()
    for rows, length in ((7, 0), (0, LENGTH), (0, 0)):
        found = encoder.encode(events[:rows, :length], mask[:rows, :length])
        assert len(found) == rows
        for candidates in (0, 2):
            targets = torch.randn(rows, candidates, WIDTH, dtype=torch.float64)
            states = encoder.next_states(targets, found)
            assert states.shape == targets.shape
            empty = encoder.encode(events[:rows], torch.zeros_like(mask[:rows]))
            torch.testing.assert_close(states, encoder.next_states(targets, empty))


@pytest.mark.parametrize("config", [c for c in CONFIGS if isinstance(make(c), RecurrentEncoder)], ids=str)
def test_recurrent_encoders_go_on_without_the_events_before(
    config: EncoderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, (events, mask) = make(config), histories()
    history, targets = encoder.encode(events, mask), torch.randn(7, 3, WIDTH, dtype=torch.float64)
    each = [encoder.encode(*_with(events, mask, target)).states[:, -1] for target in targets.unbind(1)]
    whole = torch.stack(each, dim=1)

    def never(*_: Tensor) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(encoder, "encode", never)
    states = encoder.next_states(targets, history)
    torch.testing.assert_close(states, whole)
    torch.testing.assert_close(encoder.append(history, targets[:, 1]).states[:, -1], whole[:, 1])
    parameters, weights = list(encoder.parameters()), torch.randn_like(whole)
    ours = torch.autograd.grad((states * weights).sum(), parameters)
    for mine, expected in zip(ours, torch.autograd.grad((whole * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(mine, expected)


def _with(events: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([events, target.unsqueeze(1)], dim=1), nn.functional.pad(mask, (0, 1), value=True)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_gru_and_lstm_equal_torch_on_the_events_alone(kind: type[GRU] | type[LSTM], layers: int) -> None:
    torch.manual_seed(0)
    encoder, (events, mask) = kind(WIDTH, layers).double(), histories()
    encoded, cells = encoder.encode(events, mask), encoder.cells
    assert torch.equal(encoded.states[~mask], torch.zeros_like(encoded.states[~mask]))
    for row in range(7):
        alone = events[row][mask[row]]
        if not len(alone):
            assert all(not memory[row].any() for memory in encoded.memory)
            continue
        states, memory = cells(alone)
        torch.testing.assert_close(encoded.states[row][mask[row]], states)
        last = list(memory) if kind is LSTM else [memory]  # h, and c of LSTM, [layers, width] each
        expected = torch.stack(last, dim=1).flatten(0, 1)
        torch.testing.assert_close(torch.stack([m[row] for m in encoded.memory]), expected)


@pytest.mark.parametrize("kind", [GRU, LSTM])
def test_gradients_of_gru_and_lstm_equal_those_of_torch(kind: type[GRU] | type[LSTM]) -> None:
    torch.manual_seed(0)
    encoder, (events, mask) = kind(WIDTH).double(), histories()
    events.requires_grad_()
    parameters = [events, *encoder.parameters()]
    ours = torch.autograd.grad(encoder.encode(events, mask).states.square().sum(), parameters)
    rows = [events[row][mask[row]] for row in range(1, 7)]
    theirs = torch.autograd.grad(
        torch.stack([encoder.cells(row)[0].square().sum() for row in rows]).sum(), parameters
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_self_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(WIDTH, 4), nn.MultiheadAttention(WIDTH, 4, bias=False, batch_first=True)
    _copy_attention(ours, theirs)
    (events, mask), targets = histories(), torch.randn(7, 2, WIDTH, dtype=torch.float64)
    events, targets, ours, theirs = events[1:], targets[1:], ours.double(), theirs.double()
    mask, hidden = mask[1:], ~mask[1:]
    bias = torch.where(mask, 0.0, -torch.inf).double()[:, None, None, :]
    expected = theirs(events, events, events, key_padding_mask=hidden)[0]
    torch.testing.assert_close(ours(events, bias), expected)
    keys_and_values = ours.keys_and_values(events)
    read = ours.of_targets(targets, *keys_and_values, bias)
    for k, target in enumerate(targets.split(1, dim=1)):
        x, visible = torch.cat([events, target], dim=1), nn.functional.pad(hidden, (0, 1))
        expected = theirs(target, x, x, key_padding_mask=visible)[0]
        torch.testing.assert_close(read[:, k : k + 1], expected)


def _copy_attention(ours: SelfAttention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.inputs.weight)
        theirs.out_proj.weight.copy_(ours.outputs.weight)


def _torch_block(block: AttentionBlock, expand: int) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of a block."""
    theirs = nn.TransformerEncoderLayer(
        WIDTH,
        block.attention.heads,
        expand * WIDTH,
        activation=nn.ReLU() if block.pre else nn.LeakyReLU(),
        batch_first=True,
        norm_first=block.pre,
    )
    _copy_attention(block.attention, theirs.self_attn)
    with torch.no_grad():
        theirs.self_attn.in_proj_bias.zero_()
        theirs.self_attn.out_proj.bias.zero_()
    pairs = {
        theirs.linear1: block.feed_forward[0],
        theirs.linear2: block.feed_forward[2],
        theirs.norm1: block.attention_norm,
        theirs.norm2: block.feed_forward_norm,
    }
    for module, own in pairs.items():
        module.load_state_dict(own.state_dict())
    return theirs.double().eval()


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("kind", [TransformerEncoderConfig, SASRecEncoderConfig])
def test_transformers_equal_torch_on_the_events_alone(
    kind: type[TransformerEncoderConfig] | type[SASRecEncoderConfig], blocks: int
) -> None:
    encoder = make(kind(blocks=blocks, heads=2, expand=3))
    assert isinstance(encoder, TransformerEncoder)
    for parameter in encoder.parameters():  # norms that start as the identity would hide their absence
        nn.init.normal_(parameter, std=0.5)
    stack = [_torch_block(block, 3) for block in encoder.blocks]
    causal = kind is SASRecEncoderConfig

    def theirs(x: Tensor) -> Tensor:
        """Events, oldest first, with the target at the end."""
        length = len(x)
        for block in stack:
            hidden = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
            x = block(x.unsqueeze(0), src_mask=hidden).squeeze(0)
        return encoder.norm(x) if causal else x  # type: ignore[operator]

    events, mask = histories()
    targets = torch.randn(7, 2, WIDTH, dtype=torch.float64)
    history = encoder.encode(events, mask)
    next_states = encoder.next_states(targets, history)
    ages = encoder.positions.weight  # of the target, of the newest event, ...
    # The tolerance is wide as torch's fused attention exponentiates to about seven digits in any precision.
    for row in range(7):
        alone = events[row][mask[row]]
        placed = alone + ages[1 : len(alone) + 1].flip(0)
        if len(alone):
            torch.testing.assert_close(history.states[row][mask[row]], theirs(placed), rtol=1e-5, atol=1e-6)
        for k in range(2):
            whole = torch.cat([placed, (targets[row, k] + ages[0]).unsqueeze(0)])
            torch.testing.assert_close(next_states[row, k], theirs(whole)[-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config", [TransformerEncoderConfig(blocks=2), SASRecEncoderConfig()], ids=lambda c: c.name
)
def test_what_no_readout_reads_is_not_computed(config: EncoderConfig) -> None:
    events, mask = histories()
    for reads_states, reads_target in pairwise([False, True, False]):
        torch.manual_seed(0)
        encoder = config.encoder(WIDTH, LENGTH, reads_states=reads_states, reads_target=reads_target)
        history = encoder.double().encode(events, mask)
        assert history.states.shape == (7, LENGTH if reads_states else 0, WIDTH)
        read = history.states if reads_states else encoder.next_states(events[:, :2], history)
        read.square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())


def test_heads_that_do_not_divide_the_width() -> None:
    for config in (TransformerEncoderConfig(heads=3), SASRecEncoderConfig(heads=16)):
        with pytest.raises(ConfigError, match="heads do not divide 8, the width of embeddings"):
            config.encoder(WIDTH, LENGTH)
