from __future__ import annotations

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.models.heads.esmm import ESMM
from tests.models.heads.toys import TASKS, make, rows


def test_esmm_is_a_tower_a_task_by_loops() -> None:
    heads, inputs = make({"name": "esmm"}, logit_terms=1), rows()
    output = heads(inputs)
    for b, x in enumerate(inputs.vectors.flatten(1)):
        for task, (toy, layer) in enumerate(zip(heads.backbones, heads.task_layers, strict=True)):
            read = torch.cat([toy.vector.weight @ x, toy.term.weight @ x + toy.term.bias])
            torch.testing.assert_close(output.logits[b, task], layer.weight[0] @ read + layer.bias[0])


def test_every_task_starts_with_its_own_terms() -> None:
    heads = make({"name": "esmm"}, logit_terms=2)
    assert [layer.weight[0, -2:].tolist() for layer in heads.task_layers] == [[0.5, 0.5]] * 3
    heads.start_at([-3.0, -2.0, -1.0])
    assert [toy.term.bias.tolist() for toy in heads.backbones] == [[-3.0] * 2, [-2.0] * 2, [-1.0] * 2]


@pytest.mark.parametrize("per_task", [False, True])
def test_imputation_towers(per_task: bool) -> None:
    plain = make({"name": "esmm", "towers": [6]}, logit_terms=2, per_task=per_task)
    heads = make({"name": "esmm", "towers": [6], "imputation": True}, logit_terms=2, per_task=per_task)
    assert isinstance(heads, ESMM)
    inputs = rows(40, 20.0)
    output = heads(inputs)
    assert set(output.auxiliary) == {"deep", "shallow", "imputation.cart", "imputation.purchase"}
    plain.load_state_dict(heads.state_dict(), strict=False)
    assert torch.equal(output.logits, plain(inputs).logits)
    for task, name in ((1, "cart"), (2, "purchase")):
        toy, tower = heads.imputation_backbones[task - 1], heads.imputation_towers[task - 1]
        made = toy(inputs)
        hidden = torch.cat([tower.tower(made.for_task(task)), made.logit_terms], dim=1)
        guess = output.auxiliary[f"imputation.{name}"]
        torch.testing.assert_close(guess, tower.layer(hidden)[:, 0])
        assert guess.min() < 0 < guess.max()  # as it is, of any sign


def test_imputation_learns_beside_the_tasks_and_not_through_them() -> None:
    heads = make({"name": "esmm", "imputation": True})
    output = heads(rows(40))
    sum(output.auxiliary[f"imputation.{task}"].sum() for task in TASKS[1:]).backward()
    trained = {name for name, parameter in heads.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in heads.named_parameters() if name.startswith("imputation_")}


def test_one_task_has_nothing_to_impute() -> None:
    with pytest.raises(ConfigError, match="'click' is the only one"):
        make({"name": "esmm", "imputation": True}, TASKS[:1])
