"""How a target weighs the events of a history."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ctrkit.arrays import Floats
from ctrkit.data.encoder import EncodedTable
from ctrkit.models import CtrModel
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.augru import AUGRU
from ctrkit.nn.batches import Batch


@torch.no_grad()
def attention_weights(network: CtrModel, data: EncodedTable) -> dict[str, Floats]:
    """The weights by which each row's target reads its past events.

    Those of "target_attention" and "din" have either sign and no fixed sum; those of "augru" sum to 1. A
    weight tells how much an event is read, not which way it moves the probability.

    Args:
        data: n rows, few enough for one batch.

    Returns:
        Pooling -> `[n, L]`, newest last, zero at padding; empty for a network without such a pooling.
    """
    found: dict[str, Floats] = {}

    def keep(name: str) -> Any:
        def hook(module: TargetAttention | AUGRU, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            target, events, mask = inputs  # a target a history: [n, 1, d], [n, L, d], [n, L]
            found[name] = module.weights(target, events, mask)[:, 0].double().cpu().numpy()

        return hook

    poolings = [
        (name.split(".")[-1], module)
        for name, module in network.named_modules()
        if isinstance(module, (TargetAttention, AUGRU))
    ]
    handles = [module.register_forward_pre_hook(keep(name)) for name, module in poolings]
    try:
        network.eval()
        network(Batch.of(data, slice(0, len(data))).to(next(network.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return found
