"""Fusion of several branches of equal width into one vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Operation: TypeAlias = Literal["add", "product", "concatenation", "attention"]
OPERATIONS: tuple[Operation, ...] = ("add", "product", "concatenation", "attention")


class FusionOperations(nn.Module):
    """The fusion operations of OptFusion (Zhang et al., WSDM 2025, arXiv 2411.15731) over n branches:

    sum, product, concatenation with a linear layer, and attention: the sum of softmax(linear(x)) * x over
    the branches. The softmax runs over dimensions and is scaled by their number, so that its weights are 1
    on average and no operation starts out weaker than the others.

    A gate of 0 disconnects a branch. The branch is then left out, not set to zero: a product skips it.

    Args:
        branches: n, the number of branches.
        width: width of each branch and of the result.
        operations: which operations to use.
    """

    def __init__(self, branches: int, width: int, operations: Sequence[Operation] = OPERATIONS) -> None:
        super().__init__()
        self.operations = tuple(operations)
        if "concatenation" in operations:
            self.concatenation = nn.Linear(branches * width, width)
        if "attention" in operations:
            self.attention = nn.ModuleList(nn.Linear(width, width) for _ in range(branches))

    def forward(self, branches: Tensor, gates: Tensor | None = None) -> Tensor:
        """The result of each operation.

        Args:
            branches: `[B, n, width]`.
            gates: `[n]`, 1 where a branch is connected and 0 where it is not; None for all connected.

        Returns:
            `[B, operations, width]`.
        """
        connected = branches if gates is None else gates.unsqueeze(-1) * branches
        results = []
        for operation in self.operations:
            if operation == "add":
                results.append(connected.sum(dim=1))
            elif operation == "product":
                # A factor of 1 where a branch is not connected.
                factors = branches if gates is None else connected + (1 - gates).unsqueeze(-1)
                results.append(_product(factors))
            elif operation == "concatenation":
                results.append(self.concatenation(connected.flatten(1)))
            else:
                results.append(self._attended(branches, connected))
        return torch.stack(results, dim=1)

    def _attended(self, branches: Tensor, connected: Tensor) -> Tensor:
        scores = torch.stack(
            [score(x) for score, x in zip(self.attention, branches.unbind(1), strict=True)], 1
        )
        return (torch.softmax(scores, dim=-1) * branches.shape[-1] * connected).sum(dim=1)


def _product(factors: Tensor) -> Tensor:
    """The product over the branches, whose gradient is exact where factors are zero."""
    first, *others = factors.unbind(1)
    for factor in others:
        first = first * factor
    return first


class SoftFusion(nn.Module):
    """A learned softmax mixture of the four fusion operations: OptFusion's "soft" form without gates."""

    def __init__(self, branches: int, width: int) -> None:
        super().__init__()
        self.operations = FusionOperations(branches, width)
        self.mixture = nn.Parameter(torch.zeros(len(OPERATIONS)))

    def forward(self, branches: Tensor) -> Tensor:
        """`[B, n, width] -> [B, width]`."""
        # Runtimes of graphs take twenty times as long for a product with so short a vector.
        mixed: Tensor = (self.operations(branches) * torch.softmax(self.mixture, dim=0)[:, None]).sum(dim=1)
        return mixed

    def weights(self) -> dict[str, float]:
        """The share of each operation in the mixture."""
        shares = torch.softmax(self.mixture.detach(), dim=0).tolist()
        return dict(zip(OPERATIONS, shares, strict=True))


class FusionSearch(nn.Module):
    """The search of OptFusion: which branches to connect, and which operation joins them.

    A branch with score alpha has the gate 1[alpha > 0], with the gradient passed straight through. The
    operations are mixed by softmax(beta). Both are learned together with the weights. The branch of the
    highest score always stays connected, so that there is something to fuse.

    Scores must move faster than weights, or the search finds nothing before training ends. The optimizer has
    one learning rate, so the parameters of the scores are amplified. For an optimizer that ignores the size
    of a gradient (Adam) this is a learning rate of `speed` times the common one.

    Args:
        branches: n, the number of branches.
        width: width of each branch and of the result.
        start: initial alpha, as published.
        speed: learning rate of the scores over the common one.
    """

    def __init__(self, branches: int, width: int, start: float = 0.5, speed: float = 100.0) -> None:
        super().__init__()
        self.operations = FusionOperations(branches, width)
        self.speed = speed
        self.alpha = nn.Parameter(torch.full((branches,), start / speed))
        self.beta = nn.Parameter(torch.zeros(len(OPERATIONS)))

    def forward(self, branches: Tensor) -> Tensor:
        """`[B, n, width] -> [B, width]`."""
        open_ = self._open().to(self.alpha.dtype)
        gates = open_ + (self.alpha - self.alpha.detach())  # the value of one, the gradient of the other
        beta = self.beta + (self.speed - 1) * self.beta.detach()
        mixed: Tensor = (self.operations(branches, gates) * torch.softmax(beta, dim=0)[:, None]).sum(dim=1)
        return mixed

    def _open(self) -> Tensor:
        best = torch.arange(len(self.alpha), device=self.alpha.device) == self.alpha.detach().argmax()
        return (self.alpha.detach() > 0) | best

    def found(self) -> tuple[list[int], Operation]:
        """The branches that are connected, and the operation of the highest score."""
        return self._open().nonzero().flatten().tolist(), OPERATIONS[int(self.beta.argmax())]


class DerivedFusion(nn.Module):
    """The result of a search: one operation over the branches that stayed connected."""

    def __init__(self, branches: int, width: int, operation: Operation) -> None:
        super().__init__()
        self.operation = FusionOperations(branches, width, (operation,))

    def forward(self, branches: Tensor) -> Tensor:
        """`[B, n, width] -> [B, width]`."""
        result: Tensor = self.operation(branches)
        return result.squeeze(1)


class ContextGate(nn.Module):
    """`g * a + (1 - g) * b` with g = sigmoid(linear([a, b, context])) for each dimension.

    Args:
        width: width of both branches.
        context: width of the context, the user's profile for instance.
    """

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width + context, width)

    def forward(self, branches: Tensor, context: Tensor) -> Tensor:
        """`[B, 2, width], [B, context] -> [B, width]`."""
        a, b = branches.unbind(1)
        g = torch.sigmoid(self.gate(torch.cat([a, b, context], dim=-1)))
        return g * a + (1 - g) * b
