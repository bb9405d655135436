"""GRU4Rec: a recurrent network over the session."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders import GRUConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.states import LastStatePooling


class GRU4RecConfig(SequenceConfig):
    """Config of GRU4Rec (see `SequenceConfig`)."""

    name: Literal["gru4rec"] = "gru4rec"
    history: HistoryConfig = HistoryConfig(encoder=GRUConfig(), readouts=(LastStatePooling(),), products=True)


@register(GRU4RecConfig)
class GRU4Rec(SequenceModel):
    """A GRU over the events ("Session-based Recommendations with Recurrent Neural Networks", Hidasi et al.,
    ICLR 2016), as a model of clicks.

    The paper scores the items that may come next by their inner product with the last state. Here that state,
    and the products of its dimensions with those of the target, join the fields in a tower.
    """
