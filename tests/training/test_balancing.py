from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ctrkit.errors import ConfigError
from ctrkit.nn.embedding_tables import RowMatrix
from ctrkit.training.balancing import (
    FixedConfig,
    GradNorm,
    GradNormConfig,
    UncertaintyConfig,
    build_balancer,
    shared_parameters,
)

TASKS = ("click", "conversion")


class TwoLinearTasks(nn.Module):
    """Two tasks on one linear layer, or each on one of its own over shared embeddings."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, 4)
        self.bottom = nn.ModuleList(nn.Linear(4, 2) for _ in range(1 if shared else 2))
        self.heads = nn.ModuleList(nn.Linear(2, 1) for _ in TASKS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(x)
        bottoms = [bottom(embedded) for bottom in self.bottom] * (3 - len(self.bottom))
        return torch.cat([head(bottom) for head, bottom in zip(self.heads, bottoms, strict=False)], dim=1)


@pytest.fixture
def step() -> Callable[[nn.Module], tuple[torch.Tensor, torch.Tensor]]:
    """The squared errors of both tasks on fixed rows, `[2]`, and the logits."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 3, generator=generator)
    y = torch.randn(6, 2, generator=generator) * torch.tensor([1.0, 5.0])

    def losses(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(x)
        return (logits - y).square().mean(dim=0), logits

    torch.manual_seed(0)
    return losses


Step = Callable[[nn.Module], tuple[torch.Tensor, torch.Tensor]]


def test_fixed_weights_default_to_a_plain_sum() -> None:
    losses = torch.tensor([0.3, 0.02])
    assert build_balancer(FixedConfig(), TASKS)(losses).item() == pytest.approx(0.32)
    weighted = build_balancer(FixedConfig(weights={"conversion": 5.0}), TASKS)
    assert weighted(losses).item() == pytest.approx(0.3 + 5 * 0.02)


def test_log_variances_settle_where_the_papers_loss_is_least() -> None:
    losses = torch.tensor([0.3, 0.02])
    balancer = build_balancer(UncertaintyConfig(learning_rate=0.1), TASKS)
    assert balancer(losses).item() == pytest.approx(0.32)
    for _ in range(400):
        balancer(losses).backward()
        balancer.step()
    # d/ds exp(-s) L + s/2 = 0 at s = log 2L: for both losses below 0, which clamped variances never reach.
    torch.testing.assert_close(balancer.log_variance.detach(), (2 * losses).log(), atol=1e-3, rtol=0)
    weights = (-balancer.log_variance.detach()).exp()
    torch.testing.assert_close(weights * losses, torch.full((2,), 0.5), atol=1e-3, rtol=0)


def test_a_gradnorm_step_is_the_papers_algorithm(step: Step) -> None:
    model = TwoLinearTasks(shared=True)
    config = GradNormConfig(alpha=0.7, learning_rate=0.1)
    balancer = GradNorm(config, TASKS)
    start, logits = step(model)
    balancer.observe(start, logits, model)
    balancer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.8)
    before = balancer.weights.detach().clone()
    losses, logits = step(model)
    balancer.observe(losses, logits, model)

    # Algorithm 1, with the gradient of the weights through the norms of gradients.
    weights = before.clone().requires_grad_()
    own, _ = step(model)
    shared = list(model.bottom.parameters())
    norms = []
    for weight, loss in zip(weights, own, strict=True):
        gradients = torch.autograd.grad(weight * loss, shared, create_graph=True)
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    weighted = torch.stack(norms)
    ratios = own / start
    target = (weighted.mean() * (ratios / ratios.mean()) ** 0.7).detach()
    (expected,) = torch.autograd.grad((weighted - target).abs().sum(), weights)
    assert expected.abs().min() > 0
    torch.testing.assert_close(balancer.weights.grad, expected.detach())

    balancer.step()
    assert balancer.weights.sum().item() == pytest.approx(2.0)
    # The task whose gradient is too long loses weight.
    too_long = int(expected.argmax())
    assert balancer.weights[too_long] < before[too_long]


def test_gradnorm_with_alpha_zero_makes_gradients_equally_long(step: Step) -> None:
    model = TwoLinearTasks(shared=True)
    balancer = GradNorm(GradNormConfig(alpha=0.0, learning_rate=0.01), TASKS)
    for _ in range(500):
        losses, logits = step(model)
        balancer.observe(losses, logits, model)
        balancer.step()
    losses, _ = step(model)
    norms = []
    for weight, loss in zip(balancer.weights.detach(), losses, strict=True):
        gradients = torch.autograd.grad(weight * loss, list(model.bottom.parameters()), retain_graph=True)
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.05)
    assert balancer(losses).item() == pytest.approx((balancer.weights.detach() * losses).sum().item())


def test_what_is_shared_is_found_from_the_last_part_backwards(step: Step) -> None:
    for shared, expected in (
        (True, ["bottom.0.weight", "bottom.0.bias"]),
        (False, ["embedding.weight", "embedding.bias"]),
    ):
        model = TwoLinearTasks(shared=shared)
        _, logits = step(model)
        assert shared_parameters(model, logits) == expected


def test_tasks_that_share_nothing_are_named(step: Step) -> None:
    model = TwoLinearTasks(shared=False)
    model.embedding.requires_grad_(False)
    losses, logits = step(model)
    with pytest.raises(ConfigError, match="share no weights"):
        GradNorm(GradNormConfig(), TASKS).observe(losses, logits, model)


def test_sparse_gradients_of_shared_embeddings_are_measured_as_dense_ones() -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = TwoLinearTasks(shared=False)
        model.embedding = RowMatrix(9, 4, std=1.0)
        model.embedding.sparse = sparse
        ids = torch.tensor([1, 2, 2, 0, 8])
        logits = model(ids) + model(ids.flip(0))  # the gradients of two readings meet
        balancer = GradNorm(GradNormConfig(), TASKS)
        balancer.observe(logits.square().mean(dim=0), logits, model)
        assert balancer.shared == ["embedding.weight"]
        found.append(balancer.weights.grad)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("config", [UncertaintyConfig(), GradNormConfig()])
def test_a_balancer_goes_on_from_its_state(config: UncertaintyConfig | GradNormConfig, step: Step) -> None:
    model = TwoLinearTasks(shared=True)

    def run(balancer: nn.Module, steps: int) -> None:
        for _ in range(steps):
            losses, logits = step(model)
            balancer.observe(losses, logits, model)
            balancer(losses).backward()
            balancer.step()

    whole, first, second = (build_balancer(config, TASKS) for _ in range(3))
    run(whole, 5)
    run(first, 2)
    second.load_state_dict(first.state_dict())
    run(second, 3)
    for expected, found in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found)
        assert not torch.equal(expected, torch.ones(2))


def test_what_cannot_be_balanced_is_told() -> None:
    with pytest.raises(ConfigError, match=r"unknown task 'convesion'\. Did you mean 'conversion'"):
        build_balancer(FixedConfig(weights={"convesion": 2.0}), TASKS)
    for config in (UncertaintyConfig(), GradNormConfig()):
        with pytest.raises(ConfigError, match=f"'{config.name}', but 'click' is the only task"):
            build_balancer(config, ("click",))
