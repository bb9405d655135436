"""ONNX: a model of another library, which reads raw values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from ctrkit.arrays import Floats
from ctrkit.data.encoder import Encoder
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import ConfigError, DataError, RunError
from ctrkit.models.base import register
from ctrkit.models.scorer import Output, Scorer, ScorerConfig
from ctrkit.nn.batches import Batch
from ctrkit.nn.history import HistoryState
from ctrkit.onnx_graph import OnnxGraph

_GRAPH = "graph"
# Probabilities are float32 in most files: they may exceed their bounds by this, and round to 0 or 1.
_ROUNDING, _LEAST = 1e-4, 1e-12
# 32 bits hold every whole number below it.
_EXACT = 2.0**24


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
    scale: Literal["probability", "logit"] = "probability"


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
        self.content = b""
        self.graphs: tuple[OnnxGraph, ...] = ()
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
        features = self.config.features
        graphs = tuple(OnnxGraph(name, features, output, content) for output in self.config.outputs)
        if len(graphs) != len(self.feature_map.tasks) or set(graphs[0].features) - {*self.feature_map.fields}:
            raise ValueError("its columns and outputs are not those of the features and tasks")
        self.content, self.graphs = content, graphs

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {_GRAPH: np.frombuffer(self.content, dtype=np.uint8).copy()}

    def forward(self, batch: Batch, history: HistoryState | None = None) -> Output:
        table = self._raw(batch)
        logits = [self._logits(graph, graph(table)) for graph in self.graphs]
        return self._output(np.stack(logits, axis=1))

    def _raw(self, batch: Batch) -> pl.DataFrame:
        """The values that the graph reads, as a table."""
        assert self.encoder is not None
        graph, features = self.graphs[0], self.feature_map
        columns = []
        for name in graph.features:
            if name in features.numeric:
                numbers = batch.numeric[:, features.numeric.index(name)].double().numpy()
                column = pl.Series(name, numbers).fill_nan(None)
                if graph.is_whole(name) and bool((column.abs() >= _EXACT).any()):
                    raise DataError(
                        "the model reads whole numbers, which 32 bits do not hold above 16,777,216",
                        column=name,
                        hint="Declare the column as categorical",
                    )
            else:
                ids = batch.categorical[:, list(features.categorical).index(name)].numpy()
                column = self.encoder.values(name, ids)
                if not graph.is_text(name):
                    column = _as_numbers(column)
            columns.append(column)
        return pl.DataFrame(columns)

    def _logits(self, graph: OnnxGraph, found: Floats) -> Floats:
        """The logits of one task, from the graph's numbers `[B, 1 or 2]`."""
        name, positive = f"output '{graph.output}'", self.config.positive
        if found.shape[1] != (1 if positive is None else 2):
            raise RunError(f"{name} has {found.shape[1]} numbers a row")
        values = found[:, positive or 0]
        if self.config.scale == "logit":
            wrong = values[~np.isfinite(values)]
        else:
            wrong = values[~((values >= -_ROUNDING) & (values <= 1 + _ROUNDING))]
        if wrong.size:
            raise RunError(f"{name} holds {wrong[0]:g}, which is no {self.config.scale}")
        if self.config.scale == "logit":
            return values
        probabilities: Floats = logit(values.clip(_LEAST, 1 - _LEAST))
        return probabilities


def _as_numbers(ids: pl.Series) -> pl.Series:
    """Ids as the numbers that they are written as."""
    numbers = ids.cast(pl.Float64, strict=False)
    if numbers.null_count() > ids.null_count():
        wrong = ids.filter(numbers.is_null() & ids.is_not_null())[0]
        raise DataError(
            f"the model reads numbers, and '{wrong}' is none",
            column=ids.name,
            hint="Name a column that holds the numbers that the model was trained on",
        )
    return numbers
