"""A model of another library, which reads raw values: an ONNX file as a function of encoded rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from ctrkit.arrays import Floats
from ctrkit.data.feature_map import FeatureMap
from ctrkit.data.raw_encoder import RawEncoder
from ctrkit.errors import DataError, RunError
from ctrkit.onnx_graph import OnnxGraph

# Whether outputs are probabilities or logits.
OutputScale: TypeAlias = Literal["probability", "logit"]
# Probabilities are float32 in most files: they may exceed their bounds by this, and round to 0 or 1.
_ROUNDING, _LEAST = 1e-4, 1e-12
# 32 bits hold every whole number below it.
_EXACT = 2.0**24


class RawModel:
    """An ONNX file that gives the logits of a funnel of tasks.

    Args:
        content: the bytes of the file.
        name: its name, for messages.
        features: the columns that it reads: those of its single input in order, or the names of its inputs.
        outputs: the output of each task.
        positive: which of two numbers in a row of an output is that of the event; None where there is one.
        scale: what its outputs are.
        feature_map: fields and tasks.
        threads: number of threads for a call; None for one on each core.

    Raises:
        ArtifactError: ONNX Runtime cannot open the file.
        ConfigError: it does not read the columns or give the outputs.
        ValueError: columns and outputs are not those of the fields and tasks.
    """

    def __init__(
        self,
        content: bytes,
        name: str,
        features: Sequence[str],
        outputs: Sequence[str],
        positive: int | None,
        scale: OutputScale,
        feature_map: FeatureMap,
        threads: int | None = None,
    ) -> None:
        self.content, self.positive, self.scale, self.feature_map = content, positive, scale, feature_map
        self.graphs = tuple(OnnxGraph(name, features, output, content, threads) for output in outputs)
        if len(outputs) != len(feature_map.tasks) or {*self.graphs[0].features} - {*feature_map.fields}:
            raise ValueError("its columns and outputs are not those of the features and tasks")

    def logits(
        self, categorical: NDArray[np.int32], numeric: NDArray[np.float32], encoder: RawEncoder
    ) -> Floats:
        """The logits `[n, T]` of rows `[n, F]` and `[n, N]`.

        Args:
            categorical: ids as the encoder numbers them.
            numeric: numbers, NaN where one is missing.
            encoder: what encoded the rows.

        Raises:
            DataError: a value is none that the file takes.
            RunError: the file cannot be computed, or gives no probabilities or logits.
        """
        table = self._raw(categorical, numeric, encoder)
        return np.stack([self._logits(graph, graph(table)) for graph in self.graphs], axis=1)

    def _raw(
        self, categorical: NDArray[np.int32], numeric: NDArray[np.float32], encoder: RawEncoder
    ) -> pl.DataFrame:
        """The values that the file reads, as a table."""
        graph, features = self.graphs[0], self.feature_map
        columns = []
        for name in graph.features:
            if name in features.numeric:
                numbers = numeric[:, features.numeric.index(name)].astype(np.float64)
                column = pl.Series(name, numbers).fill_nan(None)
                if graph.is_whole(name) and bool((column.abs() >= _EXACT).any()):
                    raise DataError(
                        "the model reads whole numbers, which 32 bits do not hold above 16,777,216",
                        column=name,
                        hint="Declare the column as categorical",
                    )
            else:
                column = encoder.values(name, categorical[:, list(features.categorical).index(name)])
                if not graph.is_text(name):
                    column = _as_numbers(column)
            columns.append(column)
        return pl.DataFrame(columns)

    def _logits(self, graph: OnnxGraph, found: Floats) -> Floats:
        """The logits of one task, from the graph's numbers `[B, 1 or 2]`."""
        name = f"output '{graph.output}'"
        if found.shape[1] != (1 if self.positive is None else 2):
            raise RunError(f"{name} has {found.shape[1]} numbers a row")
        values = found[:, self.positive or 0]
        if self.scale == "logit":
            wrong = values[~np.isfinite(values)]
        else:
            wrong = values[~((values >= -_ROUNDING) & (values <= 1 + _ROUNDING))]
        if wrong.size:
            raise RunError(f"{name} holds {wrong[0]:g}, which is no {self.scale}")
        if self.scale == "logit":
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
