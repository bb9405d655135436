"""The tower of the value, over all heads: it reads the last task, and starts at the training rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ctrkit.models.heads.config import TowersConfig
from ctrkit.models.heads.towers import LEAST_DEVIATION, ValueTower
from tests.models.heads.toys import KINDS, TASKS, kind, make, rows

every_kind = pytest.mark.parametrize("content", KINDS, ids=kind)
every_backbone = pytest.mark.parametrize(
    "backbone",
    [{}, {"logit_terms": 2}, {"per_task": True}, {"per_task": True, "logit_terms": 1}],
    ids=["vector", "logit_terms", "vector a task", "both"],
)


@every_kind
@every_backbone
@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS], ids=len)
def test_the_value_changes_nothing_else_and_reaches_every_weight_of_its_own(
    content: dict[str, Any], backbone: dict[str, Any], tasks: tuple[str, ...]
) -> None:
    content = {**content, "towers": [8]}
    without, heads = make(content, tasks, **backbone), make(content, tasks, value=True, **backbone)
    assert without.value is None
    own = {name: one for name, one in heads.state_dict().items() if name.startswith("value.")}
    heads.load_state_dict({**without.state_dict(), **own}, strict=True)
    output = heads(rows(40))
    assert torch.equal(output.logits, without(rows(40)).logits)
    assert output.value.shape == (40, 3)
    assert bool((output.value[:, 2] > LEAST_DEVIATION).all())
    output.value.square().sum().backward()
    for name, parameter in heads.value.named_parameters():
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("name", ["esmm", "aitm", "ple"])
def test_the_value_reads_what_the_last_task_reads(name: str) -> None:
    """Below the towers, the value has a gradient in the same weights as the last task."""
    heads = make({"name": name}, value=True, logit_terms=1)
    heads(rows(40)).logits[:, -1].sum().backward()
    of_task = {n for n, p in heads.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    heads.zero_grad(set_to_none=True)
    heads(rows(40)).value.sum().backward()
    of_value = {n for n, p in heads.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert {n for n in of_task if not n.startswith("towers.")} == {
        n for n in of_value if not n.startswith("value.")
    }


@every_kind
@pytest.mark.parametrize("terms", [0, 2])
def test_a_row_of_zeros_starts_at_the_distribution_given(content: dict[str, Any], terms: int) -> None:
    heads = make({**content, "towers": [6]}, value=True, logit_terms=terms)
    for name, parameter in heads.named_parameters():
        if name.endswith("bias") and "layer.bias" not in name:
            torch.nn.init.zeros_(parameter)
    heads.start_at([-4.0, -2.5, 0.5])
    heads.value.start_from(0.8, 3.0, 1.5)
    started = heads(rows(2, 0.0)).value
    torch.testing.assert_close(started, torch.tensor([[math.log(4.0), 3.0, 1.5]] * 2, dtype=torch.float64))


def test_without_zeros_the_value_is_above_0_for_certain_and_equal_values_have_a_deviation() -> None:
    torch.manual_seed(0)
    tower = ValueTower(3, TowersConfig(name="esmm"))
    tower.start_from(1.0, 2.0, 0.0)
    found = tower(torch.randn(50, 3), torch.zeros(50, 0))
    assert found[:, 0].double().sigmoid().unique().tolist() == [1.0]
    assert bool((found[:, 2] > LEAST_DEVIATION).all())
    assert bool((found[:, 2] < 4 * LEAST_DEVIATION).all())
