"""MDAF: Mamba and DCNv3 with adaptive fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt, field_validator
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.data.batches import Batch, FeatureMap
from ctrkit.models.base import CtrModel, ModelConfig, Output, register
from ctrkit.nn.attention import TargetAttention, last_state
from ctrkit.nn.cross import ExponentialCross, LinearCross, two_views
from ctrkit.nn.embedding import EventEmbedding, FeatureEmbedding, PositionEmbedding
from ctrkit.nn.fusion import ContextGate, SoftFusion
from ctrkit.nn.mamba import MambaEncoder
from ctrkit.nn.mlp import MLP


class CrossConfig(Config):
    """The two cross networks of DCNv3."""

    exponential_layers: int = Field(default=3, ge=1)
    linear_layers: int = Field(default=4, ge=1)
    heads: int = Field(default=1, ge=1)
    layer_norm: bool = True
    batch_norm: bool = False
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)


class HistoryConfig(Config):
    """The Mamba encoder of the behaviour sequence, and how its states are read."""

    blocks: int = Field(default=2, ge=1)
    state: int = Field(default=16, ge=1)
    convolution: int = Field(default=4, ge=1)
    expand: int = Field(default=2, ge=1)
    norm: Literal["pre", "post"] = "pre"
    position_embedding: bool = True
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    readout: Literal["target_attention", "last_state"] = "target_attention"
    attention: tuple[PositiveInt, ...] = (64,)


class MDAFConfig(ModelConfig):
    """Config of MDAF.

    Attributes:
        embedding: d, the width of an embedding in each head of the cross networks; even.
        cross, history: the two branches.
        fusion: of the two branches.
        width: of each branch and of what is fused of them.
        head: widths of each task's tower.
        dropout: share dropped in the towers.
    """

    name: Literal["mdaf"] = "mdaf"
    embedding: int = Field(default=32, ge=2)
    cross: CrossConfig = CrossConfig()
    history: HistoryConfig = HistoryConfig()
    fusion: Literal["soft", "context_gate"] = "soft"
    width: int = Field(default=128, ge=1)
    head: tuple[PositiveInt, ...] = (256, 128)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)

    @field_validator("embedding")
    @classmethod
    def _even(cls, embedding: int) -> int:
        if embedding % 2:
            raise ValueError("must be even, as DCNv3 cuts embeddings into two halves")
        return embedding


@register(MDAFConfig)
class MDAF(CtrModel):
    """Static features through DCNv3, the behaviour sequence through Mamba, both fused, a tower a task.

        fields ─▶ DCNv3 ─▶ state ────────────────────────────┐
                    │                                        ├─ fusion ─▶ tower ─┐
        events ─▶ Mamba ─▶ states ─▶ target attention ───────┘                   ├─▶ linear ─▶ logit
                    └─ logits of the two cross networks ─────────────────────────┘

    The last linear layer of a task reads its tower and the logits of the two cross networks, which are the
    auxiliary outputs "deep" (exponential) and "shallow" (linear). For the first task it starts with half of
    each, which is DCNv3's own logit, and the tower learns what to add.

    Without sequences in the feature map there is no behaviour branch and nothing to fuse.
    """

    def __init__(self, config: MDAFConfig, feature_map: FeatureMap) -> None:
        super().__init__(config, feature_map)
        width = config.cross.heads * config.embedding
        self.embedding = FeatureEmbedding(feature_map, width)
        self.cross = CrossBranch(config.cross, len(feature_map.fields) * config.embedding, config.width)
        if feature_map.sequences:
            self.behaviour = BehaviourBranch(config.history, feature_map, width, config.width)
            self.profile = _positions(feature_map, feature_map.profile)
            self.fusion = (
                SoftFusion(config.width)
                if config.fusion == "soft"
                else ContextGate(config.width, len(self.profile) * width)
            )
        towers = [MLP(config.width, config.head, config.dropout) for _ in feature_map.tasks]
        self.towers = nn.ModuleList(towers)
        self.heads = nn.ModuleList(nn.Linear(tower.outputs + 2, 1) for tower in towers)
        nn.init.constant_(self.last_layer.weight[:, -2:], 0.5)

    @property
    def task_layers(self) -> Sequence[nn.Linear]:
        return [head for head in self.heads if isinstance(head, nn.Linear)]

    @torch.no_grad()
    def set_base_rates(self, rates: Sequence[float]) -> None:
        """See `CtrModel`. The cross networks, each with a loss of its own, start at the first task's rate
        too; the first task reads half of each, and so needs nothing more."""
        super().set_base_rates(rates)
        for network in (self.cross.exponential, self.cross.linear):
            network.head.bias.copy_(self.last_layer.bias)
        self.last_layer.bias.zero_()

    def forward(self, batch: Batch) -> Output:
        fields = self.embedding.fields(batch)
        fused, deep, shallow = self.cross(fields)
        if self.feature_map.sequences:
            events = self.embedding.sequences(batch)
            behaviour = self.behaviour(fields, events, self.embedding.event_mask(batch))
            if isinstance(self.fusion, ContextGate):
                fused = self.fusion(fused, behaviour, fields[:, self.profile].flatten(1))
            else:
                fused = self.fusion(fused, behaviour)
        crosses = torch.stack([deep, shallow], dim=1)
        hidden = [torch.cat([tower(fused), crosses], dim=1) for tower in self.towers]
        logits = [head(h) for head, h in zip(self.heads, hidden, strict=True)]
        return Output(torch.cat(logits, dim=1), hidden[0], {"deep": deep, "shallow": shallow})


class CrossBranch(nn.Module):
    """DCNv3 over the static fields, with the last states of both networks projected to a branch.

    Args:
        config: of the networks.
        width: D, of a head's vector.
        outputs: width of the branch.
    """

    def __init__(self, config: CrossConfig, width: int, outputs: int) -> None:
        super().__init__()
        common = (config.heads, config.layer_norm, config.batch_norm, config.dropout)
        self.heads = config.heads
        self.exponential = ExponentialCross(width, config.exponential_layers, *common)
        self.linear = LinearCross(width, config.linear_layers, *common)
        self.projection = _branch(2 * config.heads * width, outputs)

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[B, F, d * heads] -> branch [B, outputs], exponential logit [B], linear logit [B]`."""
        x0 = two_views(fields, self.heads)
        deep, shallow = self.exponential.state(x0), self.linear.state(x0)
        branch = self.projection(torch.cat([deep, shallow], dim=-1).flatten(1))
        return branch, self.exponential.logit(deep), self.linear.logit(shallow)


class BehaviourBranch(nn.Module):
    """The behaviour sequence as the target item sees it.

    The target queries the history twice: the states of Mamba, which know the order of events, and the
    events themselves, as in DIN, where a target that equals an event is found at once. For that, the
    target is embedded as if it were the next event: by the same layer, from those of its fields that share
    a table with a sequence. The other target fields add a linear term.

    Beside each reading stands its product with the query, as only this tells how well the two agree.

    Args:
        config: of encoder and readout.
        feature_map: what sequences and targets there are.
        width: of embeddings, events and states.
        outputs: width of the branch.
    """

    def __init__(self, config: HistoryConfig, feature_map: FeatureMap, width: int, outputs: int) -> None:
        super().__init__()
        self.events = EventEmbedding(len(feature_map.sequences), width)
        self.positions = (
            PositionEmbedding(feature_map.max_length, width) if config.position_embedding else None
        )
        self.encoder = MambaEncoder(
            width, config.blocks, config.norm, config.dropout, config.state, config.convolution, config.expand
        )
        self.by_target = config.readout == "target_attention"
        if self.by_target:
            self.target = _positions(feature_map, feature_map.target)
            self.twins = _twins(feature_map, self.target)
            self.query = nn.Linear(len(self.target) * width, width)
            self.read_states = TargetAttention(width, config.attention)
            self.read_events = TargetAttention(width, config.attention)
        self.projection = _branch((4 if self.by_target else 1) * width, outputs)

    def forward(self, fields: Tensor, parts: Tensor, mask: Tensor) -> Tensor:
        """Read the history.

        Args:
            fields: embeddings of the static fields, `[B, F, width]`.
            parts: embeddings of the sequences, `[B, L, S, width]`.
            mask: bool `[B, L]`, True at events.

        Returns:
            `[B, outputs]`.
        """
        events = self.events(parts)
        if self.positions is not None:
            events = events + self.positions(events.shape[1])
        states = self.encoder(events, mask)
        if self.by_target:
            query = self._query(fields)
            by_state = self.read_states(query, states, mask)
            by_event = self.read_events(query, events, mask)
            reading = torch.cat([by_state, query * by_state, by_event, query * by_event], dim=1)
        else:
            reading = last_state(states, mask)
        branch: Tensor = self.projection(reading)
        return branch

    def _query(self, fields: Tensor) -> Tensor:
        """The target as an event: `[B, F, width] -> [B, width]`."""
        nothing = torch.zeros_like(fields[:, 0])
        twins = [nothing if field is None else fields[:, field] for field in self.twins]
        query: Tensor = self.events(torch.stack(twins, dim=1)) + self.query(fields[:, self.target].flatten(1))
        return query


def _branch(inputs: int, outputs: int) -> nn.Module:
    """A projection whose outputs are of one scale, so that neither branch drowns the other when fused."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.LayerNorm(outputs))


def _positions(feature_map: FeatureMap, chosen: Sequence[str]) -> list[int]:
    """Where the chosen static fields stand among all; every field where none is chosen."""
    return [position for position, name in enumerate(feature_map.fields) if name in chosen or not chosen]


def _twins(feature_map: FeatureMap, target: Sequence[int]) -> list[int | None]:
    """For each sequence the position of the target field that shares its table, where there is one."""
    tables = {position: feature_map.categorical.get(feature_map.fields[position]) for position in target}
    return [
        next((position for position, table in tables.items() if table == own), None)
        for own in feature_map.sequences.values()
    ]
