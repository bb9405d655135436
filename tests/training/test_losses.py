from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional as F

from ctrkit.training.losses import (
    average,
    class_balanced_weights,
    distillation_losses,
    dr_risk,
    entire_space,
    given_previous,
    ips_risk,
    pointwise_loss,
    propensities,
    reached,
    task_losses,
    tri_bce,
)

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture
def rows() -> Rows:
    """Logits, labels and weights of 200 rows and two tasks."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    click = (torch.rand(200, generator=generator) < 0.4).double()
    conversion = click * (torch.rand(200, generator=generator) < 0.5).double()
    return logits, torch.stack([click, conversion], dim=1), torch.rand(200, generator=generator).double()


def two_classes(logits: torch.Tensor) -> torch.Tensor:
    """Logits `[B] -> [B, 2]` of the same probability for a softmax."""
    return torch.stack([torch.zeros_like(logits), logits], dim=1)


def test_task_losses_are_scikit_learns_log_loss_over_the_entire_space(rows: Rows) -> None:
    logits, labels, weight = rows
    click, given_click = torch.sigmoid(logits).unbind(1)
    found = task_losses(logits, labels, weight)
    for index, p in enumerate((click, click * given_click)):
        expected = log_loss(labels[:, index], p, sample_weight=weight)
        assert found[index].item() == pytest.approx(expected, rel=1e-12)


def test_a_conversion_is_not_learnt_from_clicked_rows_alone(rows: Rows) -> None:
    logits, labels, weight = rows
    leaf = logits.clone().requires_grad_()
    task_losses(leaf, labels, weight)[1].backward()
    assert leaf.grad is not None
    # The entire-space loss of conversions moves the click logit as well, on rows without a click too.
    assert (leaf.grad[labels[:, 0] == 0] != 0).all()


def test_losses_of_clicked_rows_add_up_to_the_likelihood_of_the_funnel(rows: Rows) -> None:
    logits, labels, _ = rows
    click, conversion = torch.sigmoid(logits).unbind(1)
    # A row ends as no click, a click without a conversion, or a conversion.
    outcomes = torch.stack([1 - click, click * (1 - conversion), click * conversion], dim=1)
    likelihood = F.nll_loss(outcomes.log(), labels.sum(dim=1).long(), reduction="none")
    losses = pointwise_loss(given_previous(logits), labels) * reached(labels)
    torch.testing.assert_close(losses.sum(dim=1), likelihood)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_extreme_logits_keep_losses_and_gradients_finite(extreme: float, gamma: float) -> None:
    logits = torch.full((4, 2), extreme, requires_grad=True)
    labels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    loss = pointwise_loss(entire_space(logits), labels, focal_gamma=gamma, label_smoothing=0.1).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_focal_loss_is_the_papers_formula_on_probabilities(rows: Rows) -> None:
    logits, labels, _ = rows
    p = torch.sigmoid(logits).cumprod(dim=1)
    correct = torch.where(labels == 1, p, 1 - p)
    balance = torch.where(labels == 1, 0.25, 0.75)
    class_weights = torch.tensor([[0.75, 0.75], [0.25, 0.25]], dtype=torch.float64)
    found = pointwise_loss(entire_space(logits), labels, focal_gamma=2.0, class_weights=class_weights)
    torch.testing.assert_close(found, -balance * (1 - correct) ** 2 * correct.log())


@pytest.mark.parametrize(("smoothing", "negative", "positive"), [(0.2, 1.0, 1.0), (0.0, 0.3, 1.7)])
def test_smoothing_and_class_weights_are_those_of_torchs_cross_entropy(
    rows: Rows, smoothing: float, negative: float, positive: float
) -> None:
    logits, labels, _ = rows
    class_weights = torch.tensor([[negative], [positive]], dtype=torch.float64)
    found = pointwise_loss(
        given_previous(logits[:, :1]), labels[:, :1], label_smoothing=smoothing, class_weights=class_weights
    )
    expected = F.cross_entropy(
        two_classes(logits[:, 0]),
        labels[:, 0].long(),
        class_weights[:, 0],
        label_smoothing=smoothing,
        reduction="none",
    )
    torch.testing.assert_close(found[:, 0], expected)


def test_classes_are_weighted_by_the_inverse_of_their_effective_number() -> None:
    counts, beta = (900, 25), 0.99
    # The effective number as the paper derives it: E_n = 1 + β E_(n-1).
    effective = []
    for count in counts:
        number = 0.0
        for _ in range(count):
            number = 1.0 + beta * number
        effective.append(number)
    expected = np.divide(1.0, effective)
    np.testing.assert_allclose(class_balanced_weights(counts, beta), expected / expected.mean(), rtol=1e-9)
    assert class_balanced_weights(counts, 0.0) == [1.0, 1.0]
    by_frequency = np.divide(1.0, counts)
    np.testing.assert_allclose(
        class_balanced_weights(counts, 1.0 - 1e-12), by_frequency / by_frequency.mean(), rtol=1e-6
    )
    assert np.isfinite(class_balanced_weights((10, 0), 0.9)).all()


def every_click_pattern(propensity: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
    """All ways in which rows can be clicked, `[B, 1]` each, with their probabilities."""
    patterns = []
    for pattern in product((0.0, 1.0), repeat=len(propensity)):
        clicked = torch.tensor(pattern, dtype=torch.float64)
        chance = torch.where(clicked == 1, propensity, 1 - propensity).prod().item()
        patterns.append((clicked[:, None], chance))
    return patterns


LOSSES = torch.tensor([[0.1], [2.0], [0.7], [0.4]], dtype=torch.float64)
PROPENSITY = torch.tensor([[0.05], [0.5], [0.9], [0.2]], dtype=torch.float64)
WEIGHT = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)


def test_ips_risk_is_unbiased_under_the_true_propensity() -> None:
    patterns = every_click_pattern(PROPENSITY[:, 0])
    found = sum(chance * ips_risk(LOSSES, o, PROPENSITY, WEIGHT).item() for o, chance in patterns)
    assert found == pytest.approx(average(LOSSES, WEIGHT).item(), rel=1e-12)
    # The mean over clicked rows, which this replaces, is not.
    clicked = [(o, chance) for o, chance in patterns if o.any()]
    naive = sum(chance * average(LOSSES, WEIGHT * o[:, 0]).item() for o, chance in clicked)
    assert naive / sum(chance for _, chance in clicked) > 1.05 * found


@pytest.mark.parametrize("right", ["propensity", "imputation"])
def test_dr_risk_is_unbiased_where_propensity_or_imputation_is_right(right: str) -> None:
    propensity = PROPENSITY if right == "propensity" else PROPENSITY.flip(0)
    imputed = LOSSES if right == "imputation" else LOSSES.flip(0)
    found = 0.0
    for clicked, chance in every_click_pattern(PROPENSITY[:, 0]):
        own = average(clicked * (LOSSES - imputed) ** 2 / propensity, WEIGHT)  # the imputation's own loss
        found += chance * (dr_risk(LOSSES, imputed, clicked, propensity, WEIGHT) - own).item()
    assert found == pytest.approx(average(LOSSES, WEIGHT).item(), rel=1e-12)


def test_dr_risk_teaches_the_conversion_as_ips_does_and_the_imputation_by_its_error() -> None:
    clicked = torch.tensor([[1.0], [0.0], [1.0], [1.0]], dtype=torch.float64)
    losses, imputed = LOSSES.clone().requires_grad_(), LOSSES.flip(0).requires_grad_()
    dr_risk(losses, imputed, clicked, PROPENSITY, WEIGHT).backward()
    found = losses.grad
    losses = LOSSES.clone().requires_grad_()
    ips_risk(losses, clicked, PROPENSITY, WEIGHT).backward()
    torch.testing.assert_close(found, losses.grad)
    share = WEIGHT[:, None] / WEIGHT.sum()
    error = LOSSES.flip(0) - LOSSES
    expected = share * (1 - clicked / PROPENSITY + 2 * clicked * error / PROPENSITY)
    torch.testing.assert_close(imputed.grad, expected)


def test_propensities_are_products_of_the_funnel_without_gradient_and_above_their_floor() -> None:
    logits = torch.tensor([[0.0, 0.0, 3.0], [-9.0, 2.0, 1.0]], requires_grad=True)
    found = propensities(logits, floor=0.01)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.25], [0.01, 0.01]]))
    assert not found.requires_grad


def test_tri_bce_and_its_gradients_are_as_worked_out_by_hand() -> None:
    values = {"main": 0.3, "deep": 0.5, "shallow": 0.2}
    for detach, expected in ((False, (1 - 0.5, 2 * 0.5 - 0.3, 0.0)), (True, (1.0, 0.5 - 0.3, 0.0))):
        leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
        loss = tri_bce(**leaves, detach=detach)
        assert loss.item() == pytest.approx(0.3 + (0.5 - 0.3) * 0.5)
        loss.backward()
        found = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves.values()]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_has_the_gradient_of_the_divergence_from_the_teacher(
    rows: Rows, temperature: float
) -> None:
    logits, _, weight = rows
    teacher = logits.flip(0)
    student = logits.clone().requires_grad_()
    distillation_losses(student, teacher, weight, temperature).sum().backward()
    expected = torch.zeros_like(logits)
    for task in range(2):
        leaf = logits[:, task].clone().requires_grad_()
        divergence = F.kl_div(
            two_classes(leaf / temperature).log_softmax(dim=1),
            two_classes(teacher[:, task] / temperature).log_softmax(dim=1),
            reduction="none",
            log_target=True,
        ).sum(dim=1)
        (temperature**2 * (weight * divergence).sum() / weight.sum()).backward()
        assert leaf.grad is not None
        expected[:, task] = leaf.grad
    torch.testing.assert_close(student.grad, expected)


def test_distillation_at_a_high_temperature_matches_logits(rows: Rows) -> None:
    logits, _, weight = rows
    student = logits.clone().requires_grad_()
    distillation_losses(student, logits.flip(0), weight, 1e3).sum().backward()
    share = weight[:, None] / weight.sum()
    torch.testing.assert_close(student.grad, share * (logits - logits.flip(0)) / 4, rtol=1e-4, atol=1e-8)


def test_a_loss_is_the_mean_over_rows_by_weight() -> None:
    losses, weight = torch.rand(5, 2), torch.tensor([1.0, 2.0, 0.0, 1.0, 3.0])
    repeated = losses.repeat_interleave(weight.long(), dim=0)
    torch.testing.assert_close(average(losses, weight), repeated.mean(dim=0))
