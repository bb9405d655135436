"""A backbone small enough to follow by hand, and what heads need to be built on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctrkit.config import build
from ctrkit.data.feature_map import FeatureMap
from ctrkit.models.base import Backbone, Inputs, InputShape, Representation
from ctrkit.models.heads.base import HEADS, Heads
from ctrkit.nn.batches import Batch

TASKS = ("click", "cart", "purchase")
FIELDS, READINGS, WIDTH = 2, 1, 3
FLAT = (FIELDS + READINGS) * WIDTH

# One of each kind, with all that changes their shape.
KINDS: list[dict[str, Any]] = [
    {"name": "shared_bottom"},
    {"name": "shared_bottom", "gates": {"scale": ["embeddings"], "domain": ["price"]}},
    {"name": "esmm"},
    {"name": "mmoe", "experts": 3},
    {"name": "mmoe", "experts": 2, "bottom": "shared", "expert_widths": [5]},
    {"name": "ple", "layers": 1, "task_experts": 2},
    {"name": "ple", "layers": 2, "expert_widths": [5]},
    {"name": "ple", "layers": 1, "shared_experts": 0},
    {"name": "ple", "layers": 2, "bottom": "shared", "expert_widths": [5], "shared_experts": 2},
    {"name": "aitm"},
    {"name": "aitm", "bottom": "shared", "task_widths": [5]},
]


def kind(content: dict[str, Any]) -> str:
    """A test's name."""
    return "-".join(str(value) for value in content.values())


class Toy(Backbone):
    """Linear layers: `[B, FLAT]` to a vector (one for each task where asked) and to logit terms with biases.

    Without inputs (all zeros) the vector is zero, and each term is its bias.
    """

    def __init__(self, outputs: int, logit_terms: int, vectors: int | None) -> None:
        nn.Module.__init__(self)
        self.outputs, self.logit_terms, self.term_weight = outputs, logit_terms, 0.5
        self.vectors = vectors
        size = outputs * (vectors or 1)
        self.vector = nn.Linear(FLAT, size, bias=False) if size else None
        self.term = nn.Linear(FLAT, logit_terms) if logit_terms else None

    def forward(self, inputs: Inputs) -> Representation:
        x = inputs.vectors.flatten(1)
        vector = self.vector(x) if self.vector is not None else x[:, :0]
        if self.vectors is not None:
            vector = vector.unflatten(1, (self.vectors, self.outputs))
        if self.term is None:
            return Representation.of(vector)
        terms = self.term(x)
        return Representation(vector, terms, {"deep": terms[:, 0], "shallow": terms[:, -1]})

    def start_at(self, logit: float) -> float:
        """A part of the logit, so that the last layer has to add the rest."""
        if self.term is None:
            return logit
        nn.init.constant_(self.term.bias, logit)
        return logit - self.logit_terms * self.term_weight * logit


def shape_of(tasks: tuple[str, ...], *, value: bool = False) -> InputShape:
    """The shape of `rows`."""
    feature_map = FeatureMap({"item": 9}, {"item": "item"}, numeric=("price",), tasks=tasks, value=value)
    return InputShape(feature_map, WIDTH, FIELDS, READINGS, None)


def make(
    content: dict[str, Any],
    tasks: tuple[str, ...] = TASKS,
    *,
    outputs: int = 4,
    logit_terms: int = 0,
    per_task: bool = False,
    value: bool = False,
    seed: int = 0,
) -> Heads:
    """Heads over toys, in double precision."""
    torch.manual_seed(seed)
    heads, shape = HEADS[content["name"]], shape_of(tasks, value=value)
    vectors = len(tasks) if per_task else None
    made = heads(build(heads.config_class, content), lambda: Toy(outputs, logit_terms, vectors), shape)
    return made.double()


def rows(count: int = 6, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Inputs:
    """Random inputs."""
    generator = torch.Generator().manual_seed(1)
    vectors = scale * torch.randn(count, FIELDS + READINGS, WIDTH, generator=generator, dtype=dtype)
    empty = torch.zeros(count, 0)
    return Inputs(
        Batch(empty.int(), empty, {}, empty, torch.ones(count)), vectors[:, :2], vectors[:, 2:], None
    )


def carry(source: nn.Module, target: nn.Module, renamed: dict[str, str]) -> None:
    """Load all weights of a module into another, under other names: beginnings of names, old to new."""
    state: dict[str, Tensor] = {}
    for name, value in source.state_dict().items():
        old = next((old for old in renamed if name.startswith(old)), "")
        state[renamed.get(old, "") + name.removeprefix(old)] = value
    target.load_state_dict(state, strict=True)
