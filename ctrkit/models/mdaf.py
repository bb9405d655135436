"""MDAF: Mamba and DCNv3 with adaptive fusion."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.models.heads.config import HeadsConfig, SharedBottomConfig
from ctrkit.nn.cross import ExponentialCross, LinearCross, two_views
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.encoders import MambaConfig
from ctrkit.nn.fusion import ContextGate, SoftFusion
from ctrkit.nn.history import HistoryConfig, positions_of


class CrossConfig(Config):
    """The two cross networks of DCNv3."""

    exponential_layers: int = Field(default=3, ge=1)
    linear_layers: int = Field(default=4, ge=1)
    heads: int = Field(default=1, ge=1)
    layer_norm: bool = True
    batch_norm: bool = False
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class MDAFConfig(ModelConfig):
    """Config of MDAF.

    Attributes:
        embedding: its width is that of one head of the cross networks; even.
        cross, history: the two branches.
        fusion: of the two branches.
        width: of each branch and of what is fused of them.
    """

    name: Literal["mdaf"] = "mdaf"
    embedding: EmbeddingConfig = EmbeddingConfig(width=32)
    history: HistoryConfig = HistoryConfig(
        encoder=MambaConfig(), readouts=("target_attention", "din"), products=True, positions=True
    )
    heads: HeadsConfig = Field(default=SharedBottomConfig(towers=(256, 128), dropout=0.1))
    cross: CrossConfig = CrossConfig()
    fusion: Literal["soft", "context_gate"] = "soft"
    width: int = Field(default=128, ge=1)

    @property
    def embedding_width(self) -> int:
        return self.cross.heads * self.embedding.width

    @model_validator(mode="after")
    def _even(self) -> MDAFConfig:
        if self.embedding.width % 2:
            raise ValueError("embedding.width must be even, as DCNv3 cuts embeddings into two halves")
        return self


@register(MDAFConfig)
class MDAF(Backbone):
    """Static features through DCNv3, the behaviour sequence through Mamba, and both fused.

        fields ─▶ DCNv3 ─▶ state ────────────────────────────┐
                    │                                        ├─ fusion ─▶ vector
        events ─▶ Mamba ─▶ states ─▶ target attention ───────┘
                    └─ logits of the two cross networks ─────────────────▶ terms

    The target reads the history twice: the states of Mamba, which know the order of events, and the events
    themselves, as in DIN. The terms are the auxiliary outputs "deep" (exponential) and "shallow" (linear);
    the first task starts with half of each, which is DCNv3's own logit, and its tower learns what to add.

    Without sequences there is no behaviour branch and nothing to fuse.
    """

    terms = 2
    term_weight = 0.5

    def __init__(self, config: MDAFConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.outputs = config.width
        self.cross = CrossBranch(config.cross, shape.fields * config.embedding.width, config.width)
        self.fusion: nn.Module | None = None
        if shape.readings:
            self.behaviour = _branch(shape.readings * shape.width, config.width)
            self.profile = positions_of(shape.feature_map, shape.feature_map.profile)
            self.fusion = (
                SoftFusion(config.width)
                if config.fusion == "soft"
                else ContextGate(config.width, len(self.profile) * shape.width)
            )

    def forward(self, inputs: Inputs) -> Representation:
        fused, deep, shallow = self.cross(inputs.fields)
        if self.fusion is not None:
            behaviour = self.behaviour(inputs.readings.flatten(1))
            if isinstance(self.fusion, ContextGate):
                fused = self.fusion(fused, behaviour, inputs.fields[:, self.profile].flatten(1))
            else:
                fused = self.fusion(fused, behaviour)
        terms = torch.stack([deep, shallow], dim=1)
        return Representation(fused, terms, {"deep": deep, "shallow": shallow})

    def start_at(self, logit: float) -> float:
        """The cross networks, each with a loss of its own, start at the logit; the first task reads half of
        each, and so needs nothing more."""
        for network in (self.cross.exponential, self.cross.linear):
            nn.init.constant_(network.head.bias, logit)
        return 0.0


class CrossBranch(nn.Module):
    """DCNv3 over the static fields, with the last states of both networks projected to a branch.

    Args:
        config: of the networks.
        width: D, of a head's vector.
        outputs: width of the branch.
    """

    def __init__(self, config: CrossConfig, width: int, outputs: int) -> None:
        super().__init__()
        common = (config.heads, config.layer_norm, config.batch_norm, config.dropout)
        self.heads = config.heads
        self.exponential = ExponentialCross(width, config.exponential_layers, *common)
        self.linear = LinearCross(width, config.linear_layers, *common)
        self.projection = _branch(2 * config.heads * width, outputs)

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, F, d * heads] -> branch [B, outputs], exponential logit [B], linear logit [B]`."""
        x0 = two_views(fields, self.heads)
        deep, shallow = self.exponential.state(x0), self.linear.state(x0)
        branch = self.projection(torch.cat([deep, shallow], dim=-1).flatten(1))
        return branch, self.exponential.logit(deep), self.linear.logit(shallow)


def _branch(inputs: int, outputs: int) -> nn.Module:
    """A projection whose outputs are of one scale, so that neither branch drowns the other when fused."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))
