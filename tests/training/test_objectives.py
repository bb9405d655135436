from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from ctrkit.config import build
from ctrkit.errors import ConfigError
from ctrkit.models import Output
from ctrkit.nn.batches import Batch
from ctrkit.training.balancing import FixedConfig, GradNormConfig, UncertaintyConfig, build_balancer
from ctrkit.training.losses import task_losses
from ctrkit.training.objectives import LossConfig, Objective
from ctrkit.training.ranking_losses import bpr_loss, regression_compatible_loss

TASKS = ("click", "conversion")


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    click = torch.rand(60, generator=generator) < 0.4
    conversion = click & (torch.rand(60, generator=generator) < 0.5)
    labels = torch.stack([click, conversion], dim=1).double()
    empty = torch.empty(60, 0)
    return Batch(empty, empty, {}, labels, torch.rand(60, generator=generator, dtype=torch.float64))


@pytest.fixture
def output() -> Output:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(60, 2, generator=generator, dtype=torch.float64)
    imputation = torch.randn(60, generator=generator, dtype=torch.float64)
    return Output(logits, logits, {"imputation.conversion": imputation})


def objective(batch: Batch, tasks: tuple[str, ...] = TASKS, **options: Any) -> Objective:
    taught = "distillation" in options
    return Objective(
        LossConfig.model_validate(options), tasks, batch.labels, batch.weight, grouped=True, taught=taught
    )


def test_the_default_is_entire_space_log_loss(batch: Batch, output: Output) -> None:
    torch.testing.assert_close(
        objective(batch)(output, batch), task_losses(output.logits, batch.labels, batch.weight)
    )


def test_a_search_adds_the_log_loss_of_its_logit_to_the_first_task(batch: Batch, output: Output) -> None:
    search = output.logits[:, 1].flip(0)
    found = objective(batch)(Output(output.logits, output.logits, {"search": search}), batch)
    expected = F.binary_cross_entropy_with_logits(search, batch.labels[:, 0], batch.weight, reduction="sum")
    added = torch.stack([expected / batch.weight.sum(), torch.zeros((), dtype=torch.float64)])
    torch.testing.assert_close(found - objective(batch)(output, batch), added)


def brute_force(batch: Batch, output: Output, kind: str, weight: float, floor: float) -> list[float]:
    """The losses of ESCM² row by row, from probabilities."""
    click_loss, joint_loss, risk = 0.0, 0.0, 0.0
    click, conversion = torch.sigmoid(output.logits).unbind(1)
    for i in range(len(click)):
        o, r = batch.labels[i].tolist()
        row = batch.weight[i].item() / batch.weight.sum().item()
        p, q = click[i].item(), conversion[i].item()
        click_loss -= row * (o * np.log(p) + (1 - o) * np.log(1 - p))
        joint_loss -= row * (r * np.log(p * q) + (1 - r) * np.log(1 - p * q))
        delta = -(r * np.log(q) + (1 - r) * np.log(1 - q))
        inverse = o / max(p, floor)
        if kind == "ips":
            risk += row * inverse * delta
        else:
            imputed = F.softplus(output.auxiliary["imputation.conversion"][i]).item()
            risk += row * (imputed + inverse * (delta - imputed) + inverse * (delta - imputed) ** 2)
    return [click_loss, joint_loss + weight * risk]


@pytest.mark.parametrize("kind", ["ips", "dr"])
def test_counterfactual_risk_is_the_papers_row_by_row(batch: Batch, output: Output, kind: str) -> None:
    conversion = {"name": kind, "weight": 0.3, "propensity_floor": 0.4}
    found = objective(batch, conversion=conversion)(output, batch)
    np.testing.assert_allclose(found, brute_force(batch, output, kind, 0.3, 0.4), rtol=1e-10)


@pytest.mark.parametrize("kind", ["ips", "dr"])
def test_counterfactual_risk_leaves_the_click_as_esmm_has_it(batch: Batch, output: Output, kind: str) -> None:
    gradients = []
    for conversion in ({"name": "entire_space"}, {"name": kind}):
        logits = output.logits.clone().requires_grad_()
        found = objective(batch, conversion=conversion)(Output(logits, logits, output.auxiliary), batch)
        found.sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0][:, 0], gradients[1][:, 0])
    assert not torch.allclose(gradients[0][:, 1], gradients[1][:, 1])


def test_conversions_by_clicked_rows_are_a_binary_cross_entropy_there(batch: Batch, output: Output) -> None:
    found = objective(batch, conversion={"name": "clicked"})(output, batch)
    clicked = batch.labels[:, 0] == 1
    for task, rows in ((0, torch.ones_like(clicked)), (1, clicked)):
        expected = F.binary_cross_entropy_with_logits(
            output.logits[rows, task], batch.labels[rows, task], batch.weight[rows], reduction="sum"
        )
        torch.testing.assert_close(found[task], expected / batch.weight.sum())


@pytest.mark.parametrize("conversion", ["entire_space", "clicked", "ips"])
def test_classes_are_counted_where_the_task_can_happen(batch: Batch, output: Output, conversion: str) -> None:
    plain = objective(batch, conversion={"name": conversion})
    # β = 0 is log loss; towards 1 both classes weigh the same in all, as in a log of as many of each.
    assert plain.class_weights is None
    balanced = objective(batch, conversion={"name": conversion}, class_balanced_beta=1 - 1e-9)
    assert balanced.class_weights is not None
    assert balanced.conditional_class_weights is not None
    # A row counts as often as its weight says.
    rows = batch.weight.sum().item()
    clicks, conversions = (batch.weight @ batch.labels).tolist()
    for weights, counts in (
        (balanced.class_weights, ([rows - clicks, rows - conversions], [clicks, conversions])),
        (balanced.conditional_class_weights, ([rows - clicks, clicks - conversions], [clicks, conversions])),
    ):
        in_all = weights * torch.tensor(counts, dtype=torch.float64)
        torch.testing.assert_close(in_all[0], in_all[1], rtol=1e-6, atol=0)
        torch.testing.assert_close(weights.mean(dim=0), torch.ones(2, dtype=torch.float64))
    assert not torch.allclose(balanced(output, batch), plain(output, batch))


@pytest.mark.parametrize("options", [{}, {"focal_gamma": 1.5}, {"label_smoothing": 0.1}])
def test_branches_count_only_where_a_model_has_them_and_are_worse(
    batch: Batch, output: Output, options: dict[str, float]
) -> None:
    losses = objective(batch, **options)
    click, worse = output.logits[:, 0], 2.0 - 9.0 * output.logits
    main = losses(output, batch)
    # Branches that are no worse than the whole add nothing; worse ones do.
    same = Output(output.logits, output.logits, {"deep": click, "shallow": click})
    torch.testing.assert_close(losses(same, batch), main)
    deep = losses(Output(worse, worse), batch)[0]
    assert deep > main[0]
    one = Output(output.logits, output.logits, {"deep": worse[:, 0], "shallow": click})
    expected = torch.stack([main[0] + (deep - main[0]) * deep, main[1]])
    torch.testing.assert_close(losses(one, batch), expected)


@pytest.mark.parametrize("within", ["group", "batch"])
@pytest.mark.parametrize(
    ("name", "loss"), [("bpr", bpr_loss), ("regression_compatible", regression_compatible_loss)]
)
def test_ranking_and_calibration_are_joined_by_weight(
    batch: Batch, output: Output, name: str, loss: Any, within: str
) -> None:
    groups = torch.arange(60) % 7
    ranking = {"name": name, "weight": 0.3, "within": within}
    found = objective(batch, ranking=ranking)(output, batch, groups)
    plain = objective(batch)(output, batch)
    ranked = loss(
        output.logits[:, 0], batch.labels[:, 0], batch.weight, groups if within == "group" else None
    )
    torch.testing.assert_close(found, torch.stack([0.7 * plain[0] + 0.3 * ranked, plain[1]]))


LOSSES: dict[str, dict[str, Any]] = {
    "log loss": {},
    "focal": {"focal_gamma": 2.0, "focal_alpha": 0.3},
    "class-balanced": {"class_balanced_beta": 0.9},
    "class-balanced, clicked": {"class_balanced_beta": 0.9, "conversion": {"name": "clicked"}},
    "smoothing": {"label_smoothing": 0.2},
    "ips": {"conversion": {"name": "ips", "weight": 0.7}},
    "dr": {"conversion": {"name": "dr", "weight": 0.7}},
    "bpr": {"ranking": {"name": "bpr", "within": "batch"}},
    "bpr, groups": {"ranking": {"name": "bpr"}},
    "regression-compatible": {"ranking": {"name": "regression_compatible", "within": "batch"}},
    "regression-compatible, groups": {"ranking": {"name": "regression_compatible"}},
    "distillation": {"distillation": {"teacher": "t.pt", "temperature": 2.0}},
    "branches": {},
}


@pytest.mark.parametrize("balancing", ["fixed", "uncertainty", "gradnorm"])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_of_weight_c_teaches_what_c_rows_teach(
    batch: Batch, output: Output, loss: str, balancing: str
) -> None:
    """Losses and their gradients on a whole batch, a weight of 0 included."""
    counts = torch.arange(60) % 4
    teacher, groups = output.logits.flip(0), torch.arange(60) % 7

    def gradients(rows: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
        shared = torch.nn.Linear(2, 2).double()
        torch.nn.init.eye_(shared.weight)
        torch.nn.init.zeros_(shared.bias)
        model = torch.nn.Sequential(shared)
        logits = model(output.logits[rows])
        auxiliary = {"imputation.conversion": logits.sum(dim=1)}
        if loss == "branches":
            auxiliary |= {"deep": 2.0 * logits[:, 0], "shallow": logits[:, 0] - logits[:, 1]}
        empty = torch.empty(len(rows), 0)
        chosen = Batch(empty, empty, {}, batch.labels[rows], weight)
        of = objective(chosen, **LOSSES[loss])
        taught = teacher[rows] if of.config.distillation is not None else None
        losses = of(Output(logits, logits, auxiliary), chosen, groups[rows], taught)
        config: Any = {"fixed": FixedConfig, "uncertainty": UncertaintyConfig, "gradnorm": GradNormConfig}
        balancer = build_balancer(config[balancing](), TASKS).double()
        balancer.observe(losses, logits, model)
        balancer(losses).backward()
        learnt = [parameter.grad for parameter in (*model.parameters(), *balancer.parameters())]
        return [losses.detach(), *(gradient for gradient in learnt if gradient is not None)]

    once = gradients(torch.arange(60), counts.double())
    rows = torch.arange(60).repeat_interleave(counts)
    repeated = gradients(rows, torch.ones(len(rows), dtype=torch.float64))
    assert len(once) >= 3
    for found, expected in zip(once, repeated, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_teacher_alone_is_matched_best_by_its_own_logits(batch: Batch, output: Output) -> None:
    teacher = output.logits.flip(0)
    taught = objective(batch, distillation={"teacher": "t.pt", "weight": 1.0, "temperature": 2.0})
    logits = teacher.clone().requires_grad_()
    best = taught(Output(logits, logits), batch, teacher=teacher)
    best.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))
    assert (taught(output, batch, teacher=teacher) > best).all()
    half = objective(batch, distillation={"teacher": "t.pt", "weight": 0.25, "temperature": 2.0})
    expected = 0.75 * objective(batch)(output, batch) + 0.25 * taught(output, batch, teacher=teacher)
    torch.testing.assert_close(half(output, batch, teacher=teacher), expected)


def test_what_tasks_and_features_lack_is_told(batch: Batch) -> None:
    for name in ("clicked", "ips", "dr"):
        with pytest.raises(ConfigError, match=f"conversion is '{name}', but 'click' is the only task"):
            objective(batch, ("click",), conversion={"name": name})
    config = LossConfig.model_validate({"ranking": {"name": "bpr"}})
    with pytest.raises(ConfigError, match=r"Set features\.group, or training\.loss\.ranking\.within=batch"):
        Objective(config, TASKS, batch.labels, batch.weight, grouped=False, taught=False)
    config = LossConfig.model_validate({"distillation": {"teacher": "t.pt"}})
    with pytest.raises(ConfigError, match="one is missing"):
        Objective(config, TASKS, batch.labels, batch.weight, grouped=False, taught=False)


def test_a_model_without_imputation_cannot_be_doubly_robust(batch: Batch, output: Output) -> None:
    doubly_robust = objective(batch, conversion={"name": "dr"})
    with pytest.raises(ConfigError, match=r"Set model\.heads to \{name: esmm, imputation: true\}"):
        doubly_robust(Output(output.logits, output.logits), batch)


def test_a_config_is_strict() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'conversion\.ips\.wieght'\. Did you mean 'weight'"):
        build(LossConfig, {"conversion": {"name": "ips", "wieght": 1.0}})
    with pytest.raises(ConfigError, match="'ips'"):
        build(LossConfig, {"conversion": {"name": "ipsw"}})
    with pytest.raises(ConfigError, match="both weight the classes"):
        build(LossConfig, {"focal_alpha": 0.25, "class_balanced_beta": 0.99})
    with pytest.raises(ValidationError, match="frozen"):
        LossConfig().focal_gamma = 1.0
