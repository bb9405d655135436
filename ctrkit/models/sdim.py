"""SDIM: events that share hash buckets with the target."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import DINPooling
from ctrkit.nn.pooling.sdim import SDIMPooling


class SDIMConfig(SequenceConfig):
    """Config of SDIM (see `SequenceConfig`)."""

    name: Literal["sdim"] = "sdim"
    history: HistoryConfig = HistoryConfig(readouts=(DINPooling(newest=50), SDIMPooling()), attention=(36,))


@register(SDIMConfig)
class SDIM(SequenceModel):
    """The events of the whole history that share hash buckets with the target are summed. DIN reads the
    newest events. Both join the fields in a tower ("Sampling Is All You Need on Modeling Long-Term User
    Behaviors for CTR Prediction", Cao et al., CIKM 2022, arXiv 2205.10249).
    """
