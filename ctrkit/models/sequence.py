"""What the models of behaviour sequences share: a tower over the fields and the readings of the history."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt

from ctrkit.models.base import ModelConfig
from ctrkit.models.dnn import DNN


class SequenceConfig(ModelConfig):
    """Settings of all sequence models. The models differ in the defaults, above all in `history`.

    Attributes:
        hidden: widths of the tower.
        dropout: dropout rate after each of its layers.
    """

    hidden: tuple[PositiveInt, ...] = (200, 80)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)


class SequenceModel(DNN):
    """A multi-layer perceptron over the embeddings of all fields and the readings of the history."""

    needs_history: ClassVar[bool] = True
