from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.nn.cross import CrossNetwork, ExponentialCross, LinearCross, two_views

REFERENCE = Path(__file__).parents[1] / "fixtures" / "dcnv3_reference.npz"


@pytest.mark.parametrize(
    ("kind", "prefix", "final", "layers"),
    [(ExponentialCross, "ecn", "dfc", 3), (LinearCross, "lcn", "sfc", 4)],
)
def test_logit_equals_the_authors_network(
    kind: type[CrossNetwork], prefix: str, final: str, layers: int
) -> None:
    with np.load(REFERENCE) as file:
        reference = {name: torch.from_numpy(file[name]) for name in file}
    weights = {
        name.removeprefix(f"{prefix}.").replace(final, "head"): value
        for name, value in reference.items()
        if name.startswith(f"{prefix}.") and not name.endswith("logit")
    }
    network = kind(24, layers)
    network.load_state_dict(weights, strict=True)
    network.eval()
    torch.testing.assert_close(network(reference["x"]), reference[f"{prefix}.logit"], rtol=1e-5, atol=1e-5)


def by_hand(network: CrossNetwork, x0: torch.Tensor, exponential: bool) -> torch.Tensor:
    """The layers without layer norm, a row, a head and a dimension at a time."""
    rows, heads, width = x0.shape
    logits = torch.zeros(rows)
    for row in range(rows):
        for head in range(heads):
            x = x0[row, head].clone()
            for w, b in zip(network.w, network.b, strict=True):
                h = w.weight @ x
                c = torch.cat([h, h * h.clamp(min=0)])
                base = x if exponential else x0[row, head]
                x = torch.stack([base[i] * (c[i] + b[i]) + x[i] for i in range(width)])
            logits[row] += (network.head.weight[0] @ x + network.head.bias[0]) / heads
    return logits


@pytest.mark.parametrize("kind", [ExponentialCross, LinearCross])
def test_heads_share_weights_and_their_logits_are_averaged(kind: type[CrossNetwork]) -> None:
    torch.manual_seed(0)
    network, x = kind(6, 2, heads=3, layer_norm=False), torch.randn(4, 3, 6)
    with torch.no_grad():
        expected = by_hand(network, x, kind is ExponentialCross)
    torch.testing.assert_close(network(x).detach(), expected)


@pytest.mark.parametrize(("kind", "degree"), [(ExponentialCross, 8), (LinearCross, 4)])
def test_order_of_interactions(kind: type[CrossNetwork], degree: int) -> None:
    # With a bias of zero and no gate (h <= 0), three layers are a polynomial of degree 2^3 or 3 + 1
    # along a ray: its differences of the next order vanish.
    torch.manual_seed(0)
    network = kind(4, 3, layer_norm=False).double()
    with torch.no_grad():
        for w, b in zip(network.w, network.b, strict=True):
            w.weight.abs_().neg_()
            b.zero_()
    ray = torch.rand(1, 1, 4, dtype=torch.float64) * 0.2
    steps = torch.linspace(0.1, 1.0, degree + 2, dtype=torch.float64)
    logits = network(steps[:, None, None] * ray).detach().numpy()
    assert abs(np.diff(logits, n=degree)[0]) > 1e-13
    assert abs(np.diff(logits, n=degree + 1)[0]) < 1e-3 * abs(np.diff(logits, n=degree)[0])


def test_initialisation_and_batch_norm_over_heads() -> None:
    torch.manual_seed(0)
    network = ExponentialCross(200, 2, heads=2, batch_norm=True)
    for b in (parameter.detach() for parameter in network.b):
        assert 0.0 <= float(b.min()) < 0.05
        assert 0.95 < float(b.max()) <= 1.0
        assert abs(float(b.mean()) - 0.5) < 0.1
    for w in network.w:
        assert abs(float(w.weight.detach().std()) - (2 / 300) ** 0.5) < 0.002  # Glorot
    assert [norm.num_features for norm in network.batch_norm] == [2, 2]
    assert network(torch.randn(5, 2, 200)).shape == (5,)


def test_dropout_acts_on_the_state_in_training_alone() -> None:
    torch.manual_seed(0)
    network, x = LinearCross(40, 1, dropout=0.5), torch.randn(50, 1, 40)
    dropped = network.state(x) == 0
    assert 0.4 < float(dropped.float().mean()) < 0.6
    network.eval()
    assert not bool((network.state(x) == 0).any())


def test_two_views_hold_first_halves_then_second_halves() -> None:
    # Two fields, two heads, d = 4: field 0 is 0..7, field 1 is 10..17.
    embeddings = torch.stack([torch.arange(8.0), 10 + torch.arange(8.0)]).unsqueeze(0)
    assert two_views(embeddings, heads=2).tolist() == [
        [[0, 1, 10, 11, 2, 3, 12, 13], [4, 5, 14, 15, 6, 7, 16, 17]]
    ]
    one = two_views(torch.randn(3, 5, 6), heads=1)
    assert one.shape == (3, 1, 30)


@pytest.mark.parametrize("kind", [ExponentialCross, LinearCross])
@torch.no_grad()
def test_low_rank_is_the_full_form_with_the_product_of_its_factors(kind: type[CrossNetwork]) -> None:
    torch.manual_seed(0)
    low, full, x = kind(12, 3, heads=2, rank=2).eval(), kind(12, 3, heads=2).eval(), torch.randn(5, 2, 12)
    factors = {name for name in low.state_dict() if name.startswith("w.")}
    products = {f"w.{layer}.weight": w[1].weight @ w[0].weight for layer, w in enumerate(low.w)}
    full.load_state_dict({n: v for n, v in low.state_dict().items() if n not in factors} | products)
    torch.testing.assert_close(low(x), full(x))
    assert sum(low.state_dict()[name].numel() for name in factors) == 3 * 2 * (12 + 6)


def test_low_rank_matrices_start_with_the_variance_of_full_ones() -> None:
    torch.manual_seed(0)
    for w in ExponentialCross(200, 2, rank=40).w:
        std = (w[1].weight.detach() @ w[0].weight.detach()).std()
        assert abs(float(std) / (2 / 300) ** 0.5 - 1) < 0.05


def test_a_rank_above_the_full_one() -> None:
    with pytest.raises(ConfigError, match="rank 7 is above 6"):
        LinearCross(12, 1, rank=7)


@torch.no_grad()
def test_shares_of_the_dimensions_sum_to_the_logit() -> None:
    torch.manual_seed(0)
    network, state = LinearCross(8, 1, heads=3), torch.randn(5, 3, 8)
    network.head.bias.fill_(0.7)
    torch.testing.assert_close(network.shares(state).sum(dim=1), network.logit(state))
    silent = state.clone()
    silent[:, :, 2] = 0.0
    changed = (network.shares(silent) != network.shares(state)).any(dim=0)
    assert changed.tolist() == [False, False, True, False, False, False, False, False]
