"""Feature gating network: gates on the embeddings, then a cross network."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.cross_layers import CrossStack, MatrixCross
from ctrkit.nn.gates import EmbeddingGate, RowGate
from ctrkit.nn.mlp import MLP


class FeatureGatingConfig(ModelConfig):
    """Config of the feature gating network.

    Attributes:
        gate: input of an embedding's gates: the whole "row", or that "embedding" alone (as in GateNet).
        per: whether there is one gate for each "dimension" of an embedding, or one for the whole "vector".
        gate_hidden: widths of the network that computes the gates from a row.
        cross_layers: number of DCNv2's cross layers over the gated embeddings.
        hidden: widths of a tower beside them, over the gated embeddings; empty for no tower.
        dropout: dropout rate after each layer of the tower.
    """

    name: Literal["feature_gating"] = "feature_gating"
    gate: Literal["row", "embedding"] = "row"
    per: Literal["dimension", "vector"] = "dimension"
    gate_hidden: tuple[PositiveInt, ...] = (64,)
    cross_layers: int = Field(default=3, ge=1)
    hidden: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(FeatureGatingConfig)
class FeatureGating(Backbone):
    """Gates scale each embedding by how much it matters in the row. The gated embeddings go into the cross
    network of "DCN V2" (Wang et al., WWW 2021, arXiv 2008.13535) and a tower beside it.

    No single paper has exactly this model. Gates computed from the embedding itself come from "GateNet"
    (Huang et al., arXiv 2007.03519), where they precede FM, DeepFM and xDeepFM. Gates computed from the whole
    row come from FinalMLP's feature selection (Mao et al., AAAI 2023, arXiv 2304.00902) with all features as
    the context. The gates of GDCN (Wang et al., CIKM 2023, arXiv 2311.04635) differ: they are inside the
    cross layers.
    """

    def __init__(self, config: FeatureGatingConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        gates = shape.width if config.per == "dimension" else 1
        self.gate = (
            RowGate(shape.vectors, shape.width, gates, config.gate_hidden)
            if config.gate == "row"
            else EmbeddingGate(shape.vectors, shape.width, gates)
        )
        self.cross = CrossStack(MatrixCross(shape.flat) for _ in range(config.cross_layers))
        self.outputs = shape.flat
        self.tower = MLP(shape.flat, config.hidden, config.dropout) if config.hidden else None
        if self.tower is not None:
            self.outputs += self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        vectors = inputs.vectors
        gated = (vectors * self.gate(vectors)).flatten(1)
        crossed = self.cross(gated)
        if self.tower is None:
            return Representation.of(crossed)
        return Representation.of(torch.cat([crossed, self.tower(gated)], dim=1))
