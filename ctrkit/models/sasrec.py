"""SASRec: causal self-attention."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders import SASRecEncoderConfig as SASRecEncoderConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.states import LastStatePooling


class SASRecConfig(SequenceConfig):
    """Config of SASRec (see `SequenceConfig`)."""

    name: Literal["sasrec"] = "sasrec"
    history: HistoryConfig = HistoryConfig(
        encoder=SASRecEncoderConfig(dropout=0.2), readouts=(LastStatePooling(),), products=True
    )


@register(SASRecConfig)
class SASRec(SequenceModel):
    """Causal self-attention over the events ("Self-Attentive Sequential Recommendation", Kang and McAuley,
    ICDM 2018), as a model of clicks.

    The paper ranks the items that may come next by their inner product with the last state. Here that state,
    and the products of its dimensions with those of the target, join the fields in a tower.
    """
