"""HSTU: gated attention over the events, the target the last of them."""

from __future__ import annotations

from typing import Literal

from ctrkit.models.base import register
from ctrkit.models.sequence import SequenceConfig, SequenceModel
from ctrkit.nn.encoders.hstu import HSTUConfig as HSTUEncoderConfig
from ctrkit.nn.history import HistoryConfig
from ctrkit.nn.pooling.states import TargetStatePooling


class HSTUConfig(SequenceConfig):
    """Config of HSTU (see `SequenceConfig`)."""

    name: Literal["hstu"] = "hstu"
    history: HistoryConfig = HistoryConfig(encoder=HSTUEncoderConfig(), readouts=(TargetStatePooling(),))


@register(HSTUConfig)
class HSTU(SequenceModel):
    """The state of the target as the next event joins the fields in a tower. The events are encoded as in
    "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
    Recommendations" (Zhai et al., ICML 2024, arXiv 2402.17152).

    The paper's ranking model also has an event for each action of the user, and the other features are
    events too. Here they are fields of the tower.
    """
