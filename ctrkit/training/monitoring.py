"""The quality of weights on the validation rows, as numbers that choose the best weights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ctrkit.training.losses import reached, task_losses

_STEPS = 30


def calibrated_losses(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """`task_losses` after Platt scaling on the same rows, `[T]`.

    Focal loss, label smoothing, class weights and ranking losses move probabilities away from rates on
    purpose. Log loss would then measure this shift and not what was learned. Each task's logit z becomes
    a + b z, with b at least 0, which minimises log loss on the rows where the task can happen.

    Platt, "Probabilistic outputs for support vector machines", 1999, with his targets, so that a and b stay
    finite where the classes are separable.

    Args:
        logits: float64 `[B, T]`, each task given the task before it.
        labels: float64 `[B, T]`.
        weight: float64 `[B]`, or `[B, T]` for each task.
    """
    counts = reached(labels) * (weight if weight.ndim == 2 else weight[:, None])
    lines = [_line(z, y, of) for z, y, of in zip(logits.T, labels.T, counts.T, strict=True)]
    a, b = torch.stack(lines).unbind(dim=1)
    return task_losses(a + b * logits, labels, weight)


def _line(z: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """a and b, `[2]`, by Newton's method; (0, 1) where no row has a weight."""
    total, positive = weight.sum(), weight @ y
    if total == 0:
        return z.new_tensor([0.0, 1.0])
    centre, scale = z.mean(), z.std(correction=0).clamp(min=1e-12)
    target = torch.where(y == 1, (positive + 1) / (positive + 2), 1 / (total - positive + 2))
    x = torch.stack([torch.ones_like(z), (z - centre) / scale], dim=1)
    base = (weight @ target) / total
    found, value = torch.stack([torch.logit(base), base.new_zeros(())]), torch.inf
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ found)
        gradient = x.T @ (weight * (p - target))
        curvature = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-9 * total * torch.eye(2, dtype=z.dtype)
        step, size = torch.linalg.solve(curvature, gradient), 1.0
        now = _loss(x @ found, target, weight)
        while size > 1e-6 and _loss(x @ (found - size * step), target, weight) > now:
            size /= 2
        found = found - size * step
        if value - now < 1e-12 * total:
            break
        value = now
    slope = found[1] / scale
    if slope < 0:  # logits that rank in the wrong order are worth no more than the base rate
        return torch.stack([torch.logit(base), base.new_zeros(())])
    return torch.stack([found[0] - slope * centre, slope])


def _loss(z: Tensor, target: Tensor, weight: Tensor) -> float:
    return float(weight @ F.binary_cross_entropy_with_logits(z, target, reduction="none"))
