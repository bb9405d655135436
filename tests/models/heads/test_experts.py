"""MMoE and PLE: by loops, and by what they become when parts are left out."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.models import Output
from ctrkit.models.heads.mmoe import MMoE
from ctrkit.models.heads.ple import PLE
from tests.models.heads.toys import TASKS, carry, kind, make, rows


def array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().numpy()


def assert_same(ours: Output, theirs: Output) -> None:
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.hidden, theirs.hidden)
    assert ours.auxiliary.keys() == theirs.auxiliary.keys()
    for name, value in ours.auxiliary.items():
        torch.testing.assert_close(value, theirs.auxiliary[name])


def softmax(gate: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = np.exp(array(gate.scores.weight) @ x)
    return scores / scores.sum()


def perceptron(layer: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(array(layer[0].weight) @ x + array(layer[0].bias), 0)


def test_mmoe_by_loops() -> None:
    heads, inputs = make({"name": "mmoe", "experts": 3}, logit_terms=2), rows()
    output = heads(inputs)
    for b, x in enumerate(array(inputs.vectors.flatten(1))):
        for task in range(3):
            read = np.zeros(6)
            for e, share in enumerate(softmax(heads.gates[task], x)):
                toy = heads.backbones[e]
                term = array(toy.term.weight) @ x + array(toy.term.bias)
                read += share * np.concatenate([array(toy.vector.weight) @ x, term])
            layer = heads.task_layers[task]
            expected = array(layer.weight)[0] @ read + array(layer.bias)[0]
            np.testing.assert_allclose(output.logits[b, task].item(), expected, rtol=1e-10)
            if task == 0:
                deep, shallow = (output.auxiliary[name][b].item() for name in ("deep", "shallow"))
                np.testing.assert_allclose([deep, shallow], read[-2:], rtol=1e-10)


@pytest.mark.parametrize("per_task", [False, True])
def test_mmoe_over_a_shared_bottom_by_loops(per_task: bool) -> None:
    content = {"name": "mmoe", "experts": 3, "bottom": "shared", "expert_widths": [5]}
    heads, inputs = make(content, logit_terms=1, per_task=per_task), rows()
    (toy,) = heads.backbones
    output = heads(inputs)
    for b, x in enumerate(array(inputs.vectors.flatten(1))):
        term = array(toy.term.weight) @ x + array(toy.term.bias)
        vectors = (array(toy.vector.weight) @ x).reshape(-1, 4)
        for task in range(3):
            vector = vectors[task if per_task else 0]
            shares = softmax(heads.gates[task], vector)
            read = sum(s * perceptron(e, vector) for s, e in zip(shares, heads.experts, strict=True))
            layer = heads.task_layers[task]
            expected = array(layer.weight)[0] @ np.concatenate([read, term]) + array(layer.bias)[0]
            np.testing.assert_allclose(output.logits[b, task].item(), expected, rtol=1e-10)


def test_mmoe_mixes_the_vectors_that_are_for_the_task() -> None:
    heads, inputs = make({"name": "mmoe", "experts": 2}, per_task=True), rows()
    x = inputs.vectors.flatten(1)
    for task in range(3):
        shares = heads.gates[task](x)
        vectors = [toy(inputs).vector[:, task] for toy in heads.backbones]
        read = shares[:, :1] * vectors[0] + shares[:, 1:] * vectors[1]
        torch.testing.assert_close(heads.task_layers[task](read)[:, 0], heads(inputs).logits[:, task])


@pytest.mark.parametrize("per_task", [False, True])
def test_mmoe_with_one_expert_is_a_shared_bottom(per_task: bool) -> None:
    common = {"towers": [6]}
    mmoe = make({"name": "mmoe", "experts": 1, **common}, logit_terms=2, per_task=per_task)
    bottom = make({"name": "shared_bottom", **common}, logit_terms=2, per_task=per_task, seed=7)
    carry(mmoe, bottom, {"backbones.0.": "backbone."})
    assert_same(mmoe(rows()), bottom(rows()))


def test_ple_by_loops() -> None:
    content = {"name": "ple", "layers": 3, "task_experts": 2, "shared_experts": 2, "expert_widths": [5]}
    heads, inputs = make(content, TASKS[:2], logit_terms=1), rows()
    own, members = [[0, 1], [2, 3]], [[0, 1, 4, 5], [2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]
    output = heads(inputs)
    for b, x in enumerate(array(inputs.vectors.flatten(1))):
        values = [array(toy.vector.weight) @ x for toy in heads.backbones]
        terms = [array(toy.term.weight) @ x + array(toy.term.bias) for toy in heads.backbones]
        gates = heads.first.gates
        shares = [softmax(gate, x) for gate in gates]
        term = [sum(s * terms[e] for s, e in zip(shares[t], members[t], strict=True)) for t in range(2)]
        for layer in heads.layers:
            states = [
                sum(s * values[e] for s, e in zip(of, in_it, strict=True))
                for of, in_it in zip(shares, members, strict=True)
            ]
            values = [
                perceptron(expert, states[0 if e in own[0] else 1 if e in own[1] else 2])
                for e, expert in enumerate(layer.experts)
            ]
            shares = [softmax(gate, state) for gate, state in zip(layer.gates.gates, states, strict=False)]
        for task, last in enumerate(heads.task_layers):
            read = sum(s * values[e] for s, e in zip(shares[task], members[task], strict=True))
            expected = array(last.weight)[0] @ np.concatenate([read, term[task]]) + array(last.bias)[0]
            np.testing.assert_allclose(output.logits[b, task].item(), expected, rtol=1e-10)


@pytest.mark.parametrize("per_task", [False, True])
def test_ple_without_shared_experts_is_separate_towers(per_task: bool) -> None:
    content = {"towers": [6]}
    ple = make({"name": "ple", "layers": 1, "shared_experts": 0, **content}, logit_terms=2, per_task=per_task)
    esmm = make({"name": "esmm", **content}, logit_terms=2, per_task=per_task, seed=7)
    carry(ple, esmm, {})
    assert_same(ple(rows()), esmm(rows()))
    for heads in (ple, esmm):
        heads.start_at([-3.0, -2.0, -1.0])
    assert_same(ple(rows()), esmm(rows()))


@pytest.mark.parametrize("layers", [1, 3])
def test_without_shared_experts_nothing_of_a_task_reaches_another(layers: int) -> None:
    content = {"name": "ple", "layers": layers, "shared_experts": 0, "task_experts": 2}
    heads = make(content, logit_terms=1)
    whole = list(heads.parameters())
    reached = [
        {
            position
            for position, gradient in enumerate(
                torch.autograd.grad(logit.sum(), whole, retain_graph=True, allow_unused=True)
            )
            if gradient is not None and bool(gradient.any())
        }
        for logit in heads(rows()).logits.unbind(dim=1)
    ]
    assert set.union(*reached) == set(range(len(whole)))
    assert sum(len(of_task) for of_task in reached) == len(whole)


def test_one_layer_of_ple_without_experts_of_the_tasks_is_mmoe() -> None:
    ple = make({"name": "ple", "layers": 1, "task_experts": 0, "shared_experts": 3}, logit_terms=2)
    mmoe = make({"name": "mmoe", "experts": 3}, logit_terms=2, seed=7)
    carry(ple, mmoe, {"first.gates.": "gates."})
    assert_same(ple(rows()), mmoe(rows()))


def test_one_layer_of_ple_over_a_shared_bottom_without_experts_of_the_tasks_is_mmoe() -> None:
    common = {"bottom": "shared", "expert_widths": [5, 4]}
    content = {"name": "ple", "layers": 1, "task_experts": 0, "shared_experts": 3, **common}
    ple, mmoe = (
        make(content, logit_terms=1),
        make({"name": "mmoe", "experts": 3, **common}, logit_terms=1, seed=7),
    )
    carry(ple, mmoe, {"layers.0.experts.": "experts.", "layers.0.gates.gates.": "gates."})
    assert_same(ple(rows()), mmoe(rows()))


def test_the_shared_state_gets_the_mean_of_a_vector_a_task() -> None:
    content = {"name": "ple", "layers": 2, "expert_widths": [5], "bottom": "shared"}
    several, inputs = make(content, per_task=True), rows()
    (toy,) = several.backbones
    bottom = toy(inputs).vector
    states = several.layers[1](several.layers[0]([*bottom.unbind(dim=1), bottom.mean(dim=1)]))
    logits = [layer(state) for layer, state in zip(several.task_layers, states, strict=True)]
    torch.testing.assert_close(several(inputs).logits, torch.cat(logits, dim=1))


@pytest.mark.parametrize("bottom", ["own", "shared"])
@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS], ids=len)
def test_no_weight_of_ple_is_dead(bottom: str, tasks: tuple[str, ...]) -> None:
    for layers, task_experts, shared_experts in product((1, 2, 3), (0, 1, 2), (0, 1, 2)):
        if not task_experts + shared_experts:
            continue
        content: dict[str, Any] = {
            "name": "ple",
            "bottom": bottom,
            "layers": layers,
            "task_experts": task_experts,
            "shared_experts": shared_experts,
        }
        heads = make(content, tasks)
        heads(rows(40)).logits.square().sum().backward()
        for name, parameter in heads.named_parameters():
            assert parameter.grad is not None, (kind(content), name)
            assert bool((parameter.grad != 0).any()), (kind(content), name)


def test_a_gate_moves_its_own_task_alone() -> None:
    heads = make({"name": "mmoe", "experts": 3})
    assert isinstance(heads, MMoE)
    before = heads(rows()).logits.detach()
    with torch.no_grad():
        heads.gates[1].scores.weight.mul_(-3)
    moved = (heads(rows()).logits != before).any(dim=0)
    assert moved.tolist() == [False, True, False]


def test_own_experts_of_a_task_are_not_read_by_another() -> None:
    heads = make({"name": "ple", "layers": 1, "task_experts": 1, "shared_experts": 1})
    assert isinstance(heads, PLE)
    before = heads(rows()).logits.detach()
    with torch.no_grad():
        heads.backbones[2].vector.weight.mul_(-3)  # the third task's
    assert (heads(rows()).logits != before).any(dim=0).tolist() == [False, False, True]
    with torch.no_grad():
        heads.backbones[3].vector.weight.mul_(-3)  # shared
    assert (heads(rows()).logits != before).any(dim=0).tolist() == [True, True, True]
