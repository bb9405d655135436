"""DIEN: two GRUs over the events, steered by the target."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders import GRUConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import AUGRUPooling


class DIENConfig(SequenceConfig):
    """Config of DIEN (see `SequenceConfig`)."""

    name: Literal["dien"] = "dien"
    history: HistoryConfig = HistoryConfig(encoder=GRUConfig(), readouts=(AUGRUPooling(),))


@register(DIENConfig)
class DIEN(SequenceModel):
    """A GRU turns events into interests. A second GRU, AUGRU, reads them with steps as large as the target's
    attention. Its last state joins the fields in a tower ("Deep Interest Evolution Network for Click-Through
    Rate Prediction", Zhou et al., AAAI 2019).

    The paper's auxiliary loss (an interest predicts the next event) is left out, as it needs sampled
    negatives. The activation is ReLU, where the paper has Dice. Events are normalised.
    """
