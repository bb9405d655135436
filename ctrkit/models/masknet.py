"""MaskNet: hidden layers masked by the row's embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from ctrkit.models.base import Backbone, Inputs, InputShape, ModelConfig, Representation, register
from ctrkit.nn.mask_block import FieldNorm, MaskBlock
from ctrkit.nn.mlp import MLP


class MaskNetConfig(ModelConfig):
    """Config of MaskNet.

    Attributes:
        form: "serial": each MaskBlock reads the block before it. "parallel": all read the embeddings.
        blocks: number of parallel blocks.
        block_width: output width of each parallel block.
        hidden: widths of the serial blocks, or of the tower over the parallel blocks.
        reduction: width inside a mask's network, as a multiple of the width that it masks.
        dropout: dropout rate after each block and layer.
    """

    name: Literal["masknet"] = "masknet"
    form: Literal["serial", "parallel"] = "parallel"
    blocks: int = Field(default=3, ge=1)
    block_width: int = Field(default=64, ge=2)
    # A block ends in a layer normalisation, which leaves nothing of a width of 1.
    hidden: tuple[Annotated[PositiveInt, Field(ge=2)], ...] = Field(default=(256, 128), min_length=1)
    reduction: float = Field(default=1.0, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


@register(MaskNetConfig)
class MaskNet(Backbone):
    """MaskBlocks, serial or parallel: "MaskNet: Introducing Feature-Wise Multiplication to CTR Ranking Models
    by Instance-Guided Mask" (Wang et al., DLP-KDD 2021, arXiv 2102.07619).

    The masks are computed from the embeddings themselves. The first blocks mask normalised embeddings.

    Raises:
        ConfigError: embeddings have width 1, where normalisation removes all information.
    """

    def __init__(self, config: MaskNetConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        flat, common = shape.flat, (config.reduction, config.dropout)
        self.norm = FieldNorm(shape.vectors, shape.width)
        self.serial = config.form == "serial"
        if self.serial:
            inputs = (flat, *config.hidden)
            widths = zip(inputs, config.hidden, strict=False)
            self.blocks = nn.ModuleList(MaskBlock(flat, before, after, *common) for before, after in widths)
            self.outputs = config.hidden[-1]
        else:
            self.blocks = nn.ModuleList(
                MaskBlock(flat, flat, config.block_width, *common) for _ in range(config.blocks)
            )
            self.tower = MLP(config.blocks * config.block_width, config.hidden, config.dropout)
            self.outputs = self.tower.outputs

    def forward(self, inputs: Inputs) -> Representation:
        embeddings = inputs.vectors.flatten(1)
        hidden = self.norm(inputs.vectors).flatten(1)
        if self.serial:
            for block in self.blocks:
                hidden = block(embeddings, hidden)
            return Representation.of(hidden)
        outputs = [block(embeddings, hidden) for block in self.blocks]
        return Representation.of(self.tower(torch.cat(outputs, dim=1)))
