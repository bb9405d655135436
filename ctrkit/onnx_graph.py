"""An ONNX file as a function of a table's columns that gives numbers for every row.

LightGBM, XGBoost and scikit-learn models can be converted to ONNX, and networks can be exported to it. A file
holds a graph of known operations and no code; ONNX Runtime computes it. If the graph does not say which
columns a wide input takes, the user must say so; nothing is guessed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.arrays import Floats
from ctrkit.errors import ArtifactError, ConfigError, DataError, RunError
from ctrkit.tables.cells import as_ids

# Largest number of rows computed together.
ROWS = 16_384
INSTALL = 'pip install "ctrkit[onnx]"'
_TEXT = "tensor(string)"
_NUMBERS: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_,
}  # fmt: skip
_MAPS = "seq(map("
_CLASSES = ("tensor(int64)", "tensor(int32)", "tensor(string)")
# Names that converters give to the output of probabilities.
_PROBABILITIES = ("probabilities", "output_probability", "probability")


class OnnxGraph:
    """A graph whose inputs are columns of a table.

    Either each input is one column, `[N]` or `[N, 1]`, with the same name, or a single input takes several
    columns, `[N, F]`, and `features` names them in their order. A missing value is "" for text inputs (ids as
    text, `as_ids`), NaN for float inputs, and not allowed for integer inputs.

    Args:
        path: path of the file. External data of the model are read from its own folder only.
        features: columns of the single input. By default they come from the file's metadata `features`, a
            JSON list or a comma-separated list of names.
        output: name of the output to read. By default it is the only output of numbers, or the output with a
            name that converters use, such as `probabilities`.
        content: bytes of a file that holds the whole model; `path` is then its name for messages.
        threads: number of threads for a call; None for one on each core.

    Attributes:
        features: the columns that are read.
        width: number of values for each row; None where only rows of data can tell.
        classes: names of the values' classes, if the model gives them (as scikit-learn's ZipMap does).
        classifies: whether the model also gives a class, as converted classifiers do.

    Raises:
        ArtifactError: the file is damaged, needs unknown operations or data outside its folder, or has inputs
            that no column fits.
        ConfigError: ONNX Runtime is not installed, or columns or the output must be named.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        features: Sequence[str] | None = None,
        output: str | None = None,
        content: bytes | None = None,
        threads: int | None = None,
    ) -> None:
        self.file = os.fspath(path)
        self._given = (features, output, content, threads)
        self._session = _session(self.file, content, threads)
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._inputs = self._session.get_inputs()
        self.features = self._features(features)
        outputs = self._session.get_outputs()
        self.output = self._output({one.name: one.type for one in outputs}, output)
        self.classifies = any(one.type in _CLASSES for one in outputs)
        self.classes: tuple[str, ...] | None = None
        self.width = self._look()

    def __reduce__(self) -> tuple[Callable[..., OnnxGraph], tuple[object, ...]]:
        # A session cannot go to another process; the file is opened there again.
        content = self._given[2]
        return OnnxGraph, (self.file if content else os.path.abspath(self.file), *self._given)

    def is_text(self, name: str) -> bool:
        """Whether the input of a column is of text."""
        return self._input(name).type == _TEXT if name in self.features else False

    def is_whole(self, name: str) -> bool:
        """Whether the input of a column is of whole numbers."""
        return not self.is_text(name) and not issubclass(_NUMBERS[self._input(name).type], np.floating)

    def listed(self, key: str) -> tuple[str, ...] | None:
        """The list of names in the metadata under a key; None where there is none.

        Raises:
            ArtifactError: the value is neither a JSON list nor a comma-separated list.
        """
        text = self.metadata.get(key)
        if text is None:
            return None
        try:
            names = json.loads(text) if text.lstrip().startswith("[") else text.split(",")
        except ValueError as error:
            raise ArtifactError(
                f"`{key}` of its metadata begins like a JSON list, but is not one", file=self.file
            ) from error
        return tuple(str(name).strip() for name in names)

    def __call__(self, table: pl.DataFrame, file: str | None = None) -> Floats:
        """The values of the rows of a table with the columns `features`: [M, C].

        Raises:
            DataError: a column does not fit its input.
            RunError: the graph cannot be computed, or gives another shape.
        """
        parts = [self._run(table[start : start + ROWS], file) for start in range(0, table.height, ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, self.width or 1))

    def _run(self, table: pl.DataFrame, file: str | None) -> Floats:
        columns = {name: _values(table[name], self._input(name), file) for name in self.features}
        if len(self._inputs) == 1:
            (only,) = self._inputs
            matrix = np.column_stack([columns[name] for name in self.features])
            feed = {only.name: matrix[:, 0] if len(only.shape or (0, 0)) == 1 else matrix}
        else:
            feed = {i.name: columns[i.name].reshape(-1, *(1,) * (len(i.shape) - 1)) for i in self._inputs}
        try:
            (found,) = self._session.run([self.output], feed)
        except Exception as error:  # ONNX Runtime's have no common base
            raise RunError(f"{self.file}: ONNX Runtime cannot compute it: {_first_line(error)}") from error
        if isinstance(found, list):
            self.classes = tuple(str(key) for key in found[0])
            found = [list(row.values()) for row in found]
        numbers = np.asarray(found, dtype=np.float64)
        if numbers.shape[0] != table.height or numbers.ndim > 2:
            raise RunError(
                f"{self.file}: output '{self.output}' has the shape {list(numbers.shape)} for {table.height}"
                " rows, but needs [rows, values]"
            )
        return numbers.reshape(table.height, -1)

    def _look(self) -> int | None:
        """The number of values for each row, from one empty row."""
        nothing = {name: [""] if self.is_text(name) else [0] for name in self.features}
        try:
            return int(self._run(pl.DataFrame(nothing), None).shape[1])
        except RunError:  # such as one-hot categories that know of no others
            return None

    def _input(self, feature: str) -> Any:
        named = (one for one in self._inputs if one.name == feature)
        return self._inputs[0] if len(self._inputs) == 1 else next(named)

    def _features(self, given: Sequence[str] | None) -> tuple[str, ...]:
        """The columns that the inputs take."""
        for one in self._inputs:
            size = one.shape[0] if one.shape else None
            problem = None
            if one.type != _TEXT and one.type not in _NUMBERS:
                problem = f"has the type {one.type}, but a column holds numbers or text"
            elif len(one.shape or (0,)) > 2 or one.shape == []:
                problem = f"has the shape {one.shape}, but a column has [rows] or [rows, 1]"
            elif isinstance(size, int):
                problem = f"takes exactly {size} rows; export the model with a dynamic batch size"
            elif len(self._inputs) > 1 and _width(one) != 1:
                problem = "takes several columns, which only a model with a single input can"
            if problem:
                raise ArtifactError(f"input '{one.name}' {problem}", file=self.file)
        names = tuple(one.name for one in self._inputs)
        if len(names) > 1:
            if given is not None and sorted(given) != sorted(names):
                raise ConfigError(
                    f"the model has an input for each column: {', '.join(names)}",
                    hint="Remove `features`",
                )
            return names
        found, wide = tuple(given or self.listed("features") or ()), _width(self._inputs[0])
        if not found and wide != 1:
            raise ConfigError(
                f"{self.file}: input '{names[0]}' takes {wide or 'several'} columns, and the model does not "
                "say which",
                hint=f"Name them in order as {self.file}:features=a|b|c, or in the metadata `features`",
            )
        if found and wide not in (None, len(found)):
            raise ConfigError(
                f"{self.file}: input '{names[0]}' takes {wide} columns, but {len(found)} are named",
                hint="Name each column once, in the order of training",
            )
        if len(set(found)) < len(found):
            raise ConfigError(f"{self.file}: a column of input '{names[0]}' is named twice")
        return found or names

    def _output(self, types: Mapping[str, str], given: str | None) -> str:
        numbers = [name for name, of in types.items() if of in _NUMBERS or of.startswith(_MAPS)]
        fractions = [name for name in numbers if types[name] not in _CLASSES]
        called = [name for name in fractions if name in _PROBABILITIES]
        for found in ([given] if given in numbers else [], called, fractions, numbers):
            if len(found) == 1 and given in (None, found[0]):
                return found[0]
        raise ConfigError(
            f"{self.file}: the outputs of numbers are {', '.join(numbers) or 'none'}",
            hint=f"Say which holds the probabilities: {self.file}:output=NAME",
        )


def _width(one: Any) -> int | None:
    """The columns of an input; None where they are free."""
    if len(one.shape or (0, 0)) == 1:
        return 1
    return one.shape[1] if one.shape and isinstance(one.shape[1], int) else None


def _session(file: str, content: bytes | None, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"{file} is an ONNX model and needs onnxruntime, which is not installed",
            hint=f"Install it: {INSTALL}",
        ) from error
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; converters give shapes of labels that are warned about
    if content is not None:  # and nothing beside it is read
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return onnxruntime.InferenceSession(content or file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no common base
        text = str(error)
        hint = "Copy or export it again"
        if content is not None and "xternal" in text:
            hint = "Save it as one file: `onnx.save(onnx.load(PATH), PATH, save_as_external_data=False)`"
        elif "xternal data" in text:
            hint = "Keep the data of the model in its own folder, as files and not as links"
        elif "not a registered function/op" in text:
            hint = "Export it with ONNX operations only (the domains ai.onnx and ai.onnx.ml)"
        problem = f"ONNX Runtime cannot open it: {_first_line(error)}"
        raise ArtifactError(problem, file=file, hint=hint) from error


def _first_line(error: Exception) -> str:
    """The first line of ONNX Runtime's message, without the error number."""
    return str(error).strip().partition("\n")[0].rpartition(" : ")[2].rstrip(". ")


def _values(column: pl.Series, taken: Any, file: str | None) -> NDArray[Any]:
    """A column in the type of its input: [M]."""

    def wrong(problem: str) -> DataError:
        return DataError(problem, file=file, column=column.name)

    if taken.type == _TEXT:
        return as_ids(column, file, column.name).fill_null("").to_numpy().astype(object)
    dtype = _NUMBERS[taken.type]
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise wrong(f"it is {column.dtype}, but input '{taken.name}' of the model takes numbers")
    if issubclass(dtype, np.floating):
        return column.cast(pl.Float64).to_numpy().astype(dtype)
    if column.null_count():
        raise wrong(f"a value is missing, but input '{taken.name}' of the model takes only whole numbers")
    found = column.to_numpy()
    if not (found.astype(dtype) == found).all():
        raise wrong(f"a number does not fit input '{taken.name}' of the model, {taken.type}")
    return found.astype(dtype)
