"""The encoder of Mamba4Rec, as in the paper's code.

From "Mamba4Rec: Towards Efficient Sequential Recommendation with Selective State Space Models" (Liu et al.,
arXiv 2403.03900). It differs from `MambaEncoder` in normalisation, in a feed-forward network after each
mixer, and in the initial weights.
"""

from __future__ import annotations

from torch import Tensor, nn

from ctrkit.nn.mamba import Around, BlockStack, Mamba, MambaBlock

# All normalisations of the paper's code add this to the variance.
_EPSILON = 1e-12


class Mamba4RecBlock(MambaBlock):
    """A mixer and a position-wise feed-forward network four times as wide, each normalised after its dropout:

        y = LayerNorm(dropout(mix(x)) + x)
        LayerNorm(dropout(W2 dropout(gelu(W1 y))) + y)

    Args:
        mixer: Mamba mixer of the same width.
        width: width of the sequence.
        dropout: dropout rate, at each of the three places.
        residual: whether y adds x; the paper's code does not where there is only one block.
    """

    def __init__(self, mixer: Mamba, width: int, dropout: float, residual: bool) -> None:
        super().__init__(mixer, width, "post", dropout)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.residual = residual
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.last_norm = nn.LayerNorm(width, eps=_EPSILON)

    def around(self) -> Around:
        return Around(None, self.residual, self.norm)

    def finish(self, x: Tensor) -> Tensor:
        states: Tensor = self.last_norm(self.dropout(self.feed_forward(x)) + x)
        return states


class Mamba4RecEncoder(BlockStack):
    """Dropout and normalisation of the events, then blocks of a mixer and a feed-forward network.

    Every linear layer starts with weights from N(0, 0.02) and a bias of 0, as in the paper's code. This
    includes the layers inside Mamba. Their step sizes then do not start between 0.001 and 0.1, but close to
    softplus(0) = 0.69, so that the state forgets faster.

    Args:
        width: width of events and states.
        blocks: number of blocks; the mixer of a single block has no residual.
        dropout: dropout rate of the events and in the blocks.
        d_state: as in `Mamba`.
        d_conv: as in `Mamba`.
        expand: as in `Mamba`.
        paper_initialisation: whether mixers start as in the paper's code, or as `Mamba` does.
    """

    def __init__(
        self,
        width: int,
        blocks: int = 1,
        dropout: float = 0.2,
        d_state: int = 32,
        d_conv: int = 4,
        expand: int = 2,
        paper_initialisation: bool = True,
    ) -> None:
        super().__init__(
            Mamba4RecBlock(Mamba(width, d_state, d_conv, expand), width, dropout, residual=blocks > 1)
            for _ in range(blocks)
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        of_mamba = {id(part) for block in self._blocks for part in block.mixer.modules()}
        for part in self.modules():
            if isinstance(part, nn.Linear) and (paper_initialisation or id(part) not in of_mamba):
                nn.init.normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def before(self, x: Tensor) -> Tensor:
        events: Tensor = self.norm(self.dropout(x))
        return events
