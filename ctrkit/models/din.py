"""DIN: the target weighs the events."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig


class DINConfig(SequenceConfig):
    """Config of DIN; see `SequenceConfig`."""

    name: Literal["din"] = "din"
    history: HistoryConfig = HistoryConfig(readouts=("din",), attention=(36,), normalise=False)


@register(DINConfig)
class DIN(SequenceModel):
    """The sum of the events, each weighed by a small network that compares it with the target, joins the
    fields in a tower ("Deep Interest Network for Click-Through Rate Prediction", Zhou et al., KDD 2018).

    ReLU stands in the place of the paper's Dice.
    """
