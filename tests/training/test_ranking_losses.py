from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import log, prod

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from ctrkit.training.ranking_losses import bpr_loss, regression_compatible_loss

Loss = Callable[..., torch.Tensor]


@pytest.fixture
def rows() -> dict[str, torch.Tensor]:
    """20 rows in 4 groups, one of which has no click."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.tensor([3, 7, 5, 9]).repeat(5)
    labels = (torch.rand(20, generator=generator) < 0.5).double() * (groups != 9)
    return {
        "logits": torch.randn(20, generator=generator, dtype=torch.float64),
        "labels": labels,
        "weight": torch.randint(1, 4, (20,), generator=generator).double(),
        "groups": groups,
    }


@pytest.mark.parametrize("grouped", [True, False])
def test_bpr_is_the_mean_over_pairs_one_by_one(rows: dict[str, torch.Tensor], grouped: bool) -> None:
    z, y, w, g = (rows[name].tolist() for name in ("logits", "labels", "weight", "groups"))
    total, pairs = 0.0, 0.0
    for i, j in product(range(20), repeat=2):
        if y[i] == 1 and y[j] == 0 and (not grouped or g[i] == g[j]):
            total -= w[i] * w[j] * log(expit(z[i] - z[j]))
            pairs += w[i] * w[j]
    found = bpr_loss(rows["logits"], rows["labels"], rows["weight"], rows["groups"] if grouped else None)
    assert found.item() == pytest.approx(total / pairs, rel=1e-12)


@pytest.mark.parametrize("grouped", [True, False])
def test_shares_are_those_of_the_group_one_by_one(rows: dict[str, torch.Tensor], grouped: bool) -> None:
    z, y, w, g = (rows[name].tolist() for name in ("logits", "labels", "weight", "groups"))
    total = 0.0
    for i in range(20):
        rivals = [j for j in range(20) if not grouped or g[i] == g[j]]
        total -= w[i] * y[i] * log(expit(z[i]) / sum(w[j] * expit(z[j]) for j in rivals))
    found = regression_compatible_loss(
        rows["logits"], rows["labels"], rows["weight"], rows["groups"] if grouped else None
    )
    assert found.item() == pytest.approx(total / sum(w), rel=1e-12)


@pytest.mark.parametrize("loss", [bpr_loss, regression_compatible_loss])
def test_a_row_of_weight_two_counts_as_two_rows(rows: dict[str, torch.Tensor], loss: Loss) -> None:
    times = rows["weight"].long()
    repeated = {name: values.repeat_interleave(times) for name, values in rows.items()}
    found = loss(**repeated | {"weight": torch.ones(int(times.sum()), dtype=torch.float64)})
    torch.testing.assert_close(found, loss(**rows))


def test_bpr_knows_only_differences_within_groups(rows: dict[str, torch.Tensor]) -> None:
    shifted = rows["logits"] + 10.0 * rows["groups"]
    torch.testing.assert_close(bpr_loss(**rows), bpr_loss(**rows | {"logits": shifted}))


def test_regression_compatible_ranking_is_least_where_log_loss_is() -> None:
    """The expected gradient over all labels vanishes at the true probabilities; a softmax's does not."""
    p = np.array([0.1, 0.6, 0.3])
    groups, weight = torch.tensor([0, 0, 0]), torch.ones(3, dtype=torch.float64)
    compatible, softmax = np.zeros(3), np.zeros(3)
    for labels in product((0.0, 1.0), repeat=3):
        chance = prod(q if y else 1 - q for y, q in zip(labels, p, strict=True))
        y = torch.tensor(labels, dtype=torch.float64)
        for gradient, loss in (
            (compatible, lambda z, y=y: regression_compatible_loss(z, y, weight, groups)),
            (softmax, lambda z, y=y: -(y * z.log_softmax(dim=0)).sum() / 3),
        ):
            z = torch.tensor(logit(p), requires_grad=True)
            loss(z).backward()
            gradient += chance * z.grad.numpy()
    np.testing.assert_allclose(compatible, 0.0, atol=1e-12)
    assert np.abs(softmax).max() > 0.01


@pytest.mark.parametrize("loss", [bpr_loss, regression_compatible_loss])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_without_rivals_and_extreme_logits_give_finite_gradients(loss: Loss, label: float) -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0], requires_grad=True)
    found = loss(logits, torch.full((3,), label), torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0, 1, 2]))
    found.backward()
    assert found.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    if loss is bpr_loss or label == 0.0:
        assert found.item() == 0.0
