"""DIEN: the evolution of interests, as the target sees it."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders import GRUConfig
from ctrkit.nn.history import HistoryConfig


class DIENConfig(SequenceConfig):
    """Config of DIEN; see `SequenceConfig`."""

    name: Literal["dien"] = "dien"
    history: HistoryConfig = HistoryConfig(encoder=GRUConfig(), readouts=("augru",))


@register(DIENConfig)
class DIEN(SequenceModel):
    """A GRU makes interests of events, and a second one, AUGRU, follows them with steps as large as the
    target's attention; its last state joins the fields in a tower ("Deep Interest Evolution Network for
    Click-Through Rate Prediction", Zhou et al., AAAI 2019).

    Left out is the auxiliary loss by which an interest predicts the next event, as it needs sampled
    negatives. ReLU stands in the place of Dice, and events are normalised.
    """
