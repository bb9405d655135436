"""The objective of a training run: one loss for each task, combined from formulas as the config says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.errors import ConfigError
from ctrkit.models import Output
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
    known,
    pointwise_loss,
    propensities,
    reached,
    tri_bce,
    value_loss,
)
from ctrkit.training.ranking_losses import bpr_loss, regression_compatible_loss


class EntireSpaceConfig(Config):
    """ESMM: each task is learned over all impressions, from its probability at an impression."""

    name: Literal["entire_space"] = "entire_space"


class ClickedConfig(Config):
    """Each task is learned given the task before it, over the rows where that happened.

    The sum is divided by the number of all rows, so that the losses add up to the funnel's log-likelihood.
    """

    name: Literal["clicked"] = "clicked"


class CounterfactualConfig(Config):
    """ESCM²: for each task after the first, the entire-space loss plus λ times the risk as if all rows were
    clicked (see `ctrkit.training.losses.ips_risk` and `dr_risk`).

    The propensity is the model's own p(click). "dr" needs a model that gives "imputation.<task>": its
    softplus is the predicted loss, which cannot be negative.

    Attributes:
        name: the risk: "ips" (inverse propensity scores) or "dr" (doubly robust).
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
        name: the ranking loss (see `ctrkit.training.ranking_losses`). "regression_compatible" keeps the scale
            of probabilities. "bpr" keeps only their order: with a weight of 1, calibrate before use.
        weight: weight of the ranking loss.
        within: whether rows of the same "group" are compared (batches then keep groups together), or all rows
            of a "batch".
    """

    name: Literal["bpr", "regression_compatible"] = "regression_compatible"
    weight: float = Field(default=0.5, gt=0.0, le=1.0)
    within: Literal["group", "batch"] = "group"


class DistillationConfig(Config):
    """Learning from a trained model: (1 - weight) · loss + weight · `distillation_losses`, for each task.

    Attributes:
        teacher: path of an artifact with the same tasks; its features may differ.
        weight: weight of the teacher.
        temperature: both logits are divided by it. Above 1, small probabilities have more influence.
    """

    teacher: str
    weight: float = Field(default=0.5, gt=0.0, le=1.0)
    temperature: float = Field(default=1.0, gt=0.0)


class LossConfig(Config):
    """The loss to minimise. The default is log loss over the entire space.

    The first four are options of `ctrkit.training.losses.pointwise_loss`, and apply to every `conversion`.
    They change the scale of probabilities: calibrate afterwards.

    Attributes:
        focal_gamma: γ of focal loss; 0 is log loss.
        focal_alpha: α, the weight of positive rows in focal loss; negative rows have 1 - α. None for no class
            weights.
        class_balanced_beta: β of class-balanced loss; 0 for no class weights. With 0.999 each class has an
            effective number of at most 1000 rows.
        label_smoothing: ε, split over both classes.
        conversion: how the tasks after the first are learned.
        ranking: a ranking loss for the first task, beside its log loss; None for no ranking loss.
        distillation: a teacher, beside the labels; None for no teacher.
        detach_branch_weights: for models with a deep and a shallow branch: whether the weights of the branch
            losses have no gradient (see `ctrkit.training.losses.tri_bce`).
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
        """Whether the loss is smallest at the true probabilities, so that log loss can choose validations."""
        moved = (self.focal_gamma, self.focal_alpha, self.class_balanced_beta, self.label_smoothing)
        ranked = self.ranking is not None and self.ranking.name == "bpr"
        tempered = self.distillation is not None and self.distillation.temperature != 1.0
        return not (any(moved) or ranked or tempered)

    @model_validator(mode="after")
    def _one_weight_a_class(self) -> LossConfig:
        if self.focal_alpha is not None and self.class_balanced_beta:
            raise ValueError("focal_alpha and class_balanced_beta both weight the classes; give one of them")
        return self


class Objective:
    """The loss of each task, as a config describes it, and of the value, which no setting changes.

    Args:
        config: the config.
        tasks: names of the tasks, in funnel order.
        labels: labels of the training rows, `[n, T]`.
        weight: weights of the training rows, `[n]`.
        grouped: whether rows have groups.
        taught: whether there are logits of a teacher.
        device: device of training.

    Raises:
        ConfigError: the data or the tasks lack something that the config needs.
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
                hint="Remove it, or declare a second label under `features.labels`",
            )
        self.config = config
        if self.compares_groups and not grouped:
            raise ConfigError(
                "training.loss.ranking compares rows of a group, but the features declare no group",
                hint="Set features.group, or training.loss.ranking.within=batch",
            )
        if (config.distillation is not None) != taught:
            raise ConfigError(
                "training.loss.distillation and the teacher's logits need each other, and one is missing"
            )
        self.tasks = tuple(tasks)
        self.class_weights = self.conditional_class_weights = None
        if config.focal_alpha is not None or config.class_balanced_beta:
            labels, weight = known(labels, weight)
            counts = weight if weight.ndim == 2 else weight[:, None].expand_as(labels)
            self.class_weights = _class_weights(config, labels, counts).to(device)
            self.conditional_class_weights = _class_weights(config, labels, counts * reached(labels)).to(
                device
            )

    @property
    def compares_groups(self) -> bool:
        """Whether rows of a group must be in the same batch."""
        return self.config.ranking is not None and self.config.ranking.within == "group"

    def __call__(
        self, output: Output, batch: Batch, groups: Tensor | None = None, teacher: Tensor | None = None
    ) -> Tensor:
        """Losses `[T]` of a batch, or `[T + 1]` with that of the value last, where the model predicts it.

        Args:
            output: the model's output for the batch.
            batch: the batch, with its labels and weights.
            groups: `[B]`, equal for rows that are compared with each other.
            teacher: the teacher's logits, `[B, T]`, each task given the task before it.

        Raises:
            ConfigError: the model does not give an output that the loss needs.
        """
        config, weight = self.config, batch.weight
        labels, weight_of_tasks = known(batch.labels, weight)
        losses = self._tasks(output, labels, weight_of_tasks)
        if {"deep", "shallow"} <= output.auxiliary.keys():
            deep, shallow = self._branches(output, labels, weight, "deep", "shallow")
            first = tri_bce(losses[:1], deep, shallow, detach=config.detach_branch_weights)
            losses = torch.cat([first, losses[1:]])
        if "search" in output.auxiliary:  # with the weight 1 of the paper on SIM
            searched = torch.stack(self._branches(output, labels, weight, "search"))
            losses = torch.cat([losses[:1] + searched, losses[1:]])
        if config.ranking is not None:
            ranking_loss = bpr_loss if config.ranking.name == "bpr" else regression_compatible_loss
            within = groups if self.compares_groups else None
            ranked = ranking_loss(output.logits[:, 0], labels[:, 0], weight, within)
            losses = torch.cat([torch.lerp(losses[:1], ranked, config.ranking.weight), losses[1:]])
        if config.distillation is not None and teacher is not None:
            taught = distillation_losses(output.logits, teacher, weight, config.distillation.temperature)
            losses = torch.lerp(losses, taught, config.distillation.weight)
        if output.value is not None and batch.value is not None:
            of_value = value_loss(output.value, batch.value, labels, weight_of_tasks)
            losses = torch.cat([losses, of_value[None]])
        return losses

    def _tasks(self, output: Output, labels: Tensor, weight: Tensor) -> Tensor:
        """The loss of each task, as `conversion` says, `[T]`."""
        conversion, possible = self.config.conversion, reached(labels)
        if isinstance(conversion, ClickedConfig):
            return average(possible * self._conditional(output.logits, labels), weight)
        losses = average(self._pointwise(entire_space(output.logits), labels, self.class_weights), weight)
        if isinstance(conversion, EntireSpaceConfig):
            return losses
        deltas = self._conditional(output.logits, labels)[:, 1:]
        propensity = propensities(output.logits, conversion.propensity_floor)
        later = weight if weight.ndim == 1 else weight[:, 1:]
        if conversion.name == "ips":
            risk = ips_risk(deltas, possible[:, 1:], propensity, later)
        else:
            risk = dr_risk(deltas, self._imputed(output), possible[:, 1:], propensity, later)
        return torch.cat([losses[:1], losses[1:] + conversion.weight * risk])

    def _conditional(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each row and task given the task before, `[B, T]`, which counts where that happened."""
        return self._pointwise(given_previous(logits), labels, self.conditional_class_weights)

    def _branches(self, output: Output, labels: Tensor, weight: Tensor, *names: str) -> tuple[Tensor, ...]:
        """The first task's loss of each of the auxiliary outputs, scalars."""
        logits = torch.stack([output.auxiliary[name] for name in names], dim=1)
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
                    hint="Set model.heads to {name: esmm, imputation: true}, or the conversion loss to 'ips'",
                )
        return F.softplus(torch.stack([output.auxiliary[name] for name in names], dim=1))


def _class_weights(config: LossConfig, labels: Tensor, counts: Tensor) -> Tensor:
    """Weights of negative and positive rows, `[2, T]`.

    Args:
        config: the config of the loss.
        labels: `[n, T]`.
        counts: number of rows that each row counts as for a task, `[n, T]`.
    """
    if config.focal_alpha is not None:
        return labels.new_tensor([[1.0 - config.focal_alpha], [config.focal_alpha]]).expand(
            2, labels.shape[1]
        )
    positives = (labels * counts).sum(dim=0, dtype=torch.float64)
    negatives = counts.sum(dim=0, dtype=torch.float64) - positives
    pairs = zip(negatives.tolist(), positives.tolist(), strict=True)
    return labels.new_tensor([class_balanced_weights(pair, config.class_balanced_beta) for pair in pairs]).T
