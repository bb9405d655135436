from __future__ import annotations

import numpy as np
import scipy.special
import torch

from ctrkit.nn.attention import TargetAttention, last_state
from ctrkit.nn.fusion import ContextGate, SoftFusion
from ctrkit.nn.mlp import MLP


def test_target_attention_is_a_weighted_sum_over_events() -> None:
    torch.manual_seed(0)
    attention = TargetAttention(4, (8,))
    t, events = torch.randn(3, 4), torch.randn(3, 5, 4)
    mask = torch.rand(3, 5) > 0.4
    expected = torch.zeros(3, 4)
    for row in range(3):
        for i in range(5):
            if mask[row, i]:
                h = events[row, i]
                features = torch.cat([t[row], h, t[row] - h, t[row] * h])
                hidden = (attention.tower[0].weight @ features + attention.tower[0].bias).clamp(min=0)
                a = attention.score.weight[0] @ hidden + attention.score.bias[0]
                expected[row] += a * h
    torch.testing.assert_close(attention(t, events, mask), expected)


def test_an_empty_history_reads_zero() -> None:
    attention, empty = TargetAttention(4), torch.zeros(2, 5, dtype=torch.bool)
    events = torch.randn(2, 5, 4, requires_grad=True)
    reading = attention(torch.randn(2, 4), events, empty)
    reading.sum().backward()
    assert torch.equal(reading, torch.zeros(2, 4))
    assert torch.equal(last_state(events, empty), torch.zeros(2, 4))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in attention.parameters())


def test_last_state_is_the_newest() -> None:
    states = torch.randn(2, 5, 4)
    assert torch.equal(last_state(states, torch.ones(2, 5, dtype=torch.bool)), states[:, 4])


def test_soft_fusion_mixes_the_four_operations() -> None:
    torch.manual_seed(0)
    fusion = SoftFusion(6)
    a, b = torch.randn(2, 3, 6).unbind()
    parameters = {name: value.detach().numpy() for name, value in fusion.named_parameters()}
    x, y = a.numpy(), b.numpy()

    def attended(values: np.ndarray, branch: int) -> np.ndarray:
        weight, bias = (parameters[f"attention.{branch}.{kind}"] for kind in ("weight", "bias"))
        return 6 * scipy.special.softmax(values @ weight.T + bias, axis=1) * values

    both = np.concatenate([x, y], axis=1)
    operations = {
        "add": x + y,
        "product": x * y,
        "concatenation": both @ parameters["concatenation.weight"].T + parameters["concatenation.bias"],
        "attention": attended(x, 0) + attended(y, 1),
    }
    assert fusion.weights() == dict.fromkeys(operations, 0.25)
    for chosen, operation in enumerate(operations):
        with torch.no_grad():
            fusion.mixture.zero_()[chosen] = 50.0
        np.testing.assert_allclose(
            fusion(a, b).detach().numpy(), operations[operation], rtol=1e-4, atol=1e-6, err_msg=operation
        )
    with torch.no_grad():
        fusion.mixture.copy_(torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    expected = sum(
        share * value for share, value in zip((0.1, 0.2, 0.3, 0.4), operations.values(), strict=True)
    )
    np.testing.assert_allclose(fusion(a, b).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_context_gate_lies_between_its_branches() -> None:
    torch.manual_seed(0)
    gate = ContextGate(6, 3)
    a, b, context = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3)
    both = torch.cat([a, b, context], dim=1).numpy()
    g = scipy.special.expit(both @ gate.gate.weight.detach().numpy().T + gate.gate.bias.detach().numpy())
    expected = g * a.numpy() + (1 - g) * b.numpy()
    np.testing.assert_allclose(gate(a, b, context).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(gate(a, b, context), gate(a, b, -context))
    with torch.no_grad():
        gate.gate.bias.fill_(50.0)
    torch.testing.assert_close(gate(a, b, context), a)


def test_mlp_widths() -> None:
    tower = MLP(5, (7, 3), dropout=0.5)
    assert tower.outputs == 3
    assert tower(torch.randn(2, 4, 5)).shape == (2, 4, 3)
    assert MLP(5, ()).outputs == 5
