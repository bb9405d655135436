"""Graphs written in a format that a runtime opens."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from ctrkit.extras import require
from ctrkit.nn.scan import scans_by_doubling
from ctrkit.serving.graphs import ServedGraph
from ctrkit.serving.sessions import EXTRA

# Example tensors of a graph's inputs, by name.
Examples: TypeAlias = Mapping[str, Tensor]
Writer: TypeAlias = Callable[[ServedGraph, Examples, Path], None]


def write_onnx(graph: ServedGraph, examples: Examples, path: Path) -> None:
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
        )


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


def _program(graph: ServedGraph, examples: Examples) -> torch.export.ExportedProgram:
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
