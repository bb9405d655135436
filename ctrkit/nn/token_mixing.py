"""Tokens of features that exchange pieces, and layers with weights of their own for each token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.errors import ConfigError


def mix_tokens(tokens: Tensor, heads: int) -> Tensor:
    """RankMixer's token mixing, which has no weights: `[B, T, D] -> [B, H, T D / H]`.

    Each token is cut into H heads. New token h is head h of every token, side by side (equations 3 and 4 of
    arXiv 2507.15551). Mixing the result with T heads restores the tokens: the reverting of TokenMixer-Large.

    Args:
        tokens: T tokens of width D.
        heads: H, a divisor of D.
    """
    rows, count, width = tokens.shape
    return tokens.reshape(rows, count, heads, width // heads).transpose(1, 2).flatten(2)


class TokenLinear(nn.Module):
    """One linear layer for each token: y_t = x_t W_t + b_t.

    Biases start at 0, so that new tokens differ only where their inputs do.

    Args:
        tokens: T.
        inputs: width of x_t.
        outputs: width of y_t.
        scale: factor on the initial weights of `nn.Linear`.
    """

    def __init__(self, tokens: int, inputs: int, outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        bound = scale * inputs**-0.5
        self.weight = nn.Parameter(torch.empty(tokens, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(tokens, 1, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """`[T, B, inputs] -> [T, B, outputs]`."""
        return torch.baddbmm(self.bias, tokens, self.weight)


class FeatureTokens(nn.Module):
    """Tokens from embeddings: the embeddings side by side are cut into T pieces of equal width, the last one
    filled up with zeros, and a linear layer of its own takes each piece to the width D (equation 2 of
    RankMixer, arXiv 2507.15551).

    Neighbours in the order of the features share a token, so related features should be declared together.

    Args:
        flat: width of all embeddings together.
        tokens: T.
        width: D.

    Raises:
        ConfigError: there are so many tokens that the last piece would be empty.
    """

    def __init__(self, flat: int, tokens: int, width: int) -> None:
        super().__init__()
        piece = -(-flat // tokens)
        self.pieces, self.padding = (tokens, piece), tokens * piece - flat
        if self.padding >= piece:
            raise ConfigError(
                f"embeddings of {flat} numbers in all cannot be cut into {tokens} tokens",
                hint="Set `tokens` lower, or `embedding` higher",
            )
        self.projection = TokenLinear(tokens, piece, width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """`[B, flat] -> [B, T, D]`."""
        pieces = F.pad(embeddings, (0, self.padding)).reshape(len(embeddings), *self.pieces)
        tokens: Tensor = self.projection(pieces.transpose(0, 1))
        return tokens.transpose(0, 1)


class TokenFeedForward(nn.Module):
    """A feed-forward network of its own for each token:

        GELU(x W1 + b1) W2 + b2                               in RankMixer (arXiv 2507.15551)
        (SiLU(x W_gate + b_gate) * (x W_up + b_up)) W2 + b2   gated, in TokenMixer-Large (arXiv 2602.06563)

    Args:
        tokens: T.
        width: D.
        expand: inner width divided by D.
        gated: whether it has the second form. Its W2 starts at a hundredth of the usual size, as published.
            So a block with residuals starts close to the identity.
        dropout: dropout rate of the inner numbers.
    """

    def __init__(
        self, tokens: int, width: int, expand: int, *, gated: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        inner = expand * width
        self.gated = gated
        # A gated network has W_gate and W_up side by side.
        self.up = TokenLinear(tokens, width, 2 * inner if gated else inner)
        self.down = TokenLinear(tokens, inner, width, scale=0.01 if gated else 1.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, T, D] -> [B, T, D]`."""
        inner = self.up(tokens.transpose(0, 1))
        if self.gated:
            gate, inner = inner.chunk(2, dim=2)
            inner = F.silu(gate) * inner
        else:
            inner = F.gelu(inner)
        outputs: Tensor = self.down(self.dropout(inner))
        return outputs.transpose(0, 1)


class RankMixerBlock(nn.Module):
    """A block of "RankMixer: Scaling Up Ranking Models in Industrial Recommenders" (Zhu et al., CIKM 2025,
    arXiv 2507.15551), with as many heads as tokens:

        S = LN(Mix(X) + X),    X' = LN(FFN(S) + S)

    Args:
        tokens: T, a divisor of D.
        width: D.
        expand: inner width of the feed-forward networks divided by D.
        dropout: dropout rate in these networks.
    """

    def __init__(self, tokens: int, width: int, expand: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.mixed_norm = nn.LayerNorm(width)
        self.feed_forward = TokenFeedForward(tokens, width, expand, dropout=dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, T, D] -> [B, T, D]`."""
        mixed = self.mixed_norm(mix_tokens(tokens, tokens.shape[1]) + tokens)
        outputs: Tensor = self.norm(self.feed_forward(mixed) + mixed)
        return outputs


class TokenMixerLargeBlock(nn.Module):
    """A block of "TokenMixer-Large: Scaling Up Large Ranking Models in Industrial Recommenders" (Jiang et
    al., arXiv 2602.06563), whose residuals add only tokens of the same meaning:

        H = Mix(X),    H' = H + FFN(RMSNorm(H)),    X' = X + FFN(RMSNorm(Revert(H')))

    with a gated feed-forward network for each mixed token, and one for each token.

    Args:
        tokens: T.
        width: D.
        heads: the number of mixed tokens, a divisor of D.
        expand: inner width of the feed-forward networks divided by the width of what they read.
        dropout: dropout rate in these networks.
    """

    def __init__(self, tokens: int, width: int, heads: int, expand: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        mixed = tokens * width // heads
        self.mixed_norm = nn.RMSNorm(mixed)
        self.mixed_feed_forward = TokenFeedForward(heads, mixed, expand, gated=True, dropout=dropout)
        self.norm = nn.RMSNorm(width)
        self.feed_forward = TokenFeedForward(tokens, width, expand, gated=True, dropout=dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """`[B, T, D] -> [B, T, D]`."""
        mixed = mix_tokens(tokens, self.heads)
        mixed = mixed + self.mixed_feed_forward(self.mixed_norm(mixed))
        reverted = mix_tokens(mixed, tokens.shape[1])
        outputs: Tensor = tokens + self.feed_forward(self.norm(reverted))
        return outputs
