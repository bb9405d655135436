"""The plain multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


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

    def scaled(self, x: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """The tower with hidden layers that are multiplied by factors: `[..., inputs] -> [..., outputs]`.

        Args:
            x: the input.
            factors: for each layer `[..., width]`.
        """
        layers = list(self)
        for number, factor in enumerate(factors):
            linear, activation, dropout = layers[3 * number : 3 * number + 3]
            x = dropout(activation(linear(x))) * factor
        return x
