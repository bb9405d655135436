"""What a training run minimises, as its config names it: one loss a task, put together from formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.errors import ConfigError
from ctrkit.models.base import Output
from ctrkit.nn.batches import Batch
from ctrkit.training.losses import (
    LogProbabilities,
    average,
    class_balanced_weights,
    distillation_losses,
    dr_risk,
    entire_space,
    given_previous,
    ips_risk,
    pointwise_loss,
    propensities,
    reached,
    tri_bce,
)
from ctrkit.training.ranking_losses import bpr_loss, regression_compatible_loss


class EntireSpaceConfig(Config):
    """ESMM: each task over all impressions, by its probability at an impression."""

    name: Literal["entire_space"] = "entire_space"


class ClickedConfig(Config):
    """Each task given the one before it, over the rows where that happened.

    The sum is divided by all rows, so that the losses add up to the log-likelihood of the funnel.
    """

    name: Literal["clicked"] = "clicked"


class CounterfactualConfig(Config):
    """ESCM²: the entire-space loss of each task but the first, plus λ times the risk that it would have if
    all rows were clicked, by `ctrkit.training.losses.ips_risk` or `dr_risk`.

    The propensity is the model's own p(click). `dr` needs a model that gives "imputation.<task>": its
    softplus is the predicted loss, which cannot be negative.

    Attributes:
        weight: λ.
        propensity_floor: smallest propensity; a clicked row counts at most as 1 / floor rows.
    """

    name: Literal["ips", "dr"]
    weight: float = Field(default=0.1, gt=0.0)
    propensity_floor: float = Field(default=0.01, gt=0.0, le=1.0)


ConversionConfig: TypeAlias = Annotated[
    EntireSpaceConfig | ClickedConfig | CounterfactualConfig, Field(discriminator="name")
]


class RankingConfig(Config):
    """Joint calibration and ranking of the first task: (1 - weight) · its loss + weight · a ranking loss.

    Attributes:
        name: see `ctrkit.training.ranking_losses`. "regression_compatible" keeps the scale of probabilities,
            "bpr" only their order: with a weight of 1 they mean nothing until calibrated.
        weight: of the ranking loss.
        within: compare rows of the same group, which batches then keep together, or all rows of a batch.
    """

    name: Literal["bpr", "regression_compatible"] = "regression_compatible"
    weight: float = Field(default=0.5, gt=0.0, le=1.0)
    within: Literal["group", "batch"] = "group"


class DistillationConfig(Config):
    """Learning from a trained model: (1 - weight) · loss + weight · `distillation_losses`, for each task.

    Attributes:
        teacher: an artifact, of the same tasks; its features may be others.
        weight: of the teacher.
        temperature: both logits are divided by it; above 1, small probabilities tell more.
    """

    teacher: str
    weight: float = Field(default=0.5, gt=0.0, le=1.0)
    temperature: float = Field(default=1.0, gt=0.0)


class LossConfig(Config):
    """What to minimise: log loss over the entire space, unless told otherwise.

    The first four are options of `ctrkit.training.losses.pointwise_loss`, and hold in every space that a
    task is learnt in. They leave the scale of probabilities: calibrate afterwards.

    Attributes:
        focal_gamma: γ of focal loss; 0 is log loss.
        focal_alpha: weight of positive rows in focal loss, negative ones having 1 - α; None weights neither.
        class_balanced_beta: β of class-balanced loss; 0 weights neither class, 0.999 counts at most 1000
            rows of each.
        label_smoothing: ε, shared out over both classes.
        conversion: what the tasks after the first are learnt from.
        ranking: order of rows as a goal beside the probabilities of the first task.
        distillation: a teacher beside the labels.
        detach_branch_weights: of models with a deep and a shallow branch, see
            `ctrkit.training.losses.tri_bce`.
    """

    focal_gamma: float = Field(default=0.0, ge=0.0)
    focal_alpha: float | None = Field(default=None, gt=0.0, lt=1.0)
    class_balanced_beta: float = Field(default=0.0, ge=0.0, lt=1.0)
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    conversion: ConversionConfig = EntireSpaceConfig()
    ranking: RankingConfig | None = None
    distillation: DistillationConfig | None = None
    detach_branch_weights: bool = False

    @property
    def keeps_scale(self) -> bool:
        """Whether the loss is least at the true probabilities; else a validation's log loss tells little."""
        moved = (self.focal_gamma, self.focal_alpha, self.class_balanced_beta, self.label_smoothing)
        ranked = self.ranking is not None and self.ranking.name == "bpr"
        tempered = self.distillation is not None and self.distillation.temperature != 1.0
        return not (any(moved) or ranked or tempered)

    @model_validator(mode="after")
    def _one_weight_a_class(self) -> LossConfig:
        if self.focal_alpha is not None and self.class_balanced_beta:
            raise ValueError("focal_alpha and class_balanced_beta both weight the classes: give one of them")
        return self


class Objective:
    """The loss of each task that a config asks for.

    Args:
        config: the config.
        tasks: in funnel order.
        labels: of the training rows, `[n, T]`.
        weight: of the same rows, `[n]`.
        grouped: whether rows have groups.
        taught: whether there are a teacher's logits.
        device: of training.

    Raises:
        ConfigError: the data or the tasks lack what the config needs.
    """

    def __init__(
        self,
        config: LossConfig,
        tasks: Sequence[str],
        labels: Tensor,
        weight: Tensor,
        *,
        grouped: bool,
        taught: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        conversion = config.conversion.name
        if len(tasks) == 1 and conversion != "entire_space":
            raise ConfigError(
                f"training.loss.conversion is '{conversion}', but '{tasks[0]}' is the only task",
                hint="Leave it out, or name a second label under features.labels",
            )
        self.config = config
        if self.compares_groups and not grouped:
            raise ConfigError(
                "training.loss.ranking compares rows of a group, but the features name none",
                hint="Set features.group, or training.loss.ranking.within=batch",
            )
        if (config.distillation is not None) != taught:
            raise ConfigError(
                "a teacher's logits and training.loss.distillation go together, and one of them is missing"
            )
        self.tasks = tuple(tasks)
        self.class_weights = self.conditional_class_weights = None
        if config.focal_alpha is not None or config.class_balanced_beta:
            counts = weight[:, None].expand_as(labels)
            self.class_weights = _class_weights(config, labels, counts).to(device)
            self.conditional_class_weights = _class_weights(config, labels, counts * reached(labels)).to(
                device
            )

    @property
    def compares_groups(self) -> bool:
        """Whether rows of a group should meet in a batch."""
        return self.config.ranking is not None and self.config.ranking.within == "group"

    def __call__(
        self, output: Output, batch: Batch, groups: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Losses `[T]` of a batch.

        Args:
            groups: `[B]`, equal where rows are compared with each other.
            teacher: the teacher's logits, `[B, T]`, each given the task before it.

        Raises:
            ConfigError: the model does not give what the loss reads.
        """
        config, labels, weight = self.config, batch.labels, batch.weight
        losses = self._tasks(output, labels, weight)
        if {"deep", "shallow"} <= output.auxiliary.keys():
            deep, shallow = self._branches(output, labels, weight)
            first = tri_bce(losses[:1], deep, shallow, detach=config.detach_branch_weights)
            losses = torch.cat([first, losses[1:]])
        if config.ranking is not None:
            ranking_loss = bpr_loss if config.ranking.name == "bpr" else regression_compatible_loss
            within = groups if self.compares_groups else None
            ranked = ranking_loss(output.logits[:, 0], labels[:, 0], weight, within)
            losses = torch.cat([torch.lerp(losses[:1], ranked, config.ranking.weight), losses[1:]])
        if config.distillation is not None and teacher is not None:
            taught = distillation_losses(output.logits, teacher, weight, config.distillation.temperature)
            losses = torch.lerp(losses, taught, config.distillation.weight)
        return losses

    def _tasks(self, output: Output, labels: Tensor, weight: Tensor) -> Tensor:
        """The loss of each task by `conversion`, `[T]`."""
        conversion, possible = self.config.conversion, reached(labels)
        if isinstance(conversion, ClickedConfig):
            return average(possible * self._conditional(output.logits, labels), weight)
        losses = average(self._pointwise(entire_space(output.logits), labels, self.class_weights), weight)
        if isinstance(conversion, EntireSpaceConfig):
            return losses
        deltas = self._conditional(output.logits, labels)[:, 1:]
        propensity = propensities(output.logits, conversion.propensity_floor)
        if conversion.name == "ips":
            risk = ips_risk(deltas, possible[:, 1:], propensity, weight)
        else:
            risk = dr_risk(deltas, self._imputed(output), possible[:, 1:], propensity, weight)
        return torch.cat([losses[:1], losses[1:] + conversion.weight * risk])

    def _conditional(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each row and task given the task before, `[B, T]`; it counts where that happened."""
        return self._pointwise(given_previous(logits), labels, self.conditional_class_weights)

    def _branches(self, output: Output, labels: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """The first task's loss by each of the two branches, scalars."""
        logits = torch.stack([output.auxiliary["deep"], output.auxiliary["shallow"]], dim=1)
        class_weights = self.class_weights[:, :1] if self.class_weights is not None else None
        losses = self._pointwise(given_previous(logits), labels[:, :1], class_weights)
        return average(losses, weight).unbind()

    def _pointwise(self, log_p: LogProbabilities, labels: Tensor, class_weights: Tensor | None) -> Tensor:
        return pointwise_loss(
            log_p,
            labels,
            focal_gamma=self.config.focal_gamma,
            label_smoothing=self.config.label_smoothing,
            class_weights=class_weights,
        )

    def _imputed(self, output: Output) -> Tensor:
        """Predicted losses of the tasks after the first, `[B, T - 1]`."""
        names = [f"imputation.{task}" for task in self.tasks[1:]]
        for name in names:
            if name not in output.auxiliary:
                raise ConfigError(
                    f"training.loss.conversion is 'dr', but the model does not give '{name}'",
                    hint="Set model.heads to {name: esmm, imputation: true}, or learn conversions by 'ips'",
                )
        return F.softplus(torch.stack([output.auxiliary[name] for name in names], dim=1))


def _class_weights(config: LossConfig, labels: Tensor, counts: Tensor) -> Tensor:
    """Weights of negative and positive rows, `[2, T]`.

    Args:
        labels: `[n, T]`.
        counts: as how many rows each row counts for a task, `[n, T]`.
    """
    if config.focal_alpha is not None:
        return labels.new_tensor([[1.0 - config.focal_alpha], [config.focal_alpha]]).expand(
            2, labels.shape[1]
        )
    positives = (labels * counts).sum(dim=0, dtype=torch.float64)
    negatives = counts.sum(dim=0, dtype=torch.float64) - positives
    pairs = zip(negatives.tolist(), positives.tolist(), strict=True)
    return labels.new_tensor([class_balanced_weights(pair, config.class_balanced_beta) for pair in pairs]).T
