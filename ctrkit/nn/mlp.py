"""The plain multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """A tower of (linear, ReLU, dropout), once for each width: `[..., inputs] -> [..., outputs]`.

    The last layer keeps its ReLU: what follows (a task's linear layer, say) belongs to the caller.

    Attributes:
        outputs: the last width, or `inputs` where there is none.
    """

    def __init__(self, inputs: int, widths: Sequence[int], dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        for narrow, wide in zip((inputs, *widths), widths, strict=False):
            layers += [nn.Linear(narrow, wide), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(*layers)
        self.outputs = (inputs, *widths)[-1]
