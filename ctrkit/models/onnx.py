"""ONNX: a model of another library, which reads raw values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.data.raw_model import OutputScale, RawModel
from ctrkit.errors import ConfigError
from ctrkit.models.base import register
from ctrkit.models.scorer import Output, Scorer, ScorerConfig
from ctrkit.nn.batches import Batch
from ctrkit.nn.history import HistoryState

_GRAPH = "graph"


class OnnxConfig(ScorerConfig):
    """Config of an imported model.

    Attributes:
        features: the columns that the graph reads: those of its single input in order, or the names of its
            inputs.
        outputs: the output of each task, in funnel order: of a later task given the task before it.
        positive: which of two numbers in a row of an output is that of the event; None where there is one
            number.
        scale: whether outputs are probabilities or logits.
    """

    name: Literal["onnx"] = "onnx"
    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    positive: Literal[0, 1] | None = None
    scale: OutputScale = "probability"

    @property
    def reading(self) -> dict[str, Any]:
        """How a `RawModel` reads the file, as plain data."""
        return self.model_dump(mode="json", exclude={"name"})


@register(OnnxConfig)
class OnnxModel(Scorer):
    """A graph of ONNX operations, computed by ONNX Runtime. It is imported, and not trained.

    Args:
        config: what the graph reads and gives.
        feature_map: features and tasks.

    Raises:
        ConfigError: ONNX Runtime is not installed, or the rows have a value.
    """

    trained_here = False

    def __init__(self, config: OnnxConfig, feature_map: FeatureMap) -> None:
        super().__init__(feature_map)
        if feature_map.value:
            raise ConfigError("an imported model predicts no value", hint="Leave out `features.value`")
        self.config = config
        self.model: RawModel | None = None
        self.encoder: RawEncoder | None = None

    def read_values_of(self, encoder: Encoder) -> None:
        if not isinstance(encoder, RawEncoder):
            raise ValueError("an imported model reads raw values")
        self.encoder = encoder

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        if arrays.keys() != {_GRAPH} or arrays[_GRAPH].dtype != np.uint8:
            raise ValueError("the graph is missing or has another type")
        self.take_graph(arrays[_GRAPH].tobytes(), "the graph of the artifact")

    def take_graph(self, content: bytes, name: str) -> None:
        """Take the bytes of an ONNX file.

        Raises:
            ArtifactError: ONNX Runtime cannot open it.
            ConfigError: it does not read the columns or give the outputs of the config.
        """
        self.model = RawModel(content, name, **self.config.reading, feature_map=self.feature_map)

    def arrays(self) -> dict[str, NDArray[Any]]:
        assert self.model is not None
        return {_GRAPH: np.frombuffer(self.model.content, dtype=np.uint8).copy()}

    def forward(self, batch: Batch, history: HistoryState | None = None) -> Output:
        assert self.model is not None
        assert self.encoder is not None
        logits = self.model.logits(batch.categorical.numpy(), batch.numeric.numpy(), self.encoder)
        return self._output(logits)
