"""FinalMLP: two gated towers joined by a bilinear form."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.bilinear import BilinearFusion
from ctrkit.nn.gates import FeatureGate
from ctrkit.nn.history import positions_of
from ctrkit.nn.mlp import MLP

Context: TypeAlias = Literal["profile", "target", "constant", "none"]


class FinalMLPConfig(ModelConfig):
    """Config of FinalMLP.

    Attributes:
        contexts: input of the gates of each stream: the fields of the user's "profile" or of the "target"
            (all fields where none is declared as such), no input but learned gates ("constant"), or no gates
            ("none").
        gate_hidden: widths of the gates' networks.
        hidden: widths of the first stream's tower.
        second_hidden: widths of the second stream's tower.
        fusion_heads: number of heads of the bilinear form, which must divide the last width of both towers.
        dropout: dropout rate after each layer of the towers.
    """

    name: Literal["finalmlp"] = "finalmlp"
    contexts: tuple[Context, Context] = ("profile", "target")
    gate_hidden: tuple[PositiveInt, ...] = (64,)
    hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    second_hidden: tuple[PositiveInt, ...] = Field(default=(256, 128), min_length=1)
    fusion_heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _divisible(self) -> FinalMLPConfig:
        if self.hidden[-1] % self.fusion_heads or self.second_hidden[-1] % self.fusion_heads:
            raise ValueError("fusion_heads must divide the last width of `hidden` and of `second_hidden`")
        return self


@register(FinalMLPConfig)
class FinalMLP(Backbone):
    """Two towers and a bilinear form: "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction" (Mao et
    al., AAAI 2023, arXiv 2304.00902).

    The last layer reads both towers, x and y, and the bilinear form x^T W y as one logit term for each
    dimension of y. Logit terms start with weight 1, as published.
    """

    def __init__(self, config: FinalMLPConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.streams = nn.ModuleList(
            GatedTower(context, hidden, config, shape)
            for context, hidden in zip(config.contexts, (config.hidden, config.second_hidden), strict=True)
        )
        first, second = config.hidden[-1], config.second_hidden[-1]
        self.fusion = BilinearFusion(first, second, config.fusion_heads)
        self.outputs, self.logit_terms = first + second, second

    def forward(self, inputs: Inputs) -> Representation:
        x, y = (stream(inputs) for stream in self.streams)
        return Representation(torch.cat([x, y], dim=1), self.fusion(x, y))


class GatedTower(nn.Module):
    """One of the two streams: gates on the features, and a tower.

    Args:
        context: input of the gates.
        hidden: widths of the tower.
        config: config of the model.
        shape: shape of the model's inputs.
    """

    def __init__(
        self, context: Context, hidden: tuple[int, ...], config: FinalMLPConfig, shape: InputShape
    ) -> None:
        super().__init__()
        roles = {"profile": shape.feature_map.profile, "target": shape.feature_map.target}
        self.context = positions_of(shape.feature_map, roles[context]) if context in roles else []
        self.gate = (
            None
            if context == "none"
            else FeatureGate(len(self.context) * shape.width, shape.flat, config.gate_hidden)
        )
        self.tower = MLP(shape.flat, hidden, config.dropout)

    def forward(self, inputs: Inputs) -> Tensor:
        """`[B, hidden[-1]]`."""
        features = inputs.vectors.flatten(1)
        if self.gate is not None:
            features = features * self.gate(inputs.fields[:, self.context].flatten(1))
        tower: Tensor = self.tower(features)
        return tower
