from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

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
