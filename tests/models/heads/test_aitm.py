from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctrkit.models.heads.aitm import AITM
from tests.models.heads.toys import TASKS, carry, make, rows


def array(x: Tensor) -> NDArray[np.float64]:
    return x.detach().numpy()


@pytest.mark.parametrize("bottom", ["own", "shared"])
@pytest.mark.parametrize("per_task", [False, True])
def test_aitm_by_loops(bottom: str, per_task: bool) -> None:
    content = {"name": "aitm", "bottom": bottom, "task_widths": [5]}
    heads, inputs = make(content, logit_terms=1, per_task=per_task), rows()
    assert isinstance(heads, AITM)
    output = heads(inputs)
    for b, x in enumerate(array(inputs.vectors.flatten(1))):
        z = np.zeros(0)
        for task, layer in enumerate(heads.task_layers):
            toy = heads.backbones[task if bottom == "own" else 0]
            q = (array(toy.vector.weight) @ x).reshape(-1, 4)[task if per_task else 0]
            if bottom == "shared":
                linear = heads.branches[task][0]
                q = np.maximum(array(linear.weight) @ q + array(linear.bias), 0)
            if task:
                transfer = heads.transfers[task - 1]
                handed = transfer.information[0]
                p = np.maximum(array(handed.weight) @ z + array(handed.bias), 0)
                scores = [
                    (array(transfer.query.weight) @ u) @ (array(transfer.key.weight) @ u) / len(u) ** 0.5
                    for u in (p, q)
                ]
                shares = np.exp(scores) / np.exp(scores).sum()
                z = array(transfer.value.weight) @ (shares[0] * p + shares[1] * q)
            else:
                z = q
            term = array(toy.term.weight) @ x + array(toy.term.bias)
            expected = array(layer.weight)[0] @ np.concatenate([z, term]) + array(layer.bias)[0]
            np.testing.assert_allclose(output.logits[b, task].item(), expected, rtol=1e-10)


def test_information_goes_down_the_funnel_and_never_up() -> None:
    heads = make({"name": "aitm"})
    for task, logit in enumerate(heads(rows()).logits.unbind(dim=1)):
        heads.zero_grad(set_to_none=True)
        logit.sum().backward(retain_graph=True)
        read = [bool(toy.vector.weight.grad.any()) for toy in heads.backbones]
        assert read == [earlier <= task for earlier in range(3)]


def test_one_task_alone_is_as_in_esmm() -> None:
    aitm = make({"name": "aitm", "towers": [6]}, TASKS[:1], logit_terms=1)
    esmm = make({"name": "esmm", "towers": [6]}, TASKS[:1], logit_terms=1, seed=7)
    carry(aitm, esmm, {})
    torch.testing.assert_close(aitm(rows()).logits, esmm(rows()).logits)
