"""BST: a transformer with the target as the last event."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.embedding import EmbeddingConfig
from ctrkit.nn.encoders import TransformerEncoderConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.states import TargetStatePooling


class BSTConfig(SequenceConfig):
    """Config of BST (see `SequenceConfig`)."""

    name: Literal["bst"] = "bst"
    embedding: EmbeddingConfig = EmbeddingConfig(width=32)
    history: HistoryConfig = HistoryConfig(
        encoder=TransformerEncoderConfig(heads=8, dropout=0.2), readouts=(TargetStatePooling(),)
    )
    hidden: tuple[PositiveInt, ...] = (1024, 512, 256)


@register(BSTConfig)
class BST(SequenceModel):
    """The target is appended to the events, and its state after one block of self-attention joins the fields
    in a tower ("Behavior Sequence Transformer for E-commerce Recommendation in Alibaba", Chen et al., DLP-KDD
    2019).

    The position of an event is its number before the target, not its time. Events are normalised. The tower
    has ReLU, where the paper has LeakyReLU.
    """
