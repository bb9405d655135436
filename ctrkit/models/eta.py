"""ETA: events found by hash codes near to the target's."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import DINPooling
from ctrkit.nn.pooling.eta import ETAPooling


class ETAConfig(SequenceConfig):
    """Config of ETA (see `SequenceConfig`)."""

    name: Literal["eta"] = "eta"
    history: HistoryConfig = HistoryConfig(readouts=(DINPooling(newest=50), ETAPooling()), attention=(36,))


@register(ETAConfig)
class ETA(SequenceModel):
    """Hash codes find the events of the whole history that are nearest to the target, and multi-head
    attention reads them. DIN reads the newest events, where the paper has multi-head attention. Both join the
    fields in a tower ("End-to-End User Behavior Retrieval in Click-Through Rate Prediction Model", Chen et
    al., 2021, arXiv 2108.04468).
    """
