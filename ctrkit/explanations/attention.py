"""The attention weights of a target over the events of a history."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.models import CtrModel
from ctrkit.nn.batches import Batch


@torch.no_grad()
def attention_weights(network: CtrModel, data: EncodedTable) -> tuple[dict[str, Floats], ...]:
    """The attention weights of each row's target over its past events, for each pooling of a history.

    Weights of "target_attention" and "din" may be negative and have no fixed sum; weights of "sdim" are in
    [0, 1]; those of other poolings sum to 1, or to 0 where a search finds no event. A weight says how much
    the model uses an event, not whether the event raises or lowers the probability.

    Args:
        network: the network.
        data: n rows, few enough for one batch.

    Returns:
        For each domain of events, pooling -> `[n, L]`, newest event last, zero at padding; a pooling without
        weights is left out.
    """
    readers = network.history.readers if network.history is not None else ()
    found: tuple[dict[str, Floats], ...] = tuple({} for _ in readers)

    def keep(of_domain: dict[str, Floats], name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            target, events, mask = inputs  # one target per history: [n, 1, d], [n, L, d], [n, L]
            of_domain[name] = module.weights(target, events, mask)[:, 0].double().cpu().numpy()

        return hook

    handles = [
        module.register_forward_pre_hook(keep(of_domain, name))
        for reader, of_domain in zip(readers, found, strict=True)
        for name, module in reader.attention.items()
        if hasattr(module, "weights")
    ]
    try:
        network.eval()
        network(Batch.of(data, slice(0, len(data))).to(network.device))
    finally:
        for handle in handles:
            handle.remove()
    return found
