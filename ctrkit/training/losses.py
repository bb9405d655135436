"""Losses of rows and of tasks, one formula each. `ctrkit.training.objectives` combines them.

Probabilities are in the entire space, p(conversion) = p(click) · p(conversion | click) over all impressions,
or given the task before, where conversions are known of clicked rows only. Both are pairs
`log p, log(1 - p)`: products are sums of logarithms, and the gradient is finite for every logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ctrkit.models.base import funnel_log_complements, funnel_log_probabilities
from ctrkit.models.heads.towers import LEAST_DEVIATION

# log p and log(1 - p), both [B, T].
LogProbabilities: TypeAlias = tuple[Tensor, Tensor]


def entire_space(logits: Tensor) -> LogProbabilities:
    """Log-probabilities of each task at an impression, from logits `[B, T]` given the task before."""
    return funnel_log_probabilities(logits), funnel_log_complements(logits)


def given_previous(logits: Tensor) -> LogProbabilities:
    """Log-probabilities of each task given the task before, from logits `[B, T]`."""
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def reached(labels: Tensor) -> Tensor:
    """1 where a task can happen, because the task before it did: labels `[B, T] -> [B, T]`."""
    return torch.cat([torch.ones_like(labels[:, :1]), labels[:, :-1]], dim=1)


def known(labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and weights of which those that are not known count nowhere.

    Args:
        labels: `[B, T]`; NaN where a label is not known.
        weight: `[B]`.

    Returns:
        The labels, 0 where one is not known, and the weights: `[B]` as they were if all labels are known,
        otherwise those of each task, `[B, T]`.
    """
    unknown = labels.isnan()
    if not unknown.any():
        return labels, weight
    return labels.masked_fill(unknown, 0.0), weight[:, None] * ~unknown


def average(losses: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean over the rows: `[B, T], [B] or [B, T] -> [T]`; 0 without any weight."""
    of_tasks = weight if weight.ndim == 2 else weight[:, None]
    return (losses * of_tasks).sum(dim=0) / _total(weight)


def _total(weight: Tensor) -> Tensor:
    """The sum over the rows; not 0, so that it can divide sums of nothing."""
    return weight.sum(dim=0).clamp(min=torch.finfo(weight.dtype).tiny)


def pointwise_loss(
    log_probabilities: LogProbabilities,
    labels: Tensor,
    *,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss of each row and task, `[B, T]`. With the defaults it is log loss.

        y' = (1 - ε) y + ε/2
        loss = - w₁ y' (1 - p)^γ log p  -  w₀ (1 - y') p^γ log(1 - p)

    γ is focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017); ε is label smoothing
    (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016) over two classes. With either of
    them, or with class weights, the minimum is not at the true probability: calibrate after training.

    Args:
        log_probabilities: log-probabilities in the same space as the labels.
        labels: `[B, T]`; one above 1 counts for rows that are not known yet (`ctrkit.data.delays`).
        focal_gamma: γ; 0 for no focal loss.
        label_smoothing: ε; 0 for no smoothing.
        class_weights: w₀ and w₁ of each task, `[2, T]`; None for 1.
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
    over all impressions. The conversion head has no loss of its own, so clicks do not bias it by selection.

    Args:
        logits: `[B, T]`, each task given the task before it.
        labels: `[B, T]`.
        weight: `[B]`, or `[B, T]` for each task.
    """
    return average(pointwise_loss(entire_space(logits), labels), weight)


def value_loss(distribution: Tensor, value: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Negative log-likelihood of the values of rows whose last label is 1, a scalar.

    Wang, Liu and Miao, "A Deep Probabilistic Model for Customer Lifetime Value Prediction", 2019, arXiv
    1912.07753: cross-entropy of p(value > 0) plus, for a value v above 0, that of a log-normal,

        log σ + (log v - μ)² / 2σ²

    without the constants log v + ½ log 2π, and with the log of the smallest σ subtracted: so the loss does
    not depend on the unit of money and is never negative, which the balancing of tasks needs. The sum is
    divided by the weight of all rows, so that it adds up with the losses of the tasks to the log-likelihood
    of the funnel.

    Args:
        distribution: `[B, 3]`, as in `Output.value`.
        value: `[B]`, read where the last label is above 0.
        labels: `[B, T]`.
        weight: `[B]`, or `[B, T]` for each task.
    """
    weight = weight if weight.ndim == 1 else weight[:, -1]
    logit, mean, deviation = distribution.unbind(dim=1)
    above = value > 0
    logarithm = torch.where(above, value, 1.0).log()
    density = (deviation / LEAST_DEVIATION).log() + ((logarithm - mean) / deviation).square() / 2
    loss = torch.where(above, F.softplus(-logit) + density, F.softplus(logit))
    happened = labels[:, -1]
    return (torch.where(happened > 0, happened * loss, 0.0) * weight).sum() / _total(weight)


def class_balanced_weights(counts: Sequence[float], beta: float) -> list[float]:
    """Weights of classes by their effective number of examples, normalised to a mean of 1.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019: a class of n examples
    has the effective number (1 - βⁿ) / (1 - β), and its weight is the inverse. β = 0 gives all classes the
    same weight; β close to 1 gives inverse frequencies.

    Args:
        counts: number of examples of each class; a class without examples counts as one.
        beta: β.
    """
    numbers = torch.tensor(counts, dtype=torch.float64).clamp(min=1.0)
    if beta == 0.0:
        return [1.0] * len(counts)
    # 1 - βⁿ without cancellation where β is close to 1.
    inverse = (1.0 - beta) / -torch.expm1(numbers * torch.tensor(beta, dtype=torch.float64).log())
    weights: list[float] = (inverse / inverse.mean()).tolist()
    return weights


def propensities(logits: Tensor, floor: float) -> Tensor:
    """Probability that each task after the first is reached, `[B, T] -> [B, T - 1]`. It has no gradient, and
    is at least `floor`, so that no row has a weight above 1 / floor."""
    return funnel_log_probabilities(logits.detach())[:, :-1].exp().clamp(min=floor)


def ips_risk(losses: Tensor, clicked: Tensor, propensity: Tensor, weight: Tensor) -> Tensor:
    """Counterfactual risk of ESCM²-IPS (Wang et al., SIGIR 2022, arXiv 2204.05125), one for each task.

        R = 1/n Σ o δ / ô

    over all n impressions. With the true propensity its expectation over clicks is the risk as if all rows
    were clicked.

    Args:
        losses: δ, loss of the task given the task before, `[B, K]`; read where the task was reached.
        clicked: o, whether the task was reached, `[B, K]`.
        propensity: ô, `[B, K]`.
        weight: `[B]`.
    """
    return average(clicked * losses / propensity, weight)


def dr_risk(losses: Tensor, imputed: Tensor, clicked: Tensor, propensity: Tensor, weight: Tensor) -> Tensor:
    """Doubly robust counterfactual risk of ESCM²-DR (Wang et al., SIGIR 2022, arXiv 2204.05125), one for each
    task, with the loss of the imputation that it needs.

        R = 1/n Σ [ δ̂ + o (δ - δ̂) / ô ]  +  1/n Σ o (δ - δ̂)² / ô

    The first sum is unbiased where either ô or δ̂ is right. The second sum only teaches δ̂: δ is a constant in
    it, because a gradient into δ would give a clicked row the weight 1 + 2 (δ - δ̂), which is far too large
    for rare conversions.

    δ̂ is an output of its own, so the gradient of the first sum with respect to δ is that of `ips_risk`. DR
    affects the model through the layers that the imputation shares with the tasks.

    Args:
        losses: δ, as in `ips_risk`.
        imputed: δ̂, predicted loss, `[B, K]`.
        clicked: o, as in `ips_risk`.
        propensity: ô, as in `ips_risk`.
        weight: `[B]`.
    """
    inverse = clicked / propensity
    risk = imputed + inverse * (losses - imputed)
    return average(risk + inverse * (losses.detach() - imputed).square(), weight)


def tri_bce(main: Tensor, deep: Tensor, shallow: Tensor, *, detach: bool = False) -> Tensor:
    """Tri-BCE of DCNv3 (Li et al. 2024, arXiv 2407.13349, eq. 9): L + w_D·L_D + w_S·L_S with
    w = max(0, L_branch − L).

    In the published results gradients flow through the weights. `detach` stops them, as in the paper's text.

    Args:
        main: loss of the fused output, a scalar.
        deep: loss of the deep branch, a scalar.
        shallow: loss of the shallow branch, a scalar.
        detach: whether the weights have no gradient.
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
    matched given the task before it, on all rows: the teacher also predicts conversions of rows that were
    never clicked, which the log does not have.

    Args:
        logits: `[B, T]`, each task given the task before it.
        teacher: the teacher's logits, `[B, T]`, each task given the task before it.
        weight: `[B]`.
        temperature: both logits are divided by it.
    """
    targets = torch.sigmoid(teacher / temperature)
    losses = F.binary_cross_entropy_with_logits(logits / temperature, targets, reduction="none")
    return temperature**2 * average(losses, weight)
