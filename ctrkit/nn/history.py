"""Behaviour sequences: encoded once, read by any number of targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.data.feature_map import PADDING_ID, FeatureMap
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.augru import AUGRU
from ctrkit.nn.embedding import EventEmbedding, PositionEmbedding
from ctrkit.nn.encoders import Encoded, EncoderConfig, NoEncoderConfig, build_encoder
from ctrkit.nn.pooling import (
    READ_STATES,
    READ_TARGET,
    PoolingName,
    expand_shared,
    interleave,
    last_state,
    mean_state,
)


class HistoryConfig(Config):
    """How behaviour sequences are encoded, and which poolings read the states.

    Attributes:
        encoder: encoder of the events.
        readouts: the poolings, which give one reading each. "last_state" is the newest state. "mean" is the
            mean of the states. "target_attention" is attention of the target over the states. "augru" is a
            GRU over the states whose steps are as large as the target's attention (as in DIEN). "din" is
            attention of the target over the events themselves. "target_state" is the encoder's state of the
            target as the next event (as in BST). The list is empty for a model that reads the events itself.
        attention: widths of the network of "target_attention" and "din".
        products: whether each reading comes with its product with the target. A model that cannot multiply
            needs it to see how well the two agree.
        positions: whether "target_attention" and "din" read the age of each event.
        normalise: whether all event vectors have the same length. Without it they are as short as embeddings,
            and their sum is as small as the embedding of one field.
    """

    encoder: EncoderConfig = NoEncoderConfig()
    readouts: tuple[PoolingName, ...] = ("mean",)
    attention: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)
    products: bool = False
    positions: bool = False
    normalise: bool = True

    @model_validator(mode="after")
    def _encoder_is_read(self) -> HistoryConfig:
        encoded, names = self.encoder.name != "none", ", ".join(self.readouts)
        if len(set(self.readouts)) < len(self.readouts):
            raise ValueError(f"readouts: each pooling may be named once (given: {names})")
        if encoded and set(self.readouts) <= {"din"}:
            raise ValueError(
                f"encoder: nothing in `readouts` reads the states of '{self.encoder.name}' ('din' reads the "
                "events themselves); use 'target_attention', or encoder: {name: none}"
            )
        if not encoded and "target_state" in self.readouts:
            raise ValueError(
                "readouts: 'target_state' reads an encoder, and there is none; choose one under `encoder`"
            )
        return self


@dataclass(frozen=True)
class HistoryState(Encoded):
    """Encoded histories, with the sequences they came from.

    Attributes:
        ids: sequence -> int32 `[U, L]`, as in the batch.
    """

    ids: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_ids(cls, ids: Mapping[str, Tensor]) -> HistoryState:
        """Histories that are not encoded, for a model that embeds events itself."""
        mask = torch.stack([sequence != PADDING_ID for sequence in ids.values()]).any(dim=0)
        nothing = torch.zeros(*mask.shape, 0, device=mask.device)
        return cls(mask, nothing, nothing, (), ids)


class HistoryReader(nn.Module):
    """Encodes histories and reads them for targets.

    A target is embedded as if it were the next event: by the same layer, from the fields that share a table
    with a sequence. So a target that equals an event has the same vector. Its other fields add a linear part.

    Args:
        config: which encoder and which poolings.
        feature_map: names and tables of the sequences and of the target's fields.
        width: d, of embeddings, events, states and readings.

    Attributes:
        readings: R, the number of vectors that `read` gives.

    Raises:
        ConfigError: the encoder's heads do not divide the width.
    """

    def __init__(self, config: HistoryConfig, feature_map: FeatureMap, width: int) -> None:
        super().__init__()
        names = config.readouts
        self.readouts, self.products = names, config.products
        self.readings = len(names) * (2 if config.products else 1)
        self.events = EventEmbedding(len(feature_map.sequences), width, normalise=config.normalise)
        self.encoder = build_encoder(
            config.encoder,
            width,
            feature_map.max_length,
            reads_states=not READ_STATES.isdisjoint(names),
            reads_target="target_state" in names,
        )
        by_attention = [name for name in names if name in ("target_attention", "din")]
        self.attention = nn.ModuleDict(
            {name: TargetAttention(width, config.attention) for name in by_attention}
        )
        self.ages = (
            PositionEmbedding(feature_map.max_length, width) if config.positions and by_attention else None
        )
        self.augru = AUGRU(width) if "augru" in names else None
        reads_target = (config.products and bool(names)) or not READ_TARGET.isdisjoint(names)
        self.target = _Target(feature_map, width) if reads_target else None

    def encode(self, parts: Tensor, mask: Tensor, ids: Mapping[str, Tensor]) -> HistoryState:
        """Encode histories.

        Args:
            parts: embeddings of the sequences, `[U, L, S, d]`.
            mask: bool `[U, L]`, True at events.
            ids: the sequences themselves, kept for models that embed them in another way.
        """
        encoded = self.encoder.encode(self.events(parts), mask)
        if encoded.mask.shape[1] > mask.shape[1]:  # of histories without a place, the encoder makes one
            ids = {name: F.pad(sequence, (1, 0)) for name, sequence in ids.items()}
        return _state(encoded, ids)

    def append(self, state: HistoryState, parts: Tensor, ids: Mapping[str, Tensor]) -> HistoryState:
        """Histories with one more event each: the same result as `encode` of the longer histories.

        A recurrent encoder takes one step at any length. Other encoders encode the whole history again.

        Args:
            state: U histories.
            parts: embeddings of the new event's parts, `[U, S, d]`.
            ids: sequence -> int32 `[U]`, the ids of the new event.
        """
        longer = {name: torch.cat([old, ids[name].unsqueeze(1)], dim=1) for name, old in state.ids.items()}
        return _state(self.encoder.append(state, self.events(parts)), longer)

    def read(self, state: HistoryState, fields: Tensor) -> Tensor:
        """Read histories for targets.

        Args:
            state: U histories.
            fields: embeddings of the targets' static fields, `[U * K, F, d]`, K targets for each history.

        Returns:
            `[U * K, R, d]`.
        """
        candidates = len(fields) // max(len(state), 1)
        query = None
        if self.target is not None:
            query = self.target(fields, self.events).reshape(len(state), candidates, fields.shape[2])
        readings = []
        for name in self.readouts:
            reading = self._reading(name, state, query, candidates)
            readings.append(reading)
            if self.products and query is not None:
                readings.append(reading * query)
        return interleave(readings) if readings else fields[:, :0]

    def _reading(self, name: str, state: HistoryState, query: Tensor | None, candidates: int) -> Tensor:
        """One reading: `[U, K, d]`."""
        if query is None or name not in READ_TARGET:
            pool = last_state if name == "last_state" else mean_state
            return expand_shared(pool(state.states, state.mask), candidates)
        if name == "target_state":
            return self.encoder.next_states(query, state)
        seen = state.events if name == "din" else state.states
        if name == "augru" and self.augru is not None:
            interest: Tensor = self.augru(query, seen, state.mask)
            return interest
        if self.ages is not None:
            seen = seen + self.ages(seen.shape[1])
        attended: Tensor = self.attention[name](query, seen, state.mask)
        return attended


class _Target(nn.Module):
    """Targets as events: the events' layer over the fields that share a table with a sequence, and a linear
    part of the other fields."""

    def __init__(self, feature_map: FeatureMap, width: int) -> None:
        super().__init__()
        fields = positions_of(feature_map, feature_map.target)
        self.twins = _twins(feature_map, fields)
        self.others = [field for field in fields if field not in self.twins]
        self.linear = nn.Linear(len(self.others) * width, width) if self.others else None

    def forward(self, fields: Tensor, events: EventEmbedding) -> Tensor:
        """`[B, F, d] -> [B, d]`."""
        nothing = torch.zeros_like(fields[:, 0])
        parts = [nothing if twin is None else fields[:, twin] for twin in self.twins]
        target: Tensor = events(torch.stack(parts, dim=1))
        return target if self.linear is None else target + self.linear(fields[:, self.others].flatten(1))


def positions_of(feature_map: FeatureMap, chosen: Sequence[str]) -> list[int]:
    """Positions of the chosen static fields among all fields; all positions where none is chosen."""
    return [position for position, name in enumerate(feature_map.fields) if name in chosen or not chosen]


def _twins(feature_map: FeatureMap, target: Sequence[int]) -> list[int | None]:
    """For each sequence the position of the target field that shares its table, or None."""
    tables = {position: feature_map.categorical.get(feature_map.fields[position]) for position in target}
    return [
        next((position for position, table in tables.items() if table == own), None)
        for own in feature_map.sequences.values()
    ]


def _state(encoded: Encoded, ids: Mapping[str, Tensor]) -> HistoryState:
    return HistoryState(encoded.mask, encoded.events, encoded.states, encoded.memory, ids)
