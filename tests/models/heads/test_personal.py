"""PEPNet's gates: by loops, from the formulas of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctrkit.config import build
from ctrkit.errors import ConfigError
from ctrkit.models import model_config
from ctrkit.models.heads.config import SharedBottomConfig
from ctrkit.models.heads.personal import EmbeddingGates
from tests.models.heads.toys import FLAT, TASKS, WIDTH, make, rows, shape_of
from tests.models.test_contract import FULL
from tests.models.test_contract import make as make_model

GATES = {"scale": ["embeddings", "towers"], "domain": ["price"], "prior": ["item"], "hidden": [5]}
Floats = NDArray[np.float64]


def array(x: Tensor) -> Floats:
    return x.detach().numpy()


def linear(layer: Any, x: Floats) -> Floats:
    return array(layer.weight) @ x + array(layer.bias)


def gates_of(gate: Any, x: Floats) -> Floats:
    """The paper's gate unit: 2 sigmoid(W' ReLU(W x + b) + b')."""
    return 2 / (1 + np.exp(-linear(gate.gates, np.maximum(linear(gate.mlp[0], x), 0))))


@pytest.mark.parametrize("scale", [["embeddings"], ["towers"], ["embeddings", "towers"]])
def test_pepnet_by_loops(scale: list[str]) -> None:
    named = {key: GATES[key] for key, of in (("domain", "embeddings"), ("prior", "towers")) if of in scale}
    gates = {"scale": scale, "hidden": [5], **named}
    heads: Any = make({"name": "esmm", "towers": [6, 7], "gates": gates}, logit_terms=1)
    inputs = rows()
    found = array(heads(inputs).logits)
    item, price = array(inputs.fields[:, 0]), array(inputs.fields[:, 1])
    for b, x in enumerate(array(inputs.vectors.flatten(1))):
        embeddings = x
        if heads.embedding_gates is not None:
            embeddings = x * gates_of(heads.embedding_gates.gate, np.concatenate([price[b], x]))
        for task, (toy, tower) in enumerate(zip(heads.backbones, heads.task_towers, strict=True)):
            vector, term = array(toy.vector.weight) @ embeddings, linear(toy.term, embeddings)
            hidden = vector
            for number, layer in enumerate((tower.tower[0], tower.tower[3])):
                hidden = np.maximum(linear(layer, hidden), 0)
                if "towers" in scale:
                    hidden = hidden * gates_of(tower.gates[number], np.concatenate([item[b], vector]))
            expected = linear(tower.layer, np.concatenate([hidden, term]))
            np.testing.assert_allclose(found[b, task], expected[0], rtol=1e-8)


def test_open_gates_change_nothing() -> None:
    heads: Any = make({"name": "shared_bottom", "towers": [6], "gates": GATES})
    for gate in (heads.embedding_gates.gate, *(tower.gates[0] for tower in heads.towers)):
        torch.nn.init.zeros_(gate.gates.weight)
        torch.nn.init.zeros_(gate.gates.bias)
    plain = make({"name": "shared_bottom", "towers": [6]})
    own = {name: value for name, value in heads.state_dict().items() if "gate" not in name}
    plain.load_state_dict(own, strict=True)
    torch.testing.assert_close(heads(rows()).logits, plain(rows()).logits)


def test_gates_send_no_gradient_to_what_they_scale() -> None:
    heads: Any = make({"name": "shared_bottom", "towers": [6], "gates": GATES})
    inputs = rows()
    inputs.readings.requires_grad_()
    heads.embedding_gates(inputs).vectors.sum().backward()
    embeddings = inputs.vectors.flatten(1)
    context = torch.cat([inputs.fields[:, 1], embeddings], dim=1).detach()
    factors = heads.embedding_gates.gate(context)[:, 2 * WIDTH :]
    torch.testing.assert_close(inputs.readings.grad, factors.reshape(-1, 1, FLAT - 2 * WIDTH))
    tower, vector = heads.towers[0], torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    prior = torch.randn(3, WIDTH, dtype=torch.float64)
    factor = tower.gates[0](torch.cat([prior, vector], dim=1)).detach()
    terms = vector.new_zeros(3, 0)
    (found,) = torch.autograd.grad(tower.hidden(vector, terms, prior).sum(), vector)
    (expected,) = torch.autograd.grad((tower.tower(vector) * factor).sum(), vector)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_the_prior_is_read_as_it_was_before_the_gates_on_embeddings() -> None:
    heads: Any = make({"name": "shared_bottom", "towers": [6], "gates": GATES})
    inputs = rows()
    heads.embedding_gates.gate.gates.weight.zero_()
    heads.embedding_gates.gate.gates.bias.fill_(-1e9)  # nothing is left of the embeddings
    heads.towers[0].tower[0].bias.fill_(1.0)
    assert len(heads(inputs).logits[:, 0].unique()) == len(inputs.fields)


@pytest.mark.parametrize(("profile", "fields"), [(("price",), 1), ((), 2)])
def test_the_profile_sets_the_gates_by_default(profile: tuple[str, ...], fields: int) -> None:
    shape = shape_of(TASKS)
    shape = replace(shape, feature_map=replace(shape.feature_map, profile=profile))
    config = build(SharedBottomConfig, {"name": "shared_bottom", "gates": {"scale": ["embeddings"]}})
    assert EmbeddingGates(config.gates, shape).domain.outputs == fields * WIDTH


@pytest.mark.parametrize(
    ("model", "heads", "message"),
    [
        ("dnn", {"gates": {"scale": ["towers"]}}, "'towers' needs hidden layers"),
        ("dnn", {"gates": {"domain": ["hour"]}}, "nothing reads these fields without 'embeddings'"),
        ("dnn", {"gates": {"scale": ["embeddings"], "prior": ["hour"]}}, "without 'towers'"),
        ("dnn", {"gates": {"scale": ["embedding"]}}, "embeddings"),
        ("dnn", {"gates": {"scale": ["embeddings"], "domain": ["hours"]}}, "Did you mean 'hour'"),
        ("dnn", {"towers": [8], "gates": {"scale": ["towers"], "prior": ["userr"]}}, "Did you mean 'user'"),
        ("lr", {"gates": {"scale": ["embeddings"]}}, "this model reads none"),
    ],
)
def test_what_cannot_be_built(model: str, heads: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_model({"name": model, "heads": {"name": "shared_bottom", **heads}}, FULL)


def test_configs_survive_their_dump() -> None:
    config = model_config({"name": "dnn", "heads": {"towers": [8], "gates": GATES}})
    assert model_config(config.model_dump()) == config
    assert config.heads.gates.domain == ("price",)
