"""Behaviour sequences: encoded once, read by any number of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ctrkit.config import Config
from ctrkit.data.feature_map import PADDING_ID, FeatureMap
from ctrkit.errors import ConfigError, nearest
from ctrkit.nn.embedding import EventEmbedding, PositionEmbedding
from ctrkit.nn.encoders import Encoded, EncoderSetting, NoEncoderConfig
from ctrkit.nn.matches import matches_of, twins
from ctrkit.nn.pooling import Pooling, PoolingSetting, PoolingShape, interleave
from ctrkit.nn.pooling.attention import DINPooling
from ctrkit.nn.pooling.sim import SoftSearch
from ctrkit.nn.pooling.states import MeanPooling


class HistoryConfig(Config):
    """How behaviour sequences are encoded, and which poolings read the states.

    Attributes:
        encoder: encoder of the events.
        readouts: the poolings (see `ctrkit.nn.pooling`), which give one reading each: lines
            `NAME:key=value,...`, or mappings of `name` and settings. The list is empty for a model that reads
            the events itself.
        attention: widths of the network of "target_attention" and "din", and of the search's own network in
            "sim_soft".
        products: whether each reading comes with its product with the target. A model that cannot multiply
            needs it to see how well the two agree.
        positions: whether "target_attention", "din", "sim_hard" and "twin" read the age of each event.
        normalise: whether all event vectors have the same length. Without it they are as short as embeddings,
            and their sum is as small as the embedding of one field.
        match_terms: whether decayed counts of the target in the history are terms of the logits.
        pair_terms: whether pairs of the newest event with the target are terms of the logits.
        co_occurrence_terms: whether it is a term of the logits how often other histories hold the events and
            the target. All three are parts of `ctrkit.nn.linear_terms.LinearTerms`.
    """

    encoder: EncoderSetting = NoEncoderConfig()
    readouts: tuple[PoolingSetting, ...] = (MeanPooling(),)
    attention: tuple[PositiveInt, ...] = Field(default=(64,), min_length=1)
    products: bool = False
    positions: bool = False
    normalise: bool = True
    match_terms: bool = True
    pair_terms: bool = True
    co_occurrence_terms: bool = True

    @property
    def has_terms(self) -> bool:
        """Whether the history has terms of the logits."""
        return self.match_terms or self.pair_terms or self.co_occurrence_terms

    @model_validator(mode="after")
    def _encoder_is_read(self) -> HistoryConfig:
        encoded, names = self.encoder.name != "none", [pooling.name for pooling in self.readouts]
        if len(set(names)) < len(names):
            raise ValueError(f"readouts: each pooling may be named once (given: {', '.join(names)})")
        unread = all(pooling.reads == "events" for pooling in self.readouts)
        if encoded and unread and not self.encoder.read_by_model:
            given = "".join(f"'{name}' reads the events themselves; " for name in names)
            raise ValueError(
                f"encoder: nothing in `readouts` reads the states of '{self.encoder.name}' ({given}"
                "use 'target_attention', or encoder: {name: none})"
            )
        for pooling in self.readouts:
            if not encoded and pooling.reads == "encoder":
                raise ValueError(
                    f"readouts: '{pooling.name}' reads an encoder, and there is none; choose one under "
                    "`encoder`"
                )
        return self


@dataclass(frozen=True)
class HistoryState(Encoded):
    """Encoded histories, with the sequences they came from. Where there are several domains, mask, events,
    states and memory are those of the first.

    Attributes:
        ids: sequence -> int32 `[U, L]`, as in the batch.
        domains: the histories of each domain, the first included; empty if there is one domain.
    """

    ids: Mapping[str, Tensor] = field(default_factory=dict)
    domains: tuple[HistoryState, ...] = ()

    @classmethod
    def of_ids(cls, ids: Mapping[str, Tensor]) -> HistoryState:
        """Histories that are not encoded, for a model that embeds events itself."""
        mask = event_mask(ids)
        nothing = torch.zeros(*mask.shape, 0, device=mask.device)
        return cls(mask, nothing, nothing, (), ids)

    def of_rows(self, rows: Tensor) -> HistoryState:
        """The histories of some rows, `[n]`."""
        return HistoryState(
            self.mask[rows],
            self.events[rows],
            self.states[rows],
            tuple(one[rows] for one in self.memory),
            {name: ids[rows] for name, ids in self.ids.items()},
            tuple(one.of_rows(rows) for one in self.domains),
        )


def event_mask(ids: Mapping[str, Tensor]) -> Tensor:
    """Where there is an event, in any of some aligned sequences: `[U, L]` each, bool `[U, L]`."""
    return torch.stack([sequence != PADDING_ID for sequence in ids.values()]).any(dim=0)


class HistoryReader(nn.Module):
    """Encodes histories and reads them for targets.

    A target is embedded as if it were the next event: by the same layer, from the fields that share a table
    with a sequence. So a target that equals an event has the same vector. Its other fields add a linear part.

    Every domain has a reader of its own. The reader of the first one holds the others, and gives the readings
    of all domains.

    Args:
        config: which encoder and which poolings.
        feature_map: names and tables of the sequences and of the target's fields.
        width: d, of embeddings, events, states and readings.

    Attributes:
        readings: R, the number of vectors that `read` gives.
        others: the readers of the other domains.

    Raises:
        ConfigError: the heads of the encoder or of a pooling do not divide the width, or a pooling names a
            sequence that it cannot compare with the target.
    """

    def __init__(self, config: HistoryConfig, feature_map: FeatureMap, width: int) -> None:
        super().__init__()
        own, *others = feature_map.by_domain()
        if others:
            for pooling in config.readouts:
                if pooling.matches:
                    _matched(pooling, feature_map)
        settings = _readable(config, own) if others and config.readouts else config
        self.names, self.length = tuple(own.sequences), own.max_length
        self.poolings, self.products = settings.readouts, settings.products
        self.events = EventEmbedding(len(self.names), width, normalise=settings.normalise)
        read = {pooling.reads for pooling in self.poolings}
        self.encoder = settings.encoder.encoder(
            width,
            self.length,
            reads_states="states" in read,
            reads_target="encoder" in read,
        )
        shape = PoolingShape(width, settings.attention)
        modules = {pooling.name: pooling.module(shape) for pooling in self.poolings}
        self.attention = nn.ModuleDict(
            {name: module for name, module in modules.items() if module is not None}
        )
        aged = settings.positions and any(pooling.reads_ages for pooling in self.poolings)
        self.ages = PositionEmbedding(self.length, width) if aged else None
        reads_target = any(settings.products or pooling.reads_target for pooling in self.poolings)
        self.target = _Target(own, width) if reads_target else None
        self.matched = {pooling.name: _matched(pooling, own) for pooling in self.poolings if pooling.matches}
        self.others = nn.ModuleList(HistoryReader(_readable(config, one), one, width) for one in others)
        places = {name: place for place, name in enumerate(feature_map.sequences)}
        self.places = [[places[name] for name in reader.names] for reader in self.readers]
        of_others = sum(reader.readings for reader in self.readers[1:])
        self.readings: int = len(self.poolings) * (2 if self.products else 1) + of_others

    @property
    def readers(self) -> tuple[HistoryReader, ...]:
        """The reader of each domain, this one first."""
        return (self, *(one for one in self.others if isinstance(one, HistoryReader)))

    def encode(self, parts: Tensor, mask: Tensor, ids: Mapping[str, Tensor]) -> HistoryState:
        """Encode histories.

        Args:
            parts: embeddings of the sequences, `[U, L, S, d]`.
            mask: bool `[U, L]`, True at events.
            ids: the sequences themselves, kept for models that embed them in another way.
        """
        if not self.others:
            return _state(self.encoder.encode(self.events(parts), mask), ids)
        states = []
        for reader, places in zip(self.readers, self.places, strict=True):
            newest = {name: ids[name][:, -reader.length :] for name in reader.names}
            encoded = reader.encoder.encode(
                reader.events(parts[:, -reader.length :, places]), event_mask(newest)
            )
            states.append(_state(encoded, newest))
        return replace(states[0], ids=ids, domains=tuple(states))

    def append(self, state: HistoryState, parts: Tensor, ids: Mapping[str, Tensor]) -> HistoryState:
        """Histories with one more event each: the same result as `encode` of the longer histories.

        A recurrent encoder takes one step at any length, and HSTU one place in each block. Other encoders
        encode the whole history again.

        Args:
            state: U histories.
            parts: embeddings of the new event's parts, `[U, S, d]`.
            ids: sequence -> int32 `[U]`, the ids of the new event; those of one domain are enough.
        """
        states = [
            _state(reader.encoder.append(one, reader.events(parts[:, places])), longer(one.ids, ids))
            if any(name in ids for name in reader.names)
            else one
            for (reader, one), places in zip(self._with(state), self.places, strict=True)
        ]
        if not self.others:
            return states[0]
        return replace(states[0], ids=longer(state.ids, ids), domains=tuple(states))

    def read(self, state: HistoryState, fields: Tensor, categorical: Tensor) -> Tensor:
        """Read histories for targets.

        Args:
            state: U histories.
            fields: embeddings of the targets' static fields, `[U * K, F, d]`, K targets for each history.
            categorical: ids of the targets' categorical fields, `[U * K, C]`.

        Returns:
            `[U * K, R, d]`.
        """
        readings = []
        for reader, one in self._with(state):
            query = reader._query(one, fields)
            for pooling in reader.poolings:
                reading = reader._reading(pooling, one, query, categorical)
                readings.append(reading)
                if reader.products:
                    readings.append(reading * query)
        return interleave(readings) if readings else fields[:, :0]

    def search_logit(self, state: HistoryState, fields: Tensor) -> Tensor | None:
        """The logit `[U * K]` of the first task by which learned searches are trained; None without a search.

        Args:
            state: U histories.
            fields: as in `read`.
        """
        logits = [
            module.search_logit(reader._query(one, fields), one.events, one.mask).flatten()
            for reader, one in self._with(state)
            for module in reader.attention.values()
            if isinstance(module, SoftSearch)
        ]
        return sum(logits[1:], logits[0]) if logits else None

    def _with(self, state: HistoryState) -> Iterator[tuple[HistoryReader, HistoryState]]:
        """The reader of each domain with its histories."""
        return zip(self.readers, state.domains or (state,), strict=True)

    def _query(self, state: HistoryState, fields: Tensor) -> Tensor:
        """The targets: `[U, K, d]`, or `[U, K, 0]` if no pooling reads them."""
        candidates = len(fields) // max(len(state), 1)
        query = fields[:, 0, :0] if self.target is None else self.target(fields, self.events)
        return query.reshape(len(state), candidates, query.shape[1])

    def _reading(self, pooling: Pooling, state: HistoryState, query: Tensor, categorical: Tensor) -> Tensor:
        """One reading: `[U, K, d]`."""
        if pooling.reads == "encoder":
            return self.encoder.next_states(query, state)
        seen, mask = state.events if pooling.reads == "events" else state.states, state.mask
        if self.ages is not None and pooling.reads_ages:
            seen = seen + self.ages(seen.shape[1])
        if pooling.matches:
            sequence, column = self.matched[pooling.name]
            own = categorical[:, column].reshape(len(state), query.shape[1])
            mask = mask.unsqueeze(1) & matches_of(state.ids[sequence], own)
        reading: Tensor = self.attention[pooling.name](query, seen, mask)
        return reading


class _Target(nn.Module):
    """Targets as events: the events' layer over the fields that share a table with a sequence, and a linear
    part of the other fields."""

    def __init__(self, feature_map: FeatureMap, width: int) -> None:
        super().__init__()
        fields = positions_of(feature_map, feature_map.target)
        pairs = twins(feature_map)
        self.twins = [pairs.get(sequence) for sequence in feature_map.sequences]
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


def _readable(config: HistoryConfig, feature_map: FeatureMap) -> HistoryConfig:
    """The settings for one of several domains: with those poolings that can read it, or else with "din"."""
    columns = twins(feature_map)
    readouts = tuple(
        pooling
        for pooling in config.readouts
        if not pooling.matches
        or getattr(pooling, "sequence", None) in (*columns, *([None] if columns else []))
    )
    encoded = any(pooling.reads != "events" for pooling in readouts)
    encoder = config.encoder if encoded else NoEncoderConfig()
    return config.model_copy(update={"readouts": readouts or (DINPooling(),), "encoder": encoder})


def longer(ids: Mapping[str, Tensor], event: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sequences `[U, L]` with one more event `[U]`, and with padding in those that it is not of."""
    return {
        name: torch.cat([old, event[name].unsqueeze(1)], dim=1) if name in event else F.pad(old, (1, 0))
        for name, old in ids.items()
    }


def _matched(pooling: Pooling, feature_map: FeatureMap) -> tuple[str, int]:
    """The sequence that a pooling compares with the target, and the target's column of
    `Batch.categorical`."""
    columns = twins(feature_map)
    chosen = getattr(pooling, "sequence", None)
    if not columns or chosen not in (None, *columns):
        raise ConfigError(
            f"history.readouts: '{pooling.name}' needs a sequence that shares a table with a target field"
            + (f", and '{chosen}' is none" if chosen else ""),
            hint=nearest(chosen, columns) if chosen and columns else "Declare one with `shares`",
        )
    if chosen is None:
        chosen = min(columns, key=lambda sequence: feature_map.tables[feature_map.sequences[sequence]])
    return chosen, columns[chosen]


def _state(encoded: Encoded, ids: Mapping[str, Tensor]) -> HistoryState:
    # Of histories without a place, the encoder makes one.
    more = encoded.mask.shape[1] - next(iter(ids.values())).shape[1]
    if more:
        ids = {name: F.pad(sequence, (more, 0)) for name, sequence in ids.items()}
    return HistoryState(encoded.mask, encoded.events, encoded.states, encoded.memory, ids)
