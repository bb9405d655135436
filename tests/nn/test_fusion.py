from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch

from ctrkit.nn.fusion import (
    OPERATIONS,
    ContextGate,
    DerivedFusion,
    FusionOperations,
    FusionSearch,
    SoftFusion,
)


def by_hand(operations: FusionOperations, branches: torch.Tensor) -> dict[str, np.ndarray]:
    """The four operations as their definitions read."""
    parameters = {name: value.detach().numpy() for name, value in operations.named_parameters()}
    x = branches.detach().numpy()
    width = x.shape[2]
    attended = np.zeros_like(x[:, 0])
    for i in range(x.shape[1]):
        weight, bias = (parameters[f"attention.{i}.{kind}"] for kind in ("weight", "bias"))
        attended += width * scipy.special.softmax(x[:, i] @ weight.T + bias, axis=1) * x[:, i]
    flat = x.reshape(len(x), -1)
    return {
        "add": x.sum(axis=1),
        "product": x.prod(axis=1),
        "concatenation": flat @ parameters["concatenation.weight"].T + parameters["concatenation.bias"],
        "attention": attended,
    }


@pytest.mark.parametrize("n", [2, 3])
def test_operations_are_what_they_are_called(n: int) -> None:
    torch.manual_seed(0)
    operations, branches = FusionOperations(n, 6), torch.randn(3, n, 6)
    results = operations(branches).detach().numpy()
    for position, expected in enumerate(by_hand(operations, branches).values()):
        np.testing.assert_allclose(results[:, position], expected, rtol=1e-4, atol=1e-6)


def test_a_closed_gate_leaves_its_branch_out() -> None:
    torch.manual_seed(0)
    operations, branches = FusionOperations(3, 6), torch.randn(3, 3, 6)
    gated = operations(branches, torch.tensor([1.0, 0.0, 1.0])).detach()
    kept = branches[:, [0, 2]]
    torch.testing.assert_close(gated[:, 0], kept.sum(dim=1))
    torch.testing.assert_close(gated[:, 1], kept.prod(dim=1))  # skipped, not zeroed
    other = branches.clone()
    other[:, 1] = torch.randn(3, 6)
    torch.testing.assert_close(operations(other, torch.tensor([1.0, 0.0, 1.0])).detach(), gated)


def test_soft_fusion_mixes_the_operations() -> None:
    torch.manual_seed(0)
    fusion, branches = SoftFusion(2, 6), torch.randn(3, 2, 6)
    assert fusion.weights() == dict.fromkeys(OPERATIONS, 0.25)
    with torch.no_grad():
        fusion.mixture.copy_(torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])))
    values = by_hand(fusion.operations, branches).values()
    expected = sum(share * value for share, value in zip((0.1, 0.2, 0.3, 0.4), values, strict=True))
    np.testing.assert_allclose(fusion(branches).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_derived_fusion_is_one_operation() -> None:
    torch.manual_seed(0)
    branches = torch.randn(4, 3, 6)
    torch.testing.assert_close(DerivedFusion(3, 6, "product")(branches), branches.prod(dim=1))
    assert not list(DerivedFusion(3, 6, "add").parameters())


def test_search_finds_the_branches_and_the_operation_of_a_known_target() -> None:
    """The target is the product of the first and the third branch; the second is noise."""
    torch.manual_seed(0)
    search = FusionSearch(3, 4)
    optimizer = torch.optim.Adam(search.parameters(), lr=1e-3)
    for _ in range(400):
        branches = torch.randn(256, 3, 4)
        loss = (search(branches) - branches[:, 0] * branches[:, 2]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert search.found() == ([0, 2], "product")


def test_the_search_never_closes_all_branches() -> None:
    search = FusionSearch(3, 4)
    with torch.no_grad():
        search.alpha.copy_(torch.tensor([-3.0, -1.0, -2.0]))
    assert search.found()[0] == [1]
    branches = torch.randn(5, 3, 4)
    with torch.no_grad():
        search.beta.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(search(branches), branches[:, 1])


def test_context_gate_lies_between_its_branches() -> None:
    torch.manual_seed(0)
    gate = ContextGate(6, 3)
    a, b, context = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3)
    branches = torch.stack([a, b], dim=1)
    both = torch.cat([a, b, context], dim=1).numpy()
    g = scipy.special.expit(both @ gate.gate.weight.detach().numpy().T + gate.gate.bias.detach().numpy())
    expected = g * a.numpy() + (1 - g) * b.numpy()
    np.testing.assert_allclose(gate(branches, context).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(gate(branches, context), gate(branches, -context))
    with torch.no_grad():
        gate.gate.bias.fill_(50.0)
    torch.testing.assert_close(gate(branches, context), a)
