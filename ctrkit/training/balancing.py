"""Balancing of tasks: it combines the losses of the tasks into the one number that training minimises.

The weights of tasks are fixed, or learned together with the model. A balancer that learns has an optimizer of
its own, so the model's learning rate and weight decay do not affect the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.errors import ConfigError, nearest


class FixedConfig(Config):
    """A constant weight for each task.

    Attributes:
        weights: task -> weight; 1 for a task that is not named. The task of the value is called `value`.
    """

    name: Literal["fixed"] = "fixed"
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)


class UncertaintyConfig(Config):
    """Weights from each task's own uncertainty (see `Uncertainty`).

    Attributes:
        learning_rate: learning rate of the log-variances.
    """

    name: Literal["uncertainty"] = "uncertainty"
    learning_rate: float = Field(default=0.01, gt=0.0)


class GradNormConfig(Config):
    """Weights under which all tasks learn at similar rates (see `GradNorm`).

    Attributes:
        alpha: strength of the correction for tasks that learn slowly; 0 gives all gradients the same length.
        learning_rate: learning rate of the weights.
    """

    name: Literal["gradnorm"] = "gradnorm"
    alpha: NonNegativeFloat = 1.5
    learning_rate: float = Field(default=0.025, gt=0.0)


BalancingConfig: TypeAlias = Annotated[
    FixedConfig | UncertaintyConfig | GradNormConfig, Field(discriminator="name")
]


class Balancer(nn.Module, ABC):
    """Combines the tasks' losses into one. Its state dict holds all that it has learned."""

    optimizer: torch.optim.Optimizer | None = None

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """The number to minimise, from losses `[T]`."""

    def observe(self, losses: Tensor, logits: Tensor, model: nn.Module) -> None:
        """Use the losses `[T]` and logits `[B, T]` of a step, before the backward pass frees their graph."""

    def step(self) -> None:
        """Update the learned weights, after the gradients of a step are known."""
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def get_extra_state(self) -> dict[str, Any]:
        """Called by `state_dict`."""
        return {} if self.optimizer is None else {"optimizer": self.optimizer.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Called by `load_state_dict`."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])


class Fixed(Balancer):
    """The weighted sum of the losses."""

    weights: Tensor

    def __init__(self, config: FixedConfig, tasks: Sequence[str]) -> None:
        super().__init__()
        for task in config.weights:
            if task not in tasks:
                raise ConfigError(
                    f"training.balancing.weights names the unknown task '{task}'", hint=nearest(task, tasks)
                )
        weights = torch.tensor([config.weights.get(task, 1.0) for task in tasks])
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, losses: Tensor) -> Tensor:
        return (self.weights * losses).sum()


class Uncertainty(Balancer):
    """Weights from each task's own uncertainty.

    Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018, arXiv 1705.07115, in
    its form for classification, L / σ² + log σ for each task, with s = log σ² learned:

        Σ exp(-s) L + s / 2

    The minimum is at s = log 2L. s may be negative: a task with a small loss, such as rare conversions, may
    need a weight above 1.
    """

    def __init__(self, config: UncertaintyConfig, tasks: Sequence[str]) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.learning_rate)

    def forward(self, losses: Tensor) -> Tensor:
        return ((-self.log_variance).exp() * losses + self.log_variance / 2.0).sum()


class GradNorm(Balancer):
    """Weights under which all tasks learn at similar rates.

    Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
    ICML 2018, arXiv 1711.02257. With G = ‖∇ wL‖ of each task over the shared weights, and r = L / L(first
    step) divided by its mean over the tasks, the weights w descend

        Σ | G - mean(G) r^α |

    where mean(G) r^α is a constant, and are then scaled to sum to T.

    The shared weights are those of the last part of the model (in the order of its children) that every
    task's logit depends on: the backbone of a shared bottom, or the embeddings where tasks share nothing
    else. A step costs one more backward pass for each task, from the logits to the shared weights.
    """

    first_losses: Tensor

    def __init__(self, config: GradNormConfig, tasks: Sequence[str]) -> None:
        super().__init__()
        self.alpha = config.alpha
        self.weights = nn.Parameter(torch.ones(len(tasks)))
        self.register_buffer("first_losses", torch.zeros(len(tasks)))
        self.shared: list[str] = []
        self.optimizer = torch.optim.Adam(self.parameters(), lr=config.learning_rate)

    def forward(self, losses: Tensor) -> Tensor:
        return (self.weights.detach() * losses).sum()

    def observe(self, losses: Tensor, logits: Tensor, model: nn.Module) -> None:
        if not self.shared:
            self.shared = shared_parameters(model, logits)
        # The loss of a batch may be 0 (no pairs, or no row with a value): then a later batch is the first.
        self.first_losses = torch.where(self.first_losses > 0, self.first_losses, losses.detach())
        parameters = [model.get_parameter(name) for name in self.shared]
        norms = torch.stack([_gradient_norm(loss, parameters) for loss in losses])
        self.weights.grad = self.gradient(norms, losses.detach())

    def gradient(self, norms: Tensor, losses: Tensor) -> Tensor:
        """The gradient of the weights, from ‖∇L‖ and L of each task, both `[T]`."""
        # A doubly robust risk can be negative in a batch: that task then counts as the fastest possible.
        rates = torch.where(self.first_losses > 0, losses / self.first_losses, 1.0)
        rates = rates.clamp(min=torch.finfo(losses.dtype).tiny)
        weighted = self.weights.detach() * norms
        target = weighted.mean() * (rates / rates.mean()) ** self.alpha
        return torch.sign(weighted - target) * norms

    @torch.no_grad()
    def step(self) -> None:
        super().step()
        self.weights.clamp_(min=1e-3)  # below 0 the model would unlearn a task
        self.weights.mul_(len(self.weights) / self.weights.sum())

    def get_extra_state(self) -> dict[str, Any]:
        return {**super().get_extra_state(), "shared": self.shared}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.shared = state["shared"]


def build_balancer(config: BalancingConfig, tasks: Sequence[str]) -> Balancer:
    """The balancer of a config.

    Raises:
        ConfigError: there is a weight for an unknown task, or only one task and nothing to balance.
    """
    if isinstance(config, FixedConfig):
        return Fixed(config, tasks)
    if len(tasks) == 1:
        raise ConfigError(
            f"training.balancing is '{config.name}', but '{tasks[0]}' is the only task",
            hint="Remove training.balancing",
        )
    return Uncertainty(config, tasks) if isinstance(config, UncertaintyConfig) else GradNorm(config, tasks)


def shared_parameters(model: nn.Module, logits: Tensor) -> list[str]:
    """Names of the parameters that every task's logit depends on, in the last child of the model with any.

    Args:
        model: the model.
        logits: logits of a batch, `[B, T]`, with their graph, which is kept.

    Raises:
        ConfigError: the tasks share no weights.
    """
    for part, child in reversed(list(model.named_children())):
        shared = {f"{part}.{name}": value for name, value in child.named_parameters() if value.requires_grad}
        for task in logits.unbind(dim=1):
            if shared:
                gradients = torch.autograd.grad(
                    task.sum(), list(shared.values()), retain_graph=True, allow_unused=True
                )
                # Weights that only other tasks use get zeros, from the slice that selects this task.
                shared = {
                    name: value
                    for (name, value), gradient in zip(shared.items(), gradients, strict=True)
                    if gradient is not None and bool(_values(gradient).any())
                }
        if shared:
            return list(shared)
    raise ConfigError("the tasks share no weights, so GradNorm has nothing to balance")


def _gradient_norm(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """‖∇ loss‖ over all parameters together. The graph is kept."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.stack([_values(gradient).square().sum() for gradient in gradients]).sum().sqrt()


def _values(gradient: Tensor) -> Tensor:
    """The numbers of a gradient, which may be sparse."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient
