"""Mixtures with learned shares: experts behind gates, and information that one task passes to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from ctrkit.nn.mlp import MLP

ValueT = TypeVar("ValueT")


class ExpertGate(nn.Module):
    """Shares of experts for each row: g(x) = softmax(W x), without a bias (Ma et al., "Modeling Task
    Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018).

    A single expert has the share 1 for every row. Its gate has no weights, because they could learn nothing.
    """

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__()
        self.scores = nn.Linear(inputs, experts, bias=False) if experts > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """`[B, inputs] -> [B, experts]`, rows sum to 1."""
        return torch.softmax(self.scores(x), dim=-1) if self.scores is not None else x.new_ones(len(x), 1)


def mixture(shares: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Σ_e share_e · value_e: `[B, E]` and E times `[B, D]` to `[B, D]`."""
    mixed = shares[:, :1] * values[0]
    for expert, value in enumerate(values[1:], start=1):  # faster than a small product of matrices a row
        mixed = torch.addcmul(mixed, shares[:, expert : expert + 1], value)
    return mixed


class ExtractionGates(nn.Module):
    """The gates of an extraction layer of PLE, its "customized gate control" (Tang et al., "Progressive
    Layered Extraction", RecSys 2020).

    There is one state for each task, and a shared state. The gate of a task mixes the task's own experts and
    the shared experts. The gate of the shared state mixes all experts. Nothing reads the shared state after
    the last layer, or where no expert is shared; then it has no gate.

    Args:
        inputs: width of what the gates read.
        tasks: T.
        task_experts: number of experts of each task.
        shared_experts: number of experts that all tasks share.
        last: whether this is the last layer.

    Attributes:
        owners: for each expert the number of its task, or T for shared experts, which are last.
        members: for each state that the layer makes, the numbers of the experts mixed in it.
    """

    def __init__(self, inputs: int, tasks: int, task_experts: int, shared_experts: int, last: bool) -> None:
        super().__init__()
        self.owners = [task for task in range(tasks) for _ in range(task_experts)] + [tasks] * shared_experts
        self.members = [
            [expert for expert, owner in enumerate(self.owners) if owner in (task, tasks)]
            for task in range(tasks)
        ]
        if shared_experts and not last:
            self.members.append(list(range(len(self.owners))))
        self.gates = nn.ModuleList(ExpertGate(inputs, len(members)) for members in self.members)

    def forward(
        self, states: Sequence[Tensor], values: Sequence[ValueT]
    ) -> list[tuple[Tensor, list[ValueT]]]:
        """Shares and members of each state that the layer makes.

        Args:
            states: inputs of the gates: `[B, inputs]` for each task and for the shared state.
            values: outputs of the experts.

        Returns:
            For each state the shares `[B, E]` and the values of its E experts.
        """
        return [
            (gate(state), [values[expert] for expert in members])
            for gate, state, members in zip(self.gates, states, self.members, strict=False)
        ]


class ExtractionLayer(nn.Module):
    """An extraction layer of PLE whose experts are perceptrons, each of which reads its owner's state.

    Args:
        gates: gates of the layer.
        inputs: width of the states.
        widths: layer widths of each expert; the last one is the width of the states that follow.
        dropout: dropout rate in the experts.
    """

    def __init__(self, gates: ExtractionGates, inputs: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.gates = gates
        self.experts = nn.ModuleList(MLP(inputs, widths, dropout) for _ in gates.owners)

    def forward(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The states after the layer: `[B, inputs]` each to `[B, widths[-1]]` each."""
        values = [
            expert(states[owner]) for expert, owner in zip(self.experts, self.gates.owners, strict=True)
        ]
        return [mixture(shares, members) for shares, members in self.gates(states, values)]


class InformationTransfer(nn.Module):
    """Adaptive information transfer of AITM (Xi et al., "Modeling the Sequential Dependence among Audience
    Multi-step Conversions", KDD 2021, arXiv 2105.08489).

        p = g(z of the task before)        the information that is passed on
        z = Σ_{u ∈ {p, q}} w_u h₁(u),      w = softmax(<h₂(u), h₃(u)> / √width)

    q is the task's own vector. g is a linear layer with ReLU. h₁, h₂ and h₃ are linear layers without bias.

    Args:
        width: width of every vector.
        dropout: dropout rate of the information that is passed on.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.information = MLP(width, (width,), dropout)
        self.value = nn.Linear(width, width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, previous: Tensor, own: Tensor) -> Tensor:
        """z of this task, from z of the task before and q of this task: `[B, width]` each."""
        both = torch.stack([self.information(previous), own], dim=1)  # [B, 2, width]
        scores = (self.query(both) * self.key(both)).sum(dim=-1) / both.shape[-1] ** 0.5
        return mixture(torch.softmax(scores, dim=1), self.value(both).unbind(dim=1))
