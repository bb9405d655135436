from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from ctrkit.errors import ConfigError
from ctrkit.nn.token_mixing import (
    FeatureTokens,
    RankMixerBlock,
    TokenFeedForward,
    TokenMixerLargeBlock,
    mix_tokens,
)

ROWS = 3
Floats = NDArray[np.float64]


def array(x: torch.Tensor) -> Floats:
    return x.detach().numpy()


def randomised(module: Any) -> Any:
    """The module in double precision, with no weight at the 0 or 1 where it starts."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.double()


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def mixed(tokens: Floats, heads: int) -> Floats:
    """Of one row: head h of every token, side by side."""
    width = tokens.shape[1] // heads
    return np.array(
        [[number for token in tokens for number in token[h * width : (h + 1) * width]] for h in range(heads)]
    )


def linear(layer: Any, t: int, x: Floats) -> Floats:
    return x @ array(layer.weight)[t] + array(layer.bias)[t, 0]


def feed_forward(network: Any, tokens: Floats) -> Floats:
    outputs = []
    for t, x in enumerate(tokens):
        inner = linear(network.up, t, x)
        if network.gated:
            gate, up = inner[: len(inner) // 2], inner[len(inner) // 2 :]
            inner = gate * scipy.special.expit(gate) * up
        else:
            inner = inner * scipy.special.ndtr(inner)
        outputs.append(linear(network.down, t, inner))
    return np.array(outputs)


def layer_norm(norm: Any, tokens: Floats) -> Floats:
    rows = []
    for x in tokens:
        deviations = x - x.mean()
        scaled = deviations / np.sqrt((deviations**2).mean() + norm.eps)
        rows.append(scaled * array(norm.weight) + array(norm.bias))
    return np.array(rows)


def rms_norm(norm: Any, tokens: Floats) -> Floats:
    epsilon = np.finfo(np.float64).eps
    return np.array([x / np.sqrt((x**2).mean() + epsilon) * array(norm.weight) for x in tokens])


@pytest.mark.parametrize(("count", "width", "heads"), [(4, 8, 4), (3, 8, 2), (2, 6, 6), (5, 4, 1)])
def test_mixing_by_loops_and_back(count: int, width: int, heads: int) -> None:
    tokens = drawn(ROWS, count, width)
    found = mix_tokens(tokens, heads)
    assert found.shape == (ROWS, heads, count * width // heads)
    for b in range(ROWS):
        np.testing.assert_array_equal(array(found[b]), mixed(array(tokens[b]), heads))
    assert torch.equal(mix_tokens(found, count), tokens)


@pytest.mark.parametrize("flat", [12, 11, 10])
def test_tokens_are_pieces_of_the_embeddings(flat: int) -> None:
    tokens, x = randomised(FeatureTokens(flat, 4, 5)), drawn(ROWS, flat)
    found = array(tokens(x))
    for b, row in enumerate(array(x)):
        padded = [*row, *[0.0] * (12 - flat)]
        for t in range(4):
            piece = np.array(padded[3 * t : 3 * t + 3])
            np.testing.assert_allclose(found[b, t], linear(tokens.projection, t, piece), rtol=1e-10)


@pytest.mark.parametrize("flat", [9, 5])  # the last of four pieces would have nothing
def test_no_token_is_only_padding(flat: int) -> None:
    with pytest.raises(ConfigError, match=f"{flat} numbers in all cannot be cut into 4 tokens"):
        FeatureTokens(flat, 4, 5)


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_networks_by_loops(gated: bool) -> None:
    network, tokens = randomised(TokenFeedForward(4, 6, 2, gated=gated)), drawn(ROWS, 4, 6)
    assert network.down.weight.shape == (4, 12, 6)
    for b in range(ROWS):
        np.testing.assert_allclose(
            array(network(tokens)[b]), feed_forward(network, array(tokens[b])), rtol=1e-8
        )


def test_rankmixer_block_by_loops() -> None:
    block, tokens = randomised(RankMixerBlock(4, 8, 2)), drawn(ROWS, 4, 8)
    for b, x in enumerate(array(tokens)):
        s = layer_norm(block.mixed_norm, mixed(x, 4) + x)
        expected = layer_norm(block.norm, feed_forward(block.feed_forward, s) + s)
        np.testing.assert_allclose(array(block(tokens)[b]), expected, rtol=1e-8)


@pytest.mark.parametrize(("count", "heads"), [(4, 4), (5, 2), (3, 8)])
def test_tokenmixer_large_block_by_loops(count: int, heads: int) -> None:
    block, tokens = randomised(TokenMixerLargeBlock(count, 8, heads, 2)), drawn(ROWS, count, 8)
    for b, x in enumerate(array(tokens)):
        h = mixed(x, heads)
        h = h + feed_forward(block.mixed_feed_forward, rms_norm(block.mixed_norm, h))
        expected = x + feed_forward(block.feed_forward, rms_norm(block.norm, mixed(h, count)))
        np.testing.assert_allclose(array(block(tokens)[b]), expected, rtol=1e-8)


def test_a_tokenmixer_large_block_starts_close_to_the_identity() -> None:
    torch.manual_seed(0)
    block, tokens = TokenMixerLargeBlock(4, 16, 4, 2), torch.randn(ROWS, 4, 16)
    torch.testing.assert_close(block(tokens), tokens, rtol=0.0, atol=0.01)
    assert not torch.equal(block(tokens), tokens)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network, tokens = TokenFeedForward(4, 6, 2, dropout=0.5), torch.randn(ROWS, 4, 6)
    assert not torch.equal(network(tokens), network(tokens))
    network.eval()
    assert torch.equal(network(tokens), network(tokens))
