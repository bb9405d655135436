"""The weights of a fusion's branches or operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.explanations.features import chunks
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch
from ctrkit.nn.fusion import ContextGate, SoftFusion

_BATCH = 4096
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class FusionShares:
    """The weights of the operations in a `SoftFusion`, the same for every row.

    Attributes:
        name: the name of the fusion's module.
        shares: operation -> weight; the weights sum to 1.
    """

    name: str
    shares: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"name": self.name, "kind": "operations", "shares": self.shares}


@dataclass(frozen=True)
class GateDistribution:
    """The gate of a `ContextGate` over rows. The gate is the weight of the first of two branches.

    Attributes:
        name: the name of the fusion's module.
        first: the first branch.
        second: the second branch.
        by_row: the mean gate over dimensions, `[n]`.
        by_dimension: the mean gate over rows, `[width]`.
    """

    name: str
    first: str
    second: str
    by_row: Floats
    by_dimension: Floats

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "name": self.name,
            "kind": "gate",
            "branches": [self.first, self.second],
            "mean": float(self.by_row.mean()),
            "levels": list(LEVELS),
            "quantiles_over_rows": np.quantile(self.by_row, LEVELS).tolist(),
            "quantiles_over_dimensions": np.quantile(self.by_dimension, LEVELS).tolist(),
        }


FusionGate = FusionShares | GateDistribution


@torch.no_grad()
def fusion_gates(network: CtrModel, data: EncodedTable) -> tuple[FusionGate, ...]:
    """The gates of every fusion in a network, one per backbone; most models have none."""
    found: list[FusionGate] = []
    branches = _branches(network)
    gates: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, SoftFusion):
            found.append(FusionShares(name, module.weights()))
        elif isinstance(module, ContextGate):
            gates[name] = []
            handles.append(module.gate.register_forward_hook(_keep(gates[name])))
    if not handles:
        return tuple(found)
    try:
        network.eval()
        for rows in chunks(len(data), _BATCH):
            network(Batch.of(data, rows).to(network.device))
    finally:
        for handle in handles:
            handle.remove()
    for name, parts in gates.items():
        gate = torch.sigmoid(torch.cat(parts).double()).cpu().numpy()
        first, second = branches[name]
        found.append(GateDistribution(name, first, second, gate.mean(axis=1), gate.mean(axis=0)))
    return tuple(found)


def _keep(found: list[Tensor]) -> Any:
    return lambda module, inputs, output: found.append(output)


def _branches(network: CtrModel) -> dict[str, Sequence[str]]:
    """The name of each context gate's module -> the two branches that it fuses."""
    return {
        f"{name}.fusion": tuple(module.branches)
        for name, module in network.named_modules()
        if isinstance(getattr(module, "fusion", None), ContextGate)
        and isinstance(module.branches, nn.ModuleDict)
    }
