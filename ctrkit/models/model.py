"""A whole model: embeddings, encoder and pooling of histories, backbones, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.data.feature_map import FeatureMap
from ctrkit.errors import ConfigError
from ctrkit.models.base import MODELS, SCORERS, Backbone, Inputs, InputShape, ModelConfig
from ctrkit.models.heads.base import HEADS
from ctrkit.models.scorer import Output, Scorer, ScorerConfig
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.nn.history import HistoryReader, HistoryState, longer
from ctrkit.nn.linear_terms import LinearTerms


class CtrModel(Scorer):
    """A network. Its initial weights come from torch's global random generator.

    Args:
        config: which model, and its settings.
        feature_map: features and tasks of a batch.

    Attributes:
        reads_history: whether the model reads behaviour sequences.
        linear: linear terms of the logits, or None.

    Raises:
        ConfigError: the model cannot be built for these features.
    """

    def __init__(self, config: ModelConfig, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        if MODELS[config.name].needs_history and not feature_map.sequences:
            raise ConfigError(
                f"the model '{config.name}' needs a behaviour sequence, and there is none",
                hint="Declare one under `features.sequences`, or choose another model",
            )
        width = config.embedding_width
        feature_map = feature_map.with_bins(config.embedding.bins)
        self.feature_map = feature_map
        self.reads_history = bool(feature_map.sequences) and config.reads_history
        self.embedding: FeatureEmbedding | None = None
        self.history: HistoryReader | None = None
        static = readings = 0
        if config.reads_embeddings:
            static = len(feature_map.fields)
            embedding = config.embedding.model_copy(update={"width": width})
            self.embedding = FeatureEmbedding(feature_map, embedding)
            self.encodes_history = self.reads_history
            if self.reads_history and not config.keeps_sequences_apart:
                self.history = HistoryReader(config.history, feature_map, width)
                readings = self.history.readings
        self.linear = linear_terms(config, feature_map)
        linear = self.linear is not None
        shape = InputShape(feature_map, width, static, readings, self.history, linear)
        self.heads = HEADS[config.heads.name](config.heads, lambda: MODELS[config.name](config, shape), shape)

    def forward(self, batch: Batch, history: HistoryState | None = None) -> Output:
        if history is None and self.reads_history:
            history = self.encode_history(batch)
        fields = self._fields(batch)
        readings = fields[:, :0]
        if self.history is not None and history is not None:
            readings = self.history.read(history, fields, batch.categorical)
        linear = None
        if self.linear is not None:
            linear = self.linear(batch, {} if history is None else history.ids)
        output: Output = self.heads(Inputs(batch, fields, readings, history, linear))
        if self.training and self.history is not None and history is not None:
            search = self.history.search_logit(history, fields)
            if search is not None:
                output = replace(output, auxiliary={**output.auxiliary, "search": search})
        return output

    def _fields(self, batch: Batch) -> Tensor:
        """Embeddings of the static fields, `[B, F, d]`; `[B, 0, 0]` for a model that reads none."""
        return (
            batch.numeric.new_zeros(len(batch), 0, 0)
            if self.embedding is None
            else self.embedding.fields(batch)
        )

    def encode_history(self, batch: Batch) -> HistoryState:
        """The batch's sequences, ready to be read by any number of candidates.

        Raises:
            ConfigError: the model reads no sequences.
        """
        self._check_reads_history()
        if self.embedding is None:
            return HistoryState.of_ids(batch.sequences)
        parts, mask = self.embedding.sequences(batch), self.embedding.event_mask(batch)
        if self.history is None:
            return HistoryState(mask, parts.flatten(2), parts[:, :, 0, :0], (), batch.sequences)
        return self.history.encode(parts, mask, batch.sequences)

    def append_event(self, history: HistoryState, event: Batch) -> HistoryState:
        """Encoded histories with one more event each: the same result as encoding the longer histories.

        A recurrent encoder takes one step at any length, and HSTU one place in each block. Other encoders
        encode the whole history again.

        Args:
            history: U histories from `encode_history`.
            event: U rows with sequences of length 1, without padding; those of one domain are enough.

        Raises:
            ConfigError: the model reads no sequences.
        """
        self._check_reads_history()
        new = {name: ids.squeeze(1) for name, ids in event.sequences.items()}
        if self.embedding is None or self.history is None:
            return self.encode_history(replace(event, sequences=longer(history.ids, new)))
        nothing = torch.zeros_like(next(iter(event.sequences.values())))
        whole = {name: event.sequences.get(name, nothing) for name in self.feature_map.sequences}
        parts = self.embedding.sequences(replace(event, sequences=whole)).squeeze(1)
        return self.history.append(history, parts, new)

    def _check_reads_history(self) -> None:
        if not self.reads_history:
            raise ConfigError("the model reads no sequences", hint="Declare some under `features`")

    def derive(self) -> ModelConfig:
        """The config that a search has found, for a model whose config `searches`."""
        return next(module for module in self.modules() if isinstance(module, Backbone)).derive()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all weights and statistics, by the names of `state_dict`."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load weights, as `arrays` gives them.

        Raises:
            ValueError: names, shapes or types differ from those of the model.
        """
        mine = self.state_dict()
        # Artifacts from before all poolings were in one dictionary have another name for this one.
        arrays = {
            name.replace("history.augru.", "history.attention.augru."): one for name, one in arrays.items()
        }
        for name in sorted({*arrays} | {*mine}):
            if name not in arrays or name not in mine:
                raise ValueError(f"{name} is {'missing' if name in mine else 'unknown'}")
            one, other = arrays[name], mine[name]
            wanted = str(other.dtype).removeprefix("torch.")
            if not isinstance(one, np.ndarray) or (one.shape, one.dtype.name) != (other.shape, wanted):
                raise ValueError(f"{name} is not a tensor of {list(other.shape)}, {wanted}")
        self.load_state_dict({name: torch.from_numpy(one) for name, one in arrays.items()})

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def task_layers(self) -> Sequence[nn.Linear]:
        """The last linear layer of each task, with one output each, in funnel order."""
        return self.heads.task_layers

    @property
    def last_layer(self) -> nn.Linear:
        """The last linear layer of the first task, which reads `Output.hidden`."""
        return self.task_layers[0]

    def set_base_rates(self, rates: Sequence[float]) -> None:
        """Start each task at its base rate (given the task before it) rather than at one half.

        Clicks are rare: without this, training spends its first hundreds of steps on the base rate.
        """
        self.heads.start_at([_logit(rate) for rate in rates])

    @torch.no_grad()
    def shift(self, amount: float) -> None:
        """Add a number to the logit of the first task, for good."""
        self.last_layer.bias.add_(amount)

    def set_value_base(self, positive: float, mean: float, deviation: float) -> None:
        """Start the value at the distribution of the training rows, so that its unit does not matter.

        Args:
            positive: share of values above 0.
            mean: mean of the logarithm of values above 0.
            deviation: standard deviation of that logarithm.
        """
        if self.heads.value is not None:
            self.heads.value.start_from(positive, mean, deviation)


def linear_terms(config: ModelConfig, feature_map: FeatureMap) -> LinearTerms | None:
    """The linear terms that a config asks for; None where it asks for none. Crosses "auto" are none yet."""
    if not config.has_linear_terms(sequences=bool(feature_map.sequences)):
        return None
    seen = feature_map if config.reads_history else replace(feature_map, sequences={})
    chosen = () if config.crosses in (None, "auto") else config.crosses
    history = config.history
    return LinearTerms(
        seen,
        chosen,
        match_terms=history.match_terms,
        pair_terms=history.pair_terms,
        co_occurrence_terms=history.co_occurrence_terms,
    )


def _logit(rate: float) -> float:
    return torch.logit(torch.tensor(rate, dtype=torch.float64), eps=1e-6).item()


def build_model(config: ModelConfig, feature_map: FeatureMap) -> CtrModel:
    """A network with fresh weights."""
    return CtrModel(config, feature_map)


def build_scorer(config: ScorerConfig, feature_map: FeatureMap) -> Scorer:
    """A model of any kind that has learnt nothing yet.

    Raises:
        ConfigError: the model cannot be built for these features.
    """
    config.check_vectors([name for name, one in feature_map.vectors.items() if one.table is not None])
    if isinstance(config, ModelConfig):
        return build_model(config, feature_map)
    # Each class takes the config that it is registered with.
    return SCORERS[config.name](config, feature_map)  # type: ignore[call-arg, arg-type]
