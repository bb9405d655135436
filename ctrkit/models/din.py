"""DIN: attention of the target over the events."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import DINPooling


class DINConfig(SequenceConfig):
    """Config of DIN (see `SequenceConfig`)."""

    name: Literal["din"] = "din"
    history: HistoryConfig = HistoryConfig(readouts=(DINPooling(),), attention=(36,), normalise=False)


@register(DINConfig)
class DIN(SequenceModel):
    """A small network compares each event with the target and gives it a weight. The weighted sum of events
    joins the fields in a tower ("Deep Interest Network for Click-Through Rate Prediction", Zhou et al., KDD
    2018).

    The activation is ReLU, where the paper has Dice.
    """
