"""The towers over a representation: one for each task, and one for the value given the last task."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError
from ctrkit.models.heads.config import TowersConfig
from ctrkit.nn.gates import FeatureGate
from ctrkit.nn.mlp import MLP

# Smallest deviation of the logarithm: no value is known better than to about 5 %. Without it the likelihood
# of values that depend on the ad alone has no bound.
LEAST_DEVIATION = 0.05
# The logit of a value above 0 where training has seen no value of 0: the probability is then 1.
CERTAIN = 40.0
# softplus(_ONE) = 1.
_ONE = math.log(math.e - 1.0)


class TaskTower(nn.Module):
    """The tower of a task and its last linear layer, which reads the tower, the backbone's logit terms and
    the task's linear logit, where it has one.

    With a prior, the tower has the gates of PPNet (Chang et al., KDD 2023, arXiv 2302.01115): each hidden
    layer is multiplied by 2 sigmoid(MLP([prior, stop_gradient(x)])), with an MLP of its own. x is what the
    tower reads: PEPNet's embeddings, where the tower reads them itself.

    Args:
        inputs: width of the tower's input.
        config: widths and dropout of the tower, and of the networks of its gates.
        logit_terms: K, the number of logit terms.
        term_weight: initial weight of each logit term; None draws the weights as all others.
        prior: width of the prior; 0 for a tower without gates.
        outputs: number of outputs of the last layer.
        linear: whether the last logit term is the task's linear logit, beside those K. Its weight is 1 at
            first.
    """

    def __init__(
        self,
        inputs: int,
        config: TowersConfig,
        logit_terms: int = 0,
        term_weight: float | None = None,
        prior: int = 0,
        outputs: int = 1,
        *,
        linear: bool = False,
    ) -> None:
        super().__init__()
        if config.towers:
            check_reads(inputs, "heads.towers")
        self.tower = MLP(inputs, config.towers, config.dropout)
        self.gates = nn.ModuleList(
            FeatureGate(prior + inputs, width, config.gates.hidden)
            for width in (config.towers if prior else ())
        )
        self.others = self.tower.outputs + logit_terms
        self.layer = nn.Linear(self.others + linear, outputs)
        if logit_terms and term_weight is not None:
            nn.init.constant_(self.term_weights, term_weight)
        if linear:
            nn.init.ones_(self.layer.weight[:, self.others :])

    @property
    def term_weights(self) -> Tensor:
        """Weights of the logit terms in the last layer, `[outputs, K]`."""
        return self.layer.weight[:, self.tower.outputs : self.others]

    def hidden(self, vector: Tensor, logit_terms: Tensor, prior: Tensor | None = None) -> Tensor:
        """The input of the last layer: `[B, inputs], [B, K], [B, prior] -> [B, D]`."""
        if prior is None:
            return torch.cat([self.tower(vector), logit_terms], dim=1)
        context = torch.cat([prior, vector.detach()], dim=1)
        scaled = self.tower.scaled(vector, [gate(context) for gate in self.gates])
        return torch.cat([scaled, logit_terms], dim=1)

    def forward(self, vector: Tensor, logit_terms: Tensor) -> Tensor:
        """The logit: `[B, inputs], [B, K] -> [B]`."""
        logit: Tensor = self.layer(self.hidden(vector, logit_terms))
        return logit[:, 0]

    @torch.no_grad()
    def start_at(self, output: float, term: float) -> None:
        """Set the bias so that the outputs start at a number, where every logit term starts at `term`."""
        self.layer.bias.copy_(output - term * self.term_weights.sum(dim=1).double())

    @torch.no_grad()
    def start_at_linear(self) -> None:
        """Let the logit be the linear logit at first: all other weights of the last layer are 0."""
        nn.init.zeros_(self.layer.weight[:, : self.others])
        nn.init.zeros_(self.layer.bias)


class ValueTower(TaskTower):
    """A zero-inflated log-normal: the value is 0, or its logarithm is normal with mean μ and deviation σ.

    Wang, Liu and Miao, "A Deep Probabilistic Model for Customer Lifetime Value Prediction", 2019, arXiv
    1912.07753. μ and σ are those of the training rows, moved by the tower: so the unit of money (cents or
    thousands) does not change what is learnt. Without a value of 0 in the training rows it is a plain
    log-normal.

    Args:
        inputs: width of the tower's input.
        config: widths and dropout of the tower.
        logit_terms: K, the number of logit terms.
        prior: width of the prior; 0 for a tower without gates.
    """

    positive: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, config: TowersConfig, logit_terms: int = 0, prior: int = 0) -> None:
        super().__init__(inputs, config, logit_terms, prior=prior, outputs=3)
        self.register_buffer("positive", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, vector: Tensor, logit_terms: Tensor, prior: Tensor | None = None) -> Tensor:
        """The distribution, as in `Output.value`: `[B, inputs], [B, K], [B, prior] -> [B, 3]`."""
        moves = self.layer(self.hidden(vector, logit_terms, prior))
        positive = torch.where(self.positive < CERTAIN, self.positive + moves[:, 0], self.positive)
        mean = self.mean + self.deviation * moves[:, 1]
        deviation = LEAST_DEVIATION + self.deviation * F.softplus(moves[:, 2] + _ONE)
        return torch.stack([positive, mean, deviation], dim=1)

    @torch.no_grad()
    def start_from(self, positive: float, mean: float, deviation: float) -> None:
        """Start at the distribution of the training rows.

        Args:
            positive: share of values above 0.
            mean: mean of the logarithm of values above 0.
            deviation: standard deviation of that logarithm.
        """
        self.positive.fill_(CERTAIN if positive == 1.0 else math.log(positive / (1.0 - positive)))
        self.mean.fill_(mean)
        self.deviation.fill_(max(deviation - LEAST_DEVIATION, LEAST_DEVIATION))


def check_reads(width: int, what: str) -> None:
    """Check that the model gives a vector for a part of the heads to read.

    Args:
        width: width of the vector; 0 where there is none.
        what: the part of the heads, for the message.

    Raises:
        ConfigError: there is no vector.
    """
    if not width:
        raise ConfigError(
            f"{what} must read a vector of the model, but this model gives only logit terms",
            hint="Use heads: {name: esmm} without towers, or another model",
        )
