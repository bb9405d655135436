"""SIM: events found by their similarity to the target."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.attention import DINPooling
from ctrkit.nn.pooling.sim import SoftSearchPooling


class SIMConfig(SequenceConfig):
    """Config of SIM (see `SequenceConfig`)."""

    name: Literal["sim"] = "sim"
    history: HistoryConfig = HistoryConfig(
        readouts=(DINPooling(newest=50), SoftSearchPooling()), attention=(36,)
    )


@register(SIMConfig)
class SIM(SequenceModel):
    """A soft search finds the events of the whole history that are most similar to the target, and multi-head
    attention reads them. DIN reads the newest events. Both join the fields in a tower ("Search-based User
    Interest Modeling with Lifelong Sequential Behavior Data for Click-Through Rate Prediction", Pi et al.,
    CIKM 2020, arXiv 2006.05639).

    The hard search of the paper is the pooling `sim_hard`. The paper has DIEN for the newest events, and
    embeddings of times, for which `positions` has those of ages.
    """
