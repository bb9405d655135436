"""The objectives of a policy that learns from logged decisions: its estimated value, regularised.

Every objective is the mean over rows of one value per row,

    u = Σ_a π(a) q(a) + c(w) (r - q(logged) - λ),    w = π(logged) / propensity

with the reward model q of the doubly robust form (0 in the other forms), a cap c on the weights (none in the
self-normalised form) and a baseline λ (0 in the other forms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ctrkit.config import Config

# The smallest probability of the logging policy that `divergence` uses, so that it stays finite.
LEAST_PROBABILITY = 1e-4


class RegularisedConfig(Config):
    """Settings of all objectives.

    Attributes:
        variance_penalty: factor of the estimated value's standard error, which is subtracted from the value:
            Counterfactual Risk Minimization (Swaminathan and Joachims, ICML 2015), the objective of POEM.
        kl: factor of the mean of KL(π, logging policy), which is also subtracted. The uniform policy replaces
            the logging policy where the log has no probabilities of it. The unit is the rewards' standard
            deviation, as for the objective.
    """

    variance_penalty: float = Field(default=0.0, ge=0.0)
    kl: float = Field(default=0.2, ge=0.0)


class InversePropensityConfig(RegularisedConfig):
    """mean(min(w, clip) r).

    A weight above `clip` has no gradient (Bottou et al., "Counterfactual Reasoning and Learning Systems",
    JMLR 14, 2013). The optimum depends on the zero of the rewards: where all rewards are positive, the policy
    learns to repeat the logged actions.
    """

    name: Literal["ips"] = "ips"
    clip: float = Field(default=10.0, gt=0.0)


class DoublyRobustConfig(RegularisedConfig):
    """mean(Σ_a π(a) q(a) + min(w, clip) (r - q(logged))), q a cross-fitted reward model.

    Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.
    """

    name: Literal["dr"] = "dr"
    clip: float = Field(default=10.0, gt=0.0)
    folds: int = Field(default=3, ge=2)


class SelfNormalisedConfig(RegularisedConfig):
    """mean(w (r - λ)) for each baseline λ. The validation rows choose one λ.

    A constant added to the rewards does not change the optimum of the self-normalised value Σ w r / Σ w. λ is
    the Lagrange multiplier that fixes Σ w (Joachims, Swaminathan and de Rijke, "Deep Learning with Logged
    Bandit Feedback", ICLR 2018, BanditNet). At the optimum λ is the value of the policy.

    Attributes:
        baselines: λ minus the mean reward of the training rows, in standard deviations of their rewards.
    """

    name: Literal["snips"] = "snips"
    baselines: tuple[float, ...] = Field(default=(0.0, 0.1), min_length=1)


ObjectiveConfig: TypeAlias = Annotated[
    InversePropensityConfig | DoublyRobustConfig | SelfNormalisedConfig, Field(discriminator="name")
]


@dataclass(frozen=True)
class Decisions:
    """B logged decisions among at most K candidates, as tensors.

    Attributes:
        present: bool [B, K], True at candidates.
        logged: int64 [B], position of the chosen candidate.
        propensity: [B], logged probability of the chosen candidate.
        reward: [B].
        count: [B], number of decisions that each row stands for.
        logging: [B, K], the logging policy's probabilities, 0 at missing candidates; None where unknown.
        q: [B, K], the reward model's predictions, 0 at missing candidates; None without a reward model.
    """

    present: Tensor
    logged: Tensor
    propensity: Tensor
    reward: Tensor
    count: Tensor
    logging: Tensor | None = None
    q: Tensor | None = None


def log_policy(scores: Tensor, present: Tensor, temperature: float) -> Tensor:
    """log π = log softmax(scores / temperature) over the candidates: [B, K], -inf where there is none."""
    return F.log_softmax((scores / temperature).masked_fill(~present, -torch.inf), dim=1)


def row_values(log_pi: Tensor, rows: Decisions, clip: float | None, baseline: float) -> Tensor:
    """u [B] of each row (see the module). The mean estimates the policy's value minus the baseline.

    Args:
        log_pi: log-probabilities of the policy, [B, K].
        rows: the logged decisions.
        clip: the largest weight; None for no limit.
        baseline: λ.
    """
    at = rows.logged[:, None]
    weight = (log_pi.gather(1, at)[:, 0] - rows.propensity.log()).exp()
    if clip is not None:
        weight = weight.clamp(max=clip)
    if rows.q is None:
        return rows.count * weight * (rows.reward - baseline)
    residual = rows.reward - rows.q.gather(1, at)[:, 0] - baseline
    return rows.count * ((log_pi.exp() * rows.q).sum(dim=1) + weight * residual)


def divergence(log_pi: Tensor, rows: Decisions) -> Tensor:
    """KL(π, logging policy) [B]; KL(π, uniform policy) where the logging policy is unknown."""
    if rows.logging is None:
        log_reference = -rows.present.sum(dim=1, keepdim=True).to(log_pi.dtype).log()
    else:
        log_reference = rows.logging.clamp(min=LEAST_PROBABILITY).log()
    # 0 log 0 is 0 at missing candidates, and its gradient must be 0 too.
    known = log_pi.masked_fill(~rows.present, 0.0)
    return (known.exp() * rows.present * (known - log_reference)).sum(dim=1)


@dataclass(frozen=True)
class VarianceBound:
    """A bound on the standard error of a mean of n row values u. The bound is a sum over rows itself:

        √(Var(u) / n) ≤ linear · mean(u) + quadratic · mean(u²) + constant

    with equality (of gradients too) where the bound was made. So minibatches can optimise it. When it is made
    again every epoch, the objective with the standard error itself rises: the iterated variance majorization
    of POEM (Swaminathan and Joachims, "Batch Learning from Logged Bandit Feedback through Counterfactual Risk
    Minimization", JMLR 16, 2015, section 5). The square root lies below its tangent, and -mean(u)² below its
    own.
    """

    linear: float
    quadratic: float
    constant: float

    @classmethod
    def at(cls, values: Tensor) -> VarianceBound:
        """The bound that is tight at these row values [n]; the bound is 0 where all values are equal."""
        n, mean = len(values), float(values.mean())
        error = float(values.std()) / n**0.5 if n > 1 else 0.0
        if error == 0.0:
            return cls(0.0, 0.0, 0.0)
        # Var(u) / n = (mean(u²) - mean(u)²) / (n - 1)
        quadratic = 1.0 / (2.0 * error * (n - 1))
        return cls(-2.0 * mean * quadratic, quadratic, error / 2.0 + mean**2 * quadratic)

    def __call__(self, values: Tensor) -> Tensor:
        """The bound, from the values of all rows or of a sample of rows."""
        return self.linear * values.mean() + self.quadratic * values.square().mean() + self.constant


@dataclass(frozen=True)
class CounterfactualObjective:
    """The objective to maximise.

    Attributes:
        config: which objective.
        temperature: temperature of the softmax.
        baseline: λ, in the units of the rewards.
    """

    config: ObjectiveConfig
    temperature: float
    baseline: float = 0.0

    def row_values(self, scores: Tensor, rows: Decisions) -> Tensor:
        """u [B] from the scores of the candidates [B, K]."""
        clip = None if isinstance(self.config, SelfNormalisedConfig) else self.config.clip
        log_pi = log_policy(scores, rows.present, self.temperature)
        return row_values(log_pi, rows, clip, self.baseline)

    def __call__(self, scores: Tensor, rows: Decisions, bound: VarianceBound | None = None) -> Tensor:
        """The objective of a batch.

        Args:
            scores: scores of the candidates, [B, K].
            rows: the logged decisions of the batch.
            bound: bound on the standard error, made from all rows; required for a variance penalty.
        """
        values = self.row_values(scores, rows)
        value = values.mean()
        if bound is not None:
            value = value - self.config.variance_penalty * bound(values)
        if self.config.kl > 0.0:
            log_pi = log_policy(scores, rows.present, self.temperature)
            value = value - self.config.kl * (rows.count * divergence(log_pi, rows)).mean()
        return value
