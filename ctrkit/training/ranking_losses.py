"""Ranking losses: they teach which of two rows is more likely, not how likely each is.

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
        logits: `[B]`.
        labels: `[B]`.
        weight: `[B]`.
        groups: `[B]`; None to compare all rows.
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
    2023, arXiv 2211.01494. The optimum of a softmax of logits has exp(z) proportional to p, and the optimum
    of log loss has σ(z) = p: the two conflict. With shares of σ(z) both are optimal at σ(z) = p. The joint
    ranking and calibration of Sheng et al. (KDD 2023, arXiv 2208.06164) has the same aim, and needs two
    logits for each row.

    The sum is divided by the number of rows, not by the positives of each group. So it has the same scale as
    the mean log loss, and its expectation is smallest exactly where σ(z) is proportional to p in each group.

    Args:
        logits: `[B]`.
        labels: `[B]`.
        weight: `[B]`.
        groups: `[B]`; None to compare all rows.
    """
    log_p = F.logsigmoid(logits)
    if groups is None:
        group, count = torch.zeros_like(labels, dtype=torch.int64), 1
    else:
        known, group = groups.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        count = known.numel()
    # The log-sum-exp of each group, relative to the group's largest value.
    largest = log_p.new_full((count,), -torch.inf).scatter_reduce(0, group, log_p.detach(), "amax")
    shares = weight * (log_p - largest[group]).exp()
    sums = log_p.new_zeros(count).index_add(0, group, shares)
    log_sums = sums.clamp(min=torch.finfo(sums.dtype).tiny).log() + largest
    return -(weight * labels * (log_p - log_sums[group])).sum() / weight.sum()
