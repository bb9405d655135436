"""Losses of rows against each other: they teach which of two is the likelier, not how likely it is.

Rows are compared within their group (the candidates of a user or of a request) or, without groups, with all
rows of the batch. A row of weight 2 counts as two rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bpr_loss(logits: Tensor, labels: Tensor, weight: Tensor, groups: Tensor | None = None) -> Tensor:
    """Mean of -log σ(z⁺ - z⁻) over all pairs of a positive and a negative row of the same group.

    Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, with logged
    negatives in place of sampled ones. It does not change when all logits of a group are shifted, and is 0
    where there is no pair.

    Args:
        logits, labels, weight, groups: `[B]`.
    """
    positive = labels > 0.5
    pairs = weight[positive][:, None] * weight[~positive]  # [positives, negatives]
    if groups is not None:
        pairs = pairs * (groups[positive][:, None] == groups[~positive])
    losses = F.softplus(logits[~positive] - logits[positive][:, None])
    return (pairs * losses).sum() / pairs.sum().clamp(min=torch.finfo(pairs.dtype).tiny)


def regression_compatible_loss(
    logits: Tensor, labels: Tensor, weight: Tensor, groups: Tensor | None = None
) -> Tensor:
    """Listwise cross-entropy of a group's shares: - 1/n Σ y log( σ(z) / Σ_group σ(z) ), over n rows.

    Bai et al., "Regression Compatible Listwise Objectives for Calibrated Ranking with Binary Relevance", CIKM
    2023, arXiv 2211.01494. A softmax of logits would be best where exp(z) is in proportion to p, log loss
    where σ(z) is p: they pull apart. With shares of σ(z) both are best at σ(z) = p. The joint ranking and
    calibration of Sheng et al. (KDD 2023, arXiv 2208.06164) has the same aim, and needs two logits a row.

    The sum is divided by rows and not, group by group, by positives: so it stays of one scale with the mean
    log loss, and its expectation is least exactly where σ(z) is in proportion to p within each group.

    Args:
        logits, labels, weight, groups: `[B]`.
    """
    log_p = F.logsigmoid(logits)
    if groups is None:
        group, count = torch.zeros_like(labels, dtype=torch.int64), 1
    else:
        known, group = groups.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        count = known.numel()
    # A logarithm of a sum of exponentials by group, from each group's largest.
    largest = log_p.new_full((count,), -torch.inf).scatter_reduce(0, group, log_p.detach(), "amax")
    shares = weight * (log_p - largest[group]).exp()
    sums = log_p.new_zeros(count).index_add(0, group, shares)
    log_sums = sums.clamp(min=torch.finfo(sums.dtype).tiny).log() + largest
    return -(weight * labels * (log_p - log_sums[group])).sum() / weight.sum()
