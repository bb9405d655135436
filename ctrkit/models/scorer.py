"""The role of a model in an artifact: encoded rows in, logits of the tasks out.

Networks fill it (`ctrkit.models.model.CtrModel`), and so do models that other libraries compute, such as
trees. What reads predictions alone takes a `Scorer`; what needs gradients or a last layer takes a `CtrModel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ctrkit.config import Config
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import ConfigError
from ctrkit.nn.batches import Batch
from ctrkit.nn.history import HistoryState


@dataclass(frozen=True)
class Output:
    """The output of a model for a batch.

    Attributes:
        logits: `[B, T]`, the logit of each task given the task before it: click, then conversion given click.
        hidden: `[B, D]`, the input of the last linear layer of the first task: `logits[:, 0]` is
            `last_layer(hidden)[:, 0]`. So any network can have a posterior over that layer. D = 0 for a model
            without such a layer.
        auxiliary: inputs of further losses, `[B]` each. "deep" and "shallow" are logits of the first task
            from parts of the model. "search" is the logit of the first task that trains a learned search of
            histories; it is there in training only. "imputation.<task>" is ESCM²'s prediction of that task's
            loss.
        value: `[B, 3]`, the distribution of the value given the last task: the logit of a value above 0, then
            mean and deviation of the logarithm of such a value. None where rows have no value.
    """

    logits: Tensor
    hidden: Tensor
    auxiliary: Mapping[str, Tensor] = field(default_factory=dict)
    value: Tensor | None = None


class ScorerConfig(Config):
    """Base of the configs of all models. Each has a literal `name`, which is its own default."""

    name: str

    @property
    def searches(self) -> bool:
        """Whether training first searches for a config, which `Backbone.derive` then returns."""
        return False

    def takes_steps(self, *, sequences: bool, value: bool) -> bool:
        """Whether gradient steps train the model, as the settings `training` of a run say.

        Args:
            sequences: whether the rows have behaviour sequences.
            value: whether the rows have a value.
        """
        return False

    @property
    def trains_vectors(self) -> bool:
        """Whether training may change pretrained vectors, as `trained` in the features asks for."""
        return False

    def check_vectors(self, trained: Collection[str]) -> None:
        """Check that the model can train vectors.

        Args:
            trained: the features whose vectors shall be trained.

        Raises:
            ConfigError: it cannot.
        """
        if trained and not self.trains_vectors:
            raise ConfigError(
                f"key 'features.vectors': the model '{self.name}' cannot train '{min(trained)}', as it reads"
                " the numbers of vectors and has no embeddings",
                hint="Leave out `trained`, or choose a network with embeddings",
            )


class Scorer(nn.Module, ABC):
    """A model of the probabilities of a funnel of tasks.

    It returns logits, and knows nothing about losses, devices or files.

    Args:
        feature_map: features and tasks of a batch.

    Attributes:
        reads_history: whether the model reads behaviour sequences.
        encodes_history: whether `encode_history` is work that rows of one history should share.
        trained_here: whether ctrkit trains the model; an imported one was trained elsewhere.

    Raises:
        ConfigError: the model cannot be built for these features.
    """

    config_class: ClassVar[type[ScorerConfig]]
    reads_history: bool = False
    encodes_history: bool = False
    trained_here: ClassVar[bool] = True

    def __init__(self, feature_map: FeatureMap) -> None:
        super().__init__()
        if not feature_map.fields:
            raise ConfigError(
                "a model needs at least one static feature",
                hint="Declare one under `features.categorical` or `features.numeric`",
            )
        self.feature_map = feature_map

    @abstractmethod
    def forward(self, batch: Batch, history: HistoryState | None = None) -> Output:
        """Logits of the rows. Labels and weights of the batch are not read.

        Args:
            batch: the rows.
            history: encoded histories from `encode_history`, in place of the batch's own sequences. With U
                histories and U x K rows, K consecutive rows share a history, such as the candidates of one
                auction.
        """

    def encode_history(self, batch: Batch) -> HistoryState:
        """The batch's sequences, ready to be read by any number of candidates."""
        return HistoryState.of_ids(batch.sequences)

    def read_values_of(self, encoder: Encoder) -> None:
        """Find raw values in an encoder, for models that read them.

        Raises:
            ValueError: the encoder does not keep them.
        """
        if isinstance(encoder, RawEncoder):
            raise ValueError("the model reads encoded values")

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """A copy of all that has been learnt, as arrays by name."""

    @abstractmethod
    def take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Load what has been learnt, as `arrays` gives it.

        Raises:
            ValueError: the arrays are not those of such a model.
        """

    @property
    def device(self) -> torch.device:
        """Where batches are computed."""
        return torch.device("cpu")

    @property
    def last_layer(self) -> nn.Linear | None:
        """The last linear layer of the first task, which reads `Output.hidden`; None without one."""
        return None

    def _output(self, logits: NDArray[np.float64]) -> Output:
        """The output of a model without a last layer, from logits `[B, T]`."""
        return Output(torch.from_numpy(logits), torch.zeros(len(logits), 0))
