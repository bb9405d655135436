"""Configs of the encoders, chosen by `name`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from ctrkit.config import Config


class NoEncoderConfig(Config):
    """No encoder: poolings read the events as they are."""

    name: Literal["none"] = "none"


class GRUConfig(Config):
    """Gated recurrent units (see `ctrkit.nn.encoders.recurrent.GRU`)."""

    name: Literal["gru"] = "gru"
    layers: int = Field(default=1, ge=1)


class LSTMConfig(Config):
    """Long short-term memory (see `ctrkit.nn.encoders.recurrent.LSTM`)."""

    name: Literal["lstm"] = "lstm"
    layers: int = Field(default=1, ge=1)


class MambaConfig(Config):
    """Blocks of the selective state space model (see `ctrkit.nn.mamba.MambaEncoder`).

    Attributes:
        blocks: number of blocks.
        state: state size of each channel.
        convolution: kernel size of the causal convolution.
        expand: inner width divided by the outer width.
        norm: normalisation before the mixer ("pre") or after the residual ("post").
        dropout: dropout rate of each mixer's output.
    """

    name: Literal["mamba"] = "mamba"
    blocks: int = Field(default=2, ge=1)
    state: int = Field(default=16, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    norm: Literal["pre", "post"] = "pre"
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class Mamba4RecEncoderConfig(Config):
    """Blocks of Mamba4Rec (see `ctrkit.nn.mamba4rec.Mamba4RecEncoder`).

    Attributes:
        blocks: number of blocks; a single block has no residual around its mixer.
        state: state size of each channel.
        convolution: kernel size of the causal convolution.
        expand: inner width divided by the outer width.
        dropout: dropout rate of the events and in the blocks.
        paper_initialisation: initialise Mamba's own layers too as the paper's code does.
    """

    name: Literal["mamba4rec"] = "mamba4rec"
    blocks: int = Field(default=1, ge=1)
    state: int = Field(default=32, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    paper_initialisation: bool = True


class AttentionConfig(Config):
    """Settings that both self-attention encoders have.

    Attributes:
        blocks: number of blocks.
        heads: number of attention heads, which must divide the width of embeddings.
        expand: inner width of the feed-forward layers divided by the outer width.
        dropout: dropout rate before each residual sum.
    """

    name: str
    blocks: int = Field(default=1, ge=1)
    heads: int = Field(default=2, ge=1)
    expand: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class TransformerEncoderConfig(AttentionConfig):
    """Every event attends to every other; see `ctrkit.nn.encoders.attention.BidirectionalTransformer`."""

    name: Literal["transformer"] = "transformer"


class SASRecEncoderConfig(AttentionConfig):
    """Events attend to those before them; see `ctrkit.nn.encoders.attention.CausalTransformer`."""

    name: Literal["sasrec"] = "sasrec"
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    expand: int = Field(default=1, ge=1)


EncoderConfig: TypeAlias = Annotated[
    NoEncoderConfig
    | GRUConfig
    | LSTMConfig
    | MambaConfig
    | Mamba4RecEncoderConfig
    | TransformerEncoderConfig
    | SASRecEncoderConfig,
    Field(discriminator="name"),
]
