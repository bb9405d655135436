"""Mamba4Rec: a selective state space model over the events."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders import Mamba4RecEncoderConfig as Mamba4RecEncoderConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.states import LastStatePooling


class Mamba4RecConfig(SequenceConfig):
    """Config of Mamba4Rec (see `SequenceConfig`)."""

    name: Literal["mamba4rec"] = "mamba4rec"
    history: HistoryConfig = HistoryConfig(
        encoder=Mamba4RecEncoderConfig(), readouts=(LastStatePooling(),), products=True
    )


@register(Mamba4RecConfig)
class Mamba4Rec(SequenceModel):
    """Mamba over the events ("Mamba4Rec: Towards Efficient Sequential Recommendation with Selective State
    Space Models", Liu et al., arXiv 2403.03900), as a model of clicks.

    The paper ranks the items that may come next by their inner product with the last state. Here that state,
    and the products of its dimensions with those of the target, join the fields in a tower.
    """
