"""TWIN: events found by the attention that reads them."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import DINPooling
from ctrkit.nn.pooling.twin import TWINPooling


class TWINConfig(SequenceConfig):
    """Config of TWIN (see `SequenceConfig`)."""

    name: Literal["twin"] = "twin"
    history: HistoryConfig = HistoryConfig(readouts=(DINPooling(newest=50), TWINPooling()), attention=(36,))


@register(TWINConfig)
class TWIN(SequenceModel):
    """Attention finds the events of the whole history with its highest scores, and reads them. DIN reads the
    newest events. Both join the fields in a tower ("TWIN: TWo-stage Interest Network for Lifelong User
    Behavior Modeling in CTR Prediction at Kuaishou", Chang et al., KDD 2023, arXiv 2302.02352).
    """
