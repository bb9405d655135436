"""What training minimises: entire-space log loss over the funnel, with Tri-BCE for two-branch models."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ctrkit.models.base import Output, funnel_log_complements, funnel_log_probabilities


def task_losses(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Entire-space log loss of each task, [T]: p(conversion) = p(click) · p(conversion | click).

    Ma et al. 2018 (ESMM, arXiv 1804.07931): every task is fitted over all impressions, so that the
    conversion head, which has no loss of its own, is free of the selection by clicks. Products are sums
    in log space.

    Args:
        logits: [B, T], each given the task before it; labels: [B, T]; weight: [B].
    """
    happened = labels * funnel_log_probabilities(logits)  # [B, T]
    losses = -(happened + (1.0 - labels) * funnel_log_complements(logits))
    return (losses * weight[:, None]).sum(dim=0) / weight.sum()


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


def training_loss(output: Output, labels: Tensor, weight: Tensor, *, detach: bool = False) -> Tensor:
    """The scalar to minimise: the tasks' losses, with Tri-BCE in place of the first task's where a model
    gives the logits of a deep and a shallow branch."""
    losses = task_losses(output.logits, labels, weight)
    first = losses[0]
    if {"deep", "shallow"} <= output.auxiliary.keys():
        deep, shallow = (
            binary_cross_entropy_with_logits(output.auxiliary[name], labels[:, 0], weight, reduction="sum")
            / weight.sum()
            for name in ("deep", "shallow")
        )
        first = tri_bce(first, deep, shallow, detach=detach)
    return first + losses[1:].sum()
