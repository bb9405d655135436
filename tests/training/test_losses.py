from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from ctrkit.models.base import Output
from ctrkit.training.losses import task_losses, training_loss, tri_bce


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    click = (torch.rand(200, generator=generator) < 0.4).double()
    conversion = click * (torch.rand(200, generator=generator) < 0.5).double()
    return logits, torch.stack([click, conversion], dim=1), torch.rand(200, generator=generator).double()


def test_task_losses_are_scikit_learns_log_loss_over_the_entire_space(
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    logits, labels, weight = rows
    click, given_click = torch.sigmoid(logits).unbind(1)
    found = task_losses(logits, labels, weight)
    for index, p in enumerate((click, click * given_click)):
        expected = log_loss(labels[:, index], p, sample_weight=weight)
        assert found[index].item() == pytest.approx(expected, rel=1e-12)


def test_a_conversion_is_not_learnt_from_clicked_rows_alone(
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    logits, labels, weight = rows
    leaf = logits.clone().requires_grad_()
    task_losses(leaf, labels, weight)[1].backward()
    assert leaf.grad is not None
    # The entire-space loss of conversions moves the click logit as well, on rows without a click too.
    assert (leaf.grad[labels[:, 0] == 0] != 0).all()


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_extreme_logits_keep_losses_and_gradients_finite(extreme: float) -> None:
    logits = torch.full((4, 2), extreme, requires_grad=True)
    labels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    loss = task_losses(logits, labels, torch.ones(4)).sum()
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_tri_bce_and_its_gradients_are_as_worked_out_by_hand() -> None:
    values = {"main": 0.3, "deep": 0.5, "shallow": 0.2}
    for detach, expected in ((False, (1 - 0.5, 2 * 0.5 - 0.3, 0.0)), (True, (1.0, 0.5 - 0.3, 0.0))):
        leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
        loss = tri_bce(**leaves, detach=detach)
        assert loss.item() == pytest.approx(0.3 + (0.5 - 0.3) * 0.5)
        loss.backward()
        found = [0.0 if leaf.grad is None else leaf.grad.item() for leaf in leaves.values()]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_branches_count_only_where_a_model_has_them(
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    logits, labels, weight = rows
    plain = training_loss(Output(logits, logits), labels, weight)
    assert plain.item() == pytest.approx(task_losses(logits, labels, weight).sum().item())
    # Branches that are no worse than the whole add nothing; worse ones do.
    same = Output(logits, logits, {"deep": logits[:, 0], "shallow": logits[:, 0]})
    assert training_loss(same, labels, weight).item() == pytest.approx(plain.item())
    worse = Output(logits, logits, {"deep": -logits[:, 0], "shallow": logits[:, 0]})
    main = task_losses(logits, labels, weight)[0].item()
    deep = task_losses(-logits, labels, weight)[0].item()
    added = max(deep - main, 0.0) * deep
    assert training_loss(worse, labels, weight).item() == pytest.approx(plain.item() + added)
