"""What all heads must do, over a backbone that gives all that a backbone can give."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.models import funnel_log_probabilities, model_config
from ctrkit.models.heads.base import HEADS
from tests.models.heads.toys import KINDS, TASKS, kind, make, rows

every_kind = pytest.mark.parametrize("content", KINDS, ids=kind)
every_backbone = pytest.mark.parametrize(
    "backbone",
    [{}, {"logit_terms": 2}, {"per_task": True}, {"per_task": True, "logit_terms": 1}],
    ids=["vector", "logit_terms", "vector a task", "both"],
)
every_funnel = pytest.mark.parametrize("tasks", [TASKS[:1], TASKS[:2], TASKS], ids=len)


def test_every_kind_is_here() -> None:
    assert {content["name"] for content in KINDS} == set(HEADS)


@every_kind
@every_backbone
@every_funnel
def test_shapes_gradients_and_the_last_layer(
    content: dict[str, Any], backbone: dict[str, Any], tasks: tuple[str, ...]
) -> None:
    for towers in ([], [32]):
        heads = make({**content, "towers": towers}, tasks, **backbone)
        output = heads(rows(40))
        assert output.logits.shape == (40, len(tasks))
        torch.testing.assert_close(heads.task_layers[0](output.hidden)[:, 0], output.logits[:, 0])
        assert set(output.auxiliary) == ({"deep", "shallow"} if backbone.get("logit_terms") else set())
        assert all(extra.shape == (40,) for extra in output.auxiliary.values())
        output.logits.square().sum().backward()
        for name, parameter in heads.named_parameters():
            assert parameter.grad is not None, name
            assert bool((parameter.grad != 0).any()), name


@every_kind
@every_funnel
def test_a_row_of_zeros_starts_at_the_logits_given(content: dict[str, Any], tasks: tuple[str, ...]) -> None:
    logits = [-4.0, -2.5, 0.5][: len(tasks)]
    for terms in (0, 1, 2):
        heads = make({**content, "towers": [6]}, tasks, logit_terms=terms)
        # Without biases a tower adds nothing to a row of zeros, and what is left is where the heads start.
        for name, parameter in heads.named_parameters():
            if name.endswith("bias") and "layer.bias" not in name:
                torch.nn.init.zeros_(parameter)
        heads.start_at(logits)
        started = heads(rows(2, 0.0)).logits
        torch.testing.assert_close(started, torch.tensor([logits] * 2, dtype=torch.float64))


@every_kind
def test_the_first_task_starts_with_the_terms(content: dict[str, Any]) -> None:
    heads = make(content, logit_terms=2)
    assert heads.task_layers[0].weight[0, -2:].tolist() == [0.5, 0.5]


@every_kind
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_a_product_is_never_above_its_factors(content: dict[str, Any], scale: float) -> None:
    logits = make(content, logit_terms=1).float()(rows(200, scale, torch.float32)).logits
    reached, given = funnel_log_probabilities(logits), torch.nn.functional.logsigmoid(logits)
    assert bool((reached <= given).all())
    assert bool((reached.diff(dim=1) <= 0).all())
    assert bool((reached.diff(dim=1) < 0).any())


@every_kind
def test_configs_survive_their_dump(content: dict[str, Any]) -> None:
    config = model_config({"name": "dnn", "heads": {**content, "towers": [8], "dropout": 0.25}})
    assert model_config(config.model_dump()) == config
    assert config.heads.name == content["name"]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"name": "mmo"}, "Did you mean 'mmoe'"),
        ({"name": "mmoe", "expert": 3}, "Did you mean 'experts'"),
        ({"name": "mmoe", "experts": 0}, "at least 1"),
        ({"name": "mmoe", "bottom": "common"}, "Known names: own, shared"),
        ({"name": "mmoe", "expert_widths": []}, "at least 1"),
        ({"name": "ple", "task_experts": 0, "shared_experts": 0}, "the tasks have nothing to read"),
        ({"name": "ple", "layers": 0}, "at least 1"),
        ({"name": "aitm", "task_widths": [0]}, "above 0"),
    ],
)
def test_wrong_configs_say_what_is_meant(heads: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_config({"name": "dnn", "heads": heads})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({"name": "esmm", "towers": [4]}, "heads.towers"),
        ({"name": "mmoe", "bottom": "shared"}, "experts"),
        ({"name": "ple", "layers": 2}, "experts"),
        ({"name": "aitm"}, "information transfer"),
    ],
)
def test_a_ready_logit_is_not_read_as_a_vector(content: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=rf"{what}.* gives only logit terms"):
        make(content, outputs=0, logit_terms=1)


@pytest.mark.parametrize(
    "content", [{"name": "esmm"}, {"name": "mmoe"}, {"name": "ple", "layers": 1}], ids=kind
)
def test_ready_logits_alone_are_enough_for_the_others(content: dict[str, Any]) -> None:
    heads = make(content, outputs=0, logit_terms=1)
    assert heads(rows(3)).logits.isfinite().all()
