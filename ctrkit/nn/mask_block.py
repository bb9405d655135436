"""MaskNet's building blocks: hidden layers whose input is multiplied by a mask made from the row itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError


class FieldNorm(nn.Module):
    """Layer normalisation of each vector, with a gain and a shift for each vector (MaskNet's LN-EMB).

    Args:
        vectors: N.
        width: d.

    Raises:
        ConfigError: d is 1, where normalisation removes all information.
    """

    def __init__(self, vectors: int, width: int) -> None:
        super().__init__()
        check_normalised(width)
        self.gain = nn.Parameter(torch.ones(vectors, width))
        self.shift = nn.Parameter(torch.zeros(vectors, width))

    def forward(self, vectors: Tensor) -> Tensor:
        """`[B, N, d] -> [B, N, d]`."""
        return F.layer_norm(vectors, vectors.shape[-1:]) * self.gain + self.shift


def check_normalised(width: int) -> None:
    """Check that embeddings of a width can be normalised by themselves.

    Raises:
        ConfigError: the width is 1, where normalisation removes all information.
    """
    if width < 2:
        raise ConfigError(
            "layer normalisation makes all embeddings of width 1 equal",
            hint="Set `embedding` to 2 or more",
        )


class MaskBlock(nn.Module):
    """The MaskBlock of "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models by
    Instance-Guided Mask" (Wang et al., DLP-KDD 2021, arXiv 2102.07619):

        mask = W2 ReLU(W1 embeddings + b1) + b2
        output = ReLU(LN(W (mask * hidden)))

    Args:
        guide: width of the row's embeddings, which guide the mask.
        inputs: width of the hidden vector that is masked.
        outputs: width of the block's output.
        reduction: width between W1 and W2, as a multiple of `inputs`.
        dropout: dropout rate of the output.
    """

    def __init__(
        self, guide: int, inputs: int, outputs: int, reduction: float = 1.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        between = max(1, round(reduction * inputs))
        self.mask = nn.Sequential(nn.Linear(guide, between), nn.ReLU(), nn.Linear(between, inputs))
        # The normalisation that follows has a bias and removes any other.
        self.hidden = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.LayerNorm(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embeddings: Tensor, hidden: Tensor) -> Tensor:
        """`[B, guide], [B, inputs] -> [B, outputs]`."""
        masked = self.mask(embeddings) * hidden
        output: Tensor = self.dropout(torch.relu(self.norm(self.hidden(masked))))
        return output
