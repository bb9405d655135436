"""Losses of rows and of tasks, each a formula of its own; `ctrkit.training.objectives` puts them together.

Rows are scored in the entire space, where p(conversion) = p(click) · p(conversion | click) over all
impressions, or given the task before, where only clicked rows tell of conversions. Both are pairs
`log p, log(1 - p)`: products are sums of logarithms, and no logit is too large for a finite gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ctrkit.models.base import funnel_log_complements, funnel_log_probabilities

# log p and log(1 - p), both [B, T].
LogProbabilities: TypeAlias = tuple[Tensor, Tensor]


def entire_space(logits: Tensor) -> LogProbabilities:
    """Of each task at an impression, from logits `[B, T]` given the task before."""
    return funnel_log_probabilities(logits), funnel_log_complements(logits)


def given_previous(logits: Tensor) -> LogProbabilities:
    """Of each task given the task before, from logits `[B, T]`."""
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def reached(labels: Tensor) -> Tensor:
    """1 where a task can happen, because the one before it did: labels `[B, T] -> [B, T]`."""
    return torch.cat([torch.ones_like(labels[:, :1]), labels[:, :-1]], dim=1)


def average(losses: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the rows: `[B, T], [B] -> [T]`."""
    return (losses * weight[:, None]).sum(dim=0) / weight.sum()


def pointwise_loss(
    log_probabilities: LogProbabilities,
    labels: Tensor,
    *,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss of each row and task, `[B, T]`: with the defaults, log loss.

        y' = (1 - ε) y + ε/2
        loss = - w₁ y' (1 - p)^γ log p  -  w₀ (1 - y') p^γ log(1 - p)

    γ is focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017); ε is label smoothing
    (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016) over two classes. Whichever is not
    at its default, the minimum is no longer at the true probability: calibrate after training.

    Args:
        log_probabilities: in the space that the labels are of.
        labels: `[B, T]`.
        class_weights: w₀ and w₁ of each task, `[2, T]`.
    """
    log_p, log_q = log_probabilities
    if label_smoothing:
        labels = (1.0 - label_smoothing) * labels + label_smoothing / 2.0
    happened, missed = labels * log_p, (1.0 - labels) * log_q
    if focal_gamma:
        # As exponentials of logarithms, powers below 1 have a finite gradient at p = 0 too.
        happened, missed = happened * (focal_gamma * log_q).exp(), missed * (focal_gamma * log_p).exp()
    if class_weights is not None:
        happened, missed = happened * class_weights[1], missed * class_weights[0]
    return -(happened + missed)


def task_losses(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Entire-space log loss of each task, `[T]`.

    Ma et al., "Entire Space Multi-Task Model" (ESMM), SIGIR 2018, arXiv 1804.07931: every task is fitted
    over all impressions, so that the conversion head, which has no loss of its own, is free of the
    selection by clicks.

    Args:
        logits: `[B, T]`, each given the task before it.
        labels: `[B, T]`.
        weight: `[B]`.
    """
    return average(pointwise_loss(entire_space(logits), labels), weight)


def class_balanced_weights(counts: Sequence[float], beta: float) -> list[float]:
    """Weights of classes by their effective number of examples, normalised to a mean of 1.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019: a class of n examples
    counts as (1 - βⁿ) / (1 - β) of them, and is weighted by the inverse. β = 0 weights all classes alike, and
    β towards 1 by inverse frequency.

    Args:
        counts: examples of each class; a class without any counts as one example.
    """
    numbers = torch.tensor(counts, dtype=torch.float64).clamp(min=1.0)
    if beta == 0.0:
        return [1.0] * len(counts)
    # 1 - βⁿ without cancellation where β is close to 1.
    inverse = (1.0 - beta) / -torch.expm1(numbers * torch.tensor(beta, dtype=torch.float64).log())
    weights: list[float] = (inverse / inverse.mean()).tolist()
    return weights


def propensities(logits: Tensor, floor: float) -> Tensor:
    """Probability that each task but the first is reached, `[B, T] -> [B, T - 1]`: constants to autograd, and
    nowhere below `floor`, so that no row weighs more than 1 / floor."""
    return funnel_log_probabilities(logits.detach())[:, :-1].exp().clamp(min=floor)


def ips_risk(losses: Tensor, clicked: Tensor, propensity: Tensor, weight: Tensor) -> Tensor:
    """Counterfactual risk of ESCM²-IPS (Wang et al., SIGIR 2022, arXiv 2204.05125), one a task.

        R = 1/n Σ o δ / ô

    over all n impressions. With the true propensity it is, in expectation over clicks, the risk that
    all rows would have, had all been clicked.

    Args:
        losses: δ, of the task given the one before, `[B, K]`; read where it was reached.
        clicked: o, whether the task was reached.
        propensity: ô, both `[B, K]`.
    """
    return average(clicked * losses / propensity, weight)


def dr_risk(losses: Tensor, imputed: Tensor, clicked: Tensor, propensity: Tensor, weight: Tensor) -> Tensor:
    """Doubly robust counterfactual risk of ESCM²-DR (Wang et al., SIGIR 2022, arXiv 2204.05125), one a task,
    with the loss of the imputation that it needs.

        R = 1/n Σ [ δ̂ + o (δ - δ̂) / ô ]  +  1/n Σ o (δ - δ̂)² / ô

    The first term is unbiased where either ô or δ̂ is right. The second teaches δ̂ and nothing else: δ is a
    constant in it, because a gradient into δ would weight a clicked row by 1 + 2 (δ - δ̂), and rare
    conversions many times more than they count.

    As δ̂ is an output of its own, the gradient of the first term with respect to δ is that of `ips_risk`:
    what DR adds reaches the model through the layers that the imputation shares with the tasks.

    Args:
        imputed: δ̂, predicted loss, `[B, K]`; the rest as in `ips_risk`.
    """
    inverse = clicked / propensity
    risk = imputed + inverse * (losses - imputed)
    return average(risk + inverse * (losses.detach() - imputed).square(), weight)


def tri_bce(main: Tensor, deep: Tensor, shallow: Tensor, *, detach: bool = False) -> Tensor:
    """Tri-BCE of DCNv3 (Li et al. 2024, arXiv 2407.13349, eq. 9): L + w_D·L_D + w_S·L_S with
    w = max(0, L_branch − L).

    The published results let gradients flow through the weights; `detach` stops them, as the paper's text
    reads.

    Args:
        main, deep, shallow: losses of the fused output and of the two branches, scalars.
    """
    deep_weight = torch.relu(deep - main)
    shallow_weight = torch.relu(shallow - main)
    if detach:
        deep_weight, shallow_weight = deep_weight.detach(), shallow_weight.detach()
    return main + deep_weight * deep + shallow_weight * shallow


def distillation_losses(logits: Tensor, teacher: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each task with a teacher's softened probability, times temperature², `[T]`.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv 1503.02531, for two classes:
    both logits are divided by the temperature, and the square keeps the gradient's scale. Each task is
    matched given the one before it, on all rows: the teacher has an opinion on conversions of rows that were
    never clicked, which is what the log lacks.

    Args:
        logits, teacher: `[B, T]`, each given the task before it.
    """
    targets = torch.sigmoid(teacher / temperature)
    losses = F.binary_cross_entropy_with_logits(logits / temperature, targets, reduction="none")
    return temperature**2 * average(losses, weight)
