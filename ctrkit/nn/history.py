"""Behaviour sequences: encoded once, read by any number of targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.data.batches import FeatureMap
from ctrkit.nn.attention import TargetAttention
from ctrkit.nn.embedding import EventEmbedding, PositionEmbedding
from ctrkit.nn.encoders import EncoderConfig, NoEncoderConfig, build_encoder
from ctrkit.nn.readouts import expand_shared, interleave, last_state, mean_state

ReadoutName: TypeAlias = Literal["last_state", "mean", "target_attention", "din"]
OF_TARGET = ("target_attention", "din")


class HistoryConfig(Config):
    """How behaviour sequences are encoded, and how the states are read.

    Attributes:
        encoder: of the events.
        readouts: one reading each: the newest state, the mean of the states, attention of the target over
            the states, or over the events themselves ("din").
        attention: widths of the attention's network.
        products: give beside each reading its product with the target, as only this tells a model that
            cannot multiply how well the two agree.
        positions: tell attention the age of each event.
    """

    encoder: EncoderConfig = NoEncoderConfig()
    readouts: tuple[ReadoutName, ...] = Field(default=("mean",), min_length=1)
    attention: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)
    products: bool = False
    positions: bool = False


@dataclass(frozen=True)
class HistoryState:
    """U encoded histories.

    Attributes:
        ids: sequence -> int32 `[U, L]`, as in the batch.
        mask: bool `[U, L]`, True at events.
        events: `[U, L, d]`, an embedding each.
        states: `[U, L, d]`, by the encoder.
    """

    ids: Mapping[str, Tensor]
    mask: Tensor
    events: Tensor
    states: Tensor

    def __len__(self) -> int:
        return int(self.mask.shape[0])


class History(nn.Module):
    """Encodes histories and reads them with the eyes of a target.

    A target is embedded as if it were the next event: by the same layer, from those of its fields that
    share a table with a sequence. So a target that equals an event is found at once. The other target
    fields add a linear term.

    Args:
        config: of encoder and read-outs.
        feature_map: what sequences and targets there are.
        width: d, of embeddings, events, states and readings.

    Attributes:
        readings: R, the number of vectors that `read` gives.
    """

    def __init__(self, config: HistoryConfig, feature_map: FeatureMap, width: int) -> None:
        super().__init__()
        self.readouts, self.products = config.readouts, config.products
        self.readings = len(config.readouts) * (2 if config.products else 1)
        self.events = EventEmbedding(len(feature_map.sequences), width)
        self.encoder = build_encoder(config.encoder, width, feature_map.max_length)
        by_target = [name for name in config.readouts if name in OF_TARGET]
        self.attention = nn.ModuleDict({name: TargetAttention(width, config.attention) for name in by_target})
        self.ages = (
            PositionEmbedding(feature_map.max_length, width) if config.positions and by_target else None
        )
        if by_target or config.products:
            self.target = positions_of(feature_map, feature_map.target)
            self.twins = _twins(feature_map, self.target)
            self.query = nn.Linear(len(self.target) * width, width)

    def encode(self, parts: Tensor, mask: Tensor, ids: Mapping[str, Tensor]) -> HistoryState:
        """Encode histories.

        Args:
            parts: embeddings of the sequences, `[U, L, S, d]`.
            mask: bool `[U, L]`, True at events.
            ids: the sequences themselves, kept for who embeds them otherwise.
        """
        events = self.events(parts)
        return HistoryState(ids, mask, events, self.encoder(events, mask))

    def read(self, state: HistoryState, fields: Tensor) -> Tensor:
        """Read histories for targets.

        Args:
            state: U histories.
            fields: embeddings of the static fields of the targets, `[U * K, F, d]`, K a history.

        Returns:
            `[U * K, R, d]`.
        """
        candidates = len(fields) // max(len(state), 1)
        query = self._query(fields).unflatten(0, (-1, candidates)) if hasattr(self, "query") else None
        readings = []
        for name in self.readouts:
            reading = self._reading(name, state, query, candidates)
            readings.append(reading)
            if self.products and query is not None:
                readings.append(reading * query)
        return interleave(readings)

    def _reading(self, name: str, state: HistoryState, query: Tensor | None, candidates: int) -> Tensor:
        """One reading: `[U, K, d]`."""
        if query is not None and name in self.attention:
            seen = state.events if name == "din" else state.states
            if self.ages is not None:
                seen = seen + self.ages(seen.shape[1])
            reading: Tensor = self.attention[name](query, seen, state.mask)
            return reading
        pool = last_state if name == "last_state" else mean_state
        return expand_shared(pool(state.states, state.mask), candidates)

    def _query(self, fields: Tensor) -> Tensor:
        """The targets as events: `[B, F, d] -> [B, d]`."""
        nothing = torch.zeros_like(fields[:, 0])
        twins = [nothing if field is None else fields[:, field] for field in self.twins]
        query: Tensor = self.events(torch.stack(twins, dim=1)) + self.query(fields[:, self.target].flatten(1))
        return query


def positions_of(feature_map: FeatureMap, chosen: Sequence[str]) -> list[int]:
    """Where the chosen static fields stand among all; every field where none is chosen."""
    return [position for position, name in enumerate(feature_map.fields) if name in chosen or not chosen]


def _twins(feature_map: FeatureMap, target: Sequence[int]) -> list[int | None]:
    """For each sequence the position of the target field that shares its table, where there is one."""
    tables = {position: feature_map.categorical.get(feature_map.fields[position]) for position in target}
    return [
        next((position for position, table in tables.items() if table == own), None)
        for own in feature_map.sequences.values()
    ]
