"""The reading of hash buckets against loops, and its weights against their expectation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ctrkit.nn.pooling.sdim import BucketReader
from ctrkit.nn.sim_hash import SimHash


def histories() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets, events and a mask: histories of 0, 1, 2, ... events."""
    generator = torch.Generator().manual_seed(1)
    events = torch.randn(9, 8, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(9, 3, 4, generator=generator, dtype=torch.float64)
    return targets, events, torch.arange(7, -1, -1) < torch.arange(9)[:, None]


@pytest.mark.parametrize("bits", [1, 3])
def test_the_reading_equals_loops(bits: int) -> None:
    torch.manual_seed(0)
    reader, (targets, events, mask) = BucketReader(4, 5, bits).double(), histories()
    directions = reader.hash.directions.numpy().T.reshape(5, bits, 4)
    readings, weights = reader(targets, events, mask).numpy(), reader.weights(targets, events, mask).numpy()
    for user, k in np.ndindex(9, 3):
        total, meetings = np.zeros(4), np.zeros(8)
        for hashed in directions:
            own, inside = tuple(hashed @ targets[user, k].numpy() > 0), np.zeros(4)
            for place, e in enumerate(events[user].numpy()):
                if mask[user, place] and tuple(hashed @ e > 0) == own:
                    inside += e
                    meetings[place] += 1
            total += inside / max(np.linalg.norm(inside), 1e-12)
        np.testing.assert_allclose(readings[user, k], total / 5, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(weights[user, k], meetings / 5, rtol=1e-6)
    assert not readings[0].any()  # of no events


@pytest.mark.parametrize("bits", [1, 2, 3, 6])
def test_the_mean_weight_is_that_of_the_paper(bits: int) -> None:
    """(1 - arccos(cos) / pi) ** bits, within five standard errors of the mean over the hashes."""
    torch.manual_seed(0)
    hashes, width = 20_000, 8
    reader = BucketReader(width, hashes, bits)
    target = torch.randn(1, 1, width)
    angles = torch.linspace(0.0, math.pi, 9)
    unit = target / target.norm()
    other = torch.randn(1, 1, width)
    other = other - (other * unit).sum() * unit
    across = other / other.norm()
    events = angles.cos()[:, None] * unit[0] + angles.sin()[:, None] * across[0]
    weights = reader.weights(target, 3.0 * events.unsqueeze(0), torch.ones(1, 9, dtype=torch.bool))[0, 0]
    expected = (1.0 - angles / math.pi) ** bits
    error = 5.0 * (expected * (1.0 - expected) / hashes).sqrt() + 1e-6
    assert bool(((weights - expected).abs() <= error).all()), (weights, expected)


def test_a_code_has_a_bit_for_each_direction() -> None:
    torch.manual_seed(0)
    code = SimHash(3, 7)
    vectors = torch.randn(5, 3)
    assert torch.equal(code(vectors), (vectors.double() @ code.directions.double()) > 0)
    assert set(dict(code.named_buffers())) == set(code.state_dict()) == {"directions"}
    assert not code(torch.zeros(3)).any()


def test_the_gradient_reaches_the_events_in_the_targets_buckets() -> None:
    torch.manual_seed(0)
    reader, (targets, events, mask) = BucketReader(4, 2, 3).double(), histories()
    targets.requires_grad_()
    events.requires_grad_()
    (reader(targets, events, mask) * torch.randn(4, dtype=torch.float64)).sum().backward()
    assert targets.grad is None
    assert events.grad is not None
    assert bool(events.grad.isfinite().all())
    assert not events.grad[(reader.weights(targets, events, mask) == 0).all(dim=1)].any()
    assert bool(events.grad.any())
