from __future__ import annotations

import torch
from torch import nn

from ctrkit.nn.mamba import Mamba
from ctrkit.nn.mamba4rec import Mamba4RecEncoder


def normalised(x: torch.Tensor) -> torch.Tensor:
    """Layer normalisation with weights 1 and 0."""
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-12).sqrt()


def test_blocks_are_those_of_the_papers_code() -> None:
    torch.manual_seed(0)
    for blocks in (1, 2):
        encoder, x = Mamba4RecEncoder(16, blocks=blocks).eval(), torch.randn(3, 5, 16)
        expected = normalised(x)
        for block in encoder.blocks:
            mixed = block.mixer(expected)
            expected = normalised(mixed + expected if blocks > 1 else mixed)
            widening, _, _, narrowing = block.feed_forward
            inner = widening(expected)
            inner = narrowing(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)))
            expected = normalised(inner + expected)
        torch.testing.assert_close(encoder(x), expected, rtol=1e-4, atol=1e-5)
        assert block.feed_forward[0].out_features == 64
        assert block.mixer.A_log.shape == (32, 32)


def test_starts_as_the_papers_code_does() -> None:
    torch.manual_seed(0)
    encoder = Mamba4RecEncoder(64, blocks=2)
    linears = [part for part in encoder.modules() if isinstance(part, nn.Linear)]
    assert len(linears) == 2 * (4 + 2)
    for linear in linears:
        assert 0.015 < float(linear.weight.detach().std()) < 0.025
        assert linear.bias is None or not linear.bias.any()
    # What is no linear layer starts as in Mamba.
    mixer = encoder.blocks[0].mixer
    torch.testing.assert_close(mixer.A_log.exp(), torch.arange(1.0, 33).expand(128, 32))
    assert bool(mixer.conv1d.bias.any())


def test_mixers_may_start_as_mamba_does() -> None:
    torch.manual_seed(0)
    encoder = Mamba4RecEncoder(64, paper_initialisation=False)
    steps = nn.functional.softplus(encoder.blocks[0].mixer.dt_proj.bias.detach())
    assert 0.001 <= float(steps.min()) < float(steps.max()) <= 0.1001
    assert float(encoder.blocks[0].feed_forward[0].weight.detach().std()) < 0.025
    torch.manual_seed(0)
    torch.testing.assert_close(encoder.blocks[0].mixer.in_proj.weight, Mamba(64, 32).in_proj.weight)


def test_dropout_falls_on_events_and_in_blocks() -> None:
    torch.manual_seed(0)
    encoder, x = Mamba4RecEncoder(16, dropout=0.5), torch.randn(3, 5, 16)
    assert not torch.equal(encoder(x), encoder(x))
    assert (encoder.before(torch.ones(8, 16)).std(dim=-1) > 0.5).all()
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))
