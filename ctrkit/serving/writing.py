"""Graphs written in a format that a runtime opens."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from ctrkit.errors import ConfigError, nearest
from ctrkit.extras import require
from ctrkit.models.lightgbm import LightGBM
from ctrkit.models.model import CtrModel
from ctrkit.models.onnx import OnnxModel
from ctrkit.models.scorer import Scorer
from ctrkit.models.tree_text import trees_of
from ctrkit.nn.scan import scans_by_doubling
from ctrkit.serving.bundle import ANSWERED, IMPORTED
from ctrkit.serving.graphs import AnswerGraph, ColumnGraph, ServedGraph
from ctrkit.serving.sessions import EXTRA
from ctrkit.serving.trees import tree_graph

# Example tensors of a graph's inputs, by name.
Examples: TypeAlias = Mapping[str, Tensor]
Writer: TypeAlias = Callable[[ServedGraph, Examples, Path], None]


class Traced(Protocol):
    """What is traced: a module of tensors with names, of which some have as many rows as are scored."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def by_row(self) -> tuple[str, ...]: ...

    def eval(self) -> torch.nn.Module: ...


def write_onnx(graph: Traced, examples: Examples, path: Path) -> None:
    """Write an ONNX file. TensorRT reads the same file."""
    for package in ("onnx", "onnxscript"):
        require(package, "an export to ONNX", EXTRA)
    with _quiet():
        torch.onnx.export(
            _program(graph, examples),
            f=path,
            input_names=graph.inputs,
            output_names=graph.outputs,
            verbose=False,
            external_data=False,
            custom_translation_table={torch.ops.aten.log1p.default: _log1p},
        )


def _log1p(x: Any) -> Any:
    """log(1 + x) as ONNX operators, which have none for it.

    As it stands it is 0 for an x below the last digit of 1, and a tree may tell such an x from 0. So it is
    x log(y) / (y - 1), where y = 1 + x is rounded in both alike: Goldberg, "What Every Computer Scientist
    Should Know About Floating-Point Arithmetic" (1991), theorem 4.
    """
    op = require("onnxscript", "an export to ONNX", EXTRA).opset18
    one = op.CastLike(1.0, x)
    y = op.Add(x, one)
    return op.Where(op.Equal(y, one), x, op.Div(op.Mul(x, op.Log(y)), op.Sub(y, one)))


def write_trees(graph: ServedGraph, examples: Examples, path: Path) -> None:
    """Write an ONNX file of boosted trees: what they read, the trees as one operator, and the calibrators."""
    onnx, trees = require("onnx", "an export to ONNX", EXTRA), graph.model.network
    assert isinstance(trees, LightGBM)

    def merged(one: Any, other: Any) -> Any:
        names = {value.name for value in one.graph.output} & {value.name for value in other.graph.input}
        kept = [value.name for value in one.graph.output if value.name not in names]
        outputs = [*kept, *(value.name for value in other.graph.output)]
        return onnx.compose.merge_models(one, other, [(name, name) for name in names], outputs=outputs)

    columns = _proto(ColumnGraph(graph), examples, path)
    logits = tree_graph(
        [trees_of(text) if text else [] for text in trees.texts],
        trees.logits,
        next(one.version for one in columns.opset_import if not one.domain),
    )
    logits.ir_version = columns.ir_version
    answers = onnx.compose.add_prefix(
        _proto(AnswerGraph(graph.model), _logits_of(graph, examples), path),
        "answer/",
        rename_inputs=False,
        rename_outputs=False,
    )
    onnx.save(merged(merged(columns, logits), answers), path)


def write_imported(graph: ServedGraph, examples: Examples, path: Path) -> None:
    """Write the calibrators of an imported model, and its own file beside them, as it is."""
    model = graph.model.network
    assert isinstance(model, OnnxModel)
    assert model.model is not None
    write_onnx(AnswerGraph(graph.model), _logits_of(graph, examples), path)
    path.with_name(IMPORTED).write_bytes(model.model.content)


def _proto(graph: Traced, examples: Examples, path: Path) -> Any:
    """The ONNX model that `write_onnx` writes, by way of a file."""
    write_onnx(graph, examples, path)
    return require("onnx", "an export to ONNX", EXTRA).load(path)


def _logits_of(graph: ServedGraph, examples: Examples) -> Examples:
    """Examples for `AnswerGraph`."""
    batch, _ = graph.rows([examples[name] for name in graph.inputs])
    shape = len(batch), len(graph.model.tasks)
    return dict(zip(ANSWERED, (torch.zeros(shape, dtype=torch.float64), batch.categorical), strict=True))


def write_openvino(graph: ServedGraph, examples: Examples, path: Path) -> None:
    """Write OpenVINO's own form, by way of ONNX. Its scan operator loses the state (2026.4)."""
    openvino = require("openvino", "an export to OpenVINO", EXTRA)
    onnx = path.with_suffix(".onnx")
    with scans_by_doubling():
        write_onnx(graph, examples, onnx)
    openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)
    onnx.unlink()


def write_torch(graph: ServedGraph, examples: Examples, path: Path) -> None:
    """Write an exported program of PyTorch."""
    with _quiet():
        torch.export.save(_program(graph, examples), path)


# Format -> what writes it.
WRITERS: Mapping[str, Writer] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "tensorrt": write_onnx,
    "torch-export": write_torch,
}


def writer_of(model: Scorer, kind: str) -> Writer:
    """What writes graphs of a model in a format.

    Raises:
        ConfigError: there is no such format, or the model is no network, and has no graph in it.
    """
    if kind not in WRITERS:
        raise ConfigError(f"there is no format '{kind}'", hint=nearest(kind, WRITERS))
    if isinstance(model, CtrModel):
        return WRITERS[kind]
    if kind != "onnx":
        raise ConfigError(
            f"only networks are exported as {kind}, and this is another model", hint="Use --format onnx"
        )
    return write_trees if isinstance(model, LightGBM) else write_imported


def _program(graph: Traced, examples: Examples) -> torch.export.ExportedProgram:
    """The graph traced on examples; the number of rows is free."""
    free = torch.export.Dim.DYNAMIC
    sizes = tuple({0: free} if name in graph.by_row else None for name in graph.inputs)
    arguments = tuple(examples[name] for name in graph.inputs)
    # Strictly, as the number of rows is read with `len`, which other tracing takes for a constant.
    return torch.export.export(graph.eval(), arguments, dynamic_shapes={"tensors": sizes}, strict=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without gradients, and without what the exporter has to say about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
