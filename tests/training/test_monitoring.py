"""Log loss after the best line through the logits, beside scikit-learn's and where it must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ctrkit.training.loop import TrainingConfig
from ctrkit.training.losses import task_losses
from ctrkit.training.monitoring import calibrated_losses
from ctrkit.training.objectives import LossConfig


def rows(n: int = 2000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 2, generator=generator, dtype=torch.float64) - 1.0
    happened = torch.rand(n, 2, generator=generator, dtype=torch.float64) < torch.sigmoid(2.0 * logits + 0.5)
    labels = happened.double().cumprod(dim=1)
    return logits, labels, torch.rand(n, generator=generator, dtype=torch.float64)


def test_it_is_the_loss_after_platt_scaling_of_each_task() -> None:
    logits, labels, weight = rows()
    scaled = []
    for task in range(2):
        here = labels[:, 0] == 1 if task else torch.ones(len(labels), dtype=torch.bool)
        z, y, w = (values[here].numpy() for values in (logits[:, task], labels[:, task], weight))
        positive, negative = w @ y, w @ (1 - y)
        high, low = (positive + 1) / (positive + 2), 1 / (negative + 2)
        target = np.where(y == 1, high, low)
        # A row with a target t counts as t positive and 1 - t negative rows.
        fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(
            np.tile(z, 2)[:, None], np.repeat([1, 0], z.size), np.concatenate([w * target, w * (1 - target)])
        )
        scaled.append(fitted.intercept_[0] + fitted.coef_[0, 0] * logits[:, task])
    expected = task_losses(torch.stack(scaled, dim=1), labels, weight)
    torch.testing.assert_close(calibrated_losses(logits, labels, weight), expected, rtol=1e-6, atol=0)


def test_scale_and_shift_of_logits_do_not_matter_and_their_order_does() -> None:
    logits, labels, weight = rows()
    found = calibrated_losses(logits, labels, weight)
    torch.testing.assert_close(calibrated_losses(0.01 * logits - 7.0, labels, weight), found)
    torch.testing.assert_close(calibrated_losses(50.0 * logits + 9.0, labels, weight), found)
    assert (found < task_losses(logits, labels, weight)).all()
    assert calibrated_losses(-logits, labels, weight)[0] > found[0]
    noise = calibrated_losses(torch.zeros_like(logits), labels, weight)
    torch.testing.assert_close(calibrated_losses(-logits, labels, weight), noise, rtol=1e-3, atol=0)


def test_a_row_of_weight_c_is_c_rows() -> None:
    logits, labels, _ = rows(300)
    counts = torch.arange(300) % 4
    repeated = [values.repeat_interleave(counts, dim=0) for values in (logits, labels)]
    torch.testing.assert_close(
        calibrated_losses(logits, labels, counts.double()),
        calibrated_losses(*repeated, torch.ones(int(counts.sum()), dtype=torch.float64)),
    )


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_and_classes_apart_are_finite(label: float) -> None:
    logits, labels, weight = rows(50)
    assert calibrated_losses(logits, torch.full_like(labels, label), weight).isfinite().all()
    apart = (logits > 0).double().cumprod(dim=1)
    assert calibrated_losses(1e4 * logits, apart, weight).isfinite().all()


@pytest.mark.parametrize(
    ("loss", "monitor"),
    [
        ({}, "log_loss"),
        ({"conversion": {"name": "clicked"}}, "log_loss"),
        ({"ranking": {"name": "regression_compatible"}}, "log_loss"),
        ({"distillation": {"teacher": "t.pt"}}, "log_loss"),
        ({"focal_gamma": 2.0}, "calibrated_log_loss"),
        ({"focal_alpha": 0.25}, "calibrated_log_loss"),
        ({"class_balanced_beta": 0.99}, "calibrated_log_loss"),
        ({"label_smoothing": 0.1}, "calibrated_log_loss"),
        ({"ranking": {"name": "bpr"}}, "calibrated_log_loss"),
        ({"distillation": {"teacher": "t.pt", "temperature": 3.0}}, "calibrated_log_loss"),
    ],
)
def test_the_monitor_follows_the_loss_unless_told(loss: dict[str, object], monitor: str) -> None:
    chosen = LossConfig.model_validate(loss)
    assert TrainingConfig(loss=chosen).chosen_by == monitor
    assert TrainingConfig(loss=chosen, monitor="auc").chosen_by == "auc"
