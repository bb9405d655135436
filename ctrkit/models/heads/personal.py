"""PEPNet: gates that some fields of a row set on its embeddings and on the towers of the tasks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ctrkit.errors import ConfigError, nearest
from ctrkit.models.base import Inputs, InputShape
from ctrkit.models.heads.config import PersonalGatesConfig
from ctrkit.nn.gates import FeatureGate
from ctrkit.nn.history import positions_of


class EmbeddingGates(nn.Module):
    """EPNet of "PEPNet: Parameter and Embedding Personalized Network for Infusing with Personalized Prior
    Information" (Chang et al., KDD 2023, arXiv 2302.01115): gates on all embeddings E that the model reads,
    from the embeddings of the domain's fields.

        E' = E * 2 sigmoid(MLP([domain, stop_gradient(E)]))

    Pooled histories are scaled like fields. What a model reads beside them (ids, events) is not.

    Args:
        config: fields of the domain, and widths of the MLP.
        shape: shape of the model's inputs.
    """

    def __init__(self, config: PersonalGatesConfig, shape: InputShape) -> None:
        super().__init__()
        self.domain = GateFields("domain", config.domain, shape)
        self.gate = FeatureGate(self.domain.outputs + shape.flat, shape.flat, config.hidden)

    def forward(self, inputs: Inputs) -> Inputs:
        """The same rows with scaled fields and readings."""
        embeddings = inputs.vectors.flatten(1)
        gates = self.gate(torch.cat([self.domain(inputs), embeddings.detach()], dim=1))
        scaled = (embeddings * gates).reshape(inputs.vectors.shape)
        count = inputs.fields.shape[1]
        return replace(inputs, fields=scaled[:, :count], readings=scaled[:, count:])


class GateFields(nn.Module):
    """The embeddings of the fields that set gates, before any gate has scaled them.

    Args:
        key: the key of the config that names the fields, for messages.
        names: the fields; where empty, those of the profile, and all fields if it has none.
        shape: shape of the model's inputs.

    Attributes:
        outputs: width of these embeddings together.

    Raises:
        ConfigError: there is no field of a name, or the model reads no embeddings.
    """

    def __init__(self, key: str, names: tuple[str, ...], shape: InputShape) -> None:
        super().__init__()
        known = shape.feature_map.fields
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"heads.gates.{key}: no static feature has the name '{name}'", hint=nearest(name, known)
                )
        if not shape.flat:
            raise ConfigError(
                "heads.gates needs embeddings, and this model reads none",
                hint="Remove it, or choose another model",
            )
        self.positions = positions_of(shape.feature_map, names or shape.feature_map.profile)
        self.outputs = len(self.positions) * shape.width

    def forward(self, inputs: Inputs) -> Tensor:
        """`[B, outputs]`."""
        return inputs.fields[:, self.positions].flatten(1)
