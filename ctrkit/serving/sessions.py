"""Exported graphs, opened to be computed: named arrays in, named arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.errors import ArtifactError, ConfigError, InputError, nearest
from ctrkit.extras import MissingPackage, require

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
EXTRA = "serve"


class Session(ABC):
    """An opened graph.

    Args:
        path: its file.
        inputs: names of its inputs, in order.
        outputs: names of its outputs, in order.
        threads: number of threads for a call.

    Raises:
        ArtifactError: the file is damaged.
        MissingPackage: the runtime is not installed.
    """

    suffix: ClassVar[str]
    # Whether several threads may call it at once.
    parallel: ClassVar[bool] = False

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str], threads: int = 1) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        try:
            self._open(path, threads)
        except (InputError, MissingPackage):
            raise
        except Exception as error:  # of each runtime's own classes
            raise ArtifactError(f"the graph is damaged ({str(error)[:200]})", file=path) from error

    def __call__(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs for some arrays, which may be more than are read."""
        found = self._run([arrays[name] for name in self.inputs])
        return dict(zip(self.outputs, found, strict=True))

    @abstractmethod
    def _open(self, path: Path, threads: int) -> None:
        """Open the file."""

    @abstractmethod
    def _run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """The outputs for the inputs, in order."""


class OnnxSession(Session):
    """A graph that ONNX Runtime computes."""

    suffix, parallel = ".onnx", True
    providers: ClassVar[tuple[str, ...]] = ("CPUExecutionProvider",)

    def _open(self, path: Path, threads: int) -> None:
        runtime = require("onnxruntime", "ONNX Runtime", EXTRA)
        missing = [one for one in self.providers if one not in runtime.get_available_providers()]
        if missing:
            raise ConfigError(
                f"this ONNX Runtime has no {missing[0]}",
                hint="Install onnxruntime-gpu and TensorRT, or export with --format onnx",
            )
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that wait do not spin, so that others may use the processor.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(path, options, providers=list(self.providers))

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        found: list[NDArray[Any]] = self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        return found


class TensorRTSession(OnnxSession):
    """A graph that TensorRT computes on a GPU, by ONNX Runtime's provider."""

    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


class OpenVINOSession(Session):
    """A graph that OpenVINO computes. With numbers of 16 bits, probabilities are right to 1e-3 only."""

    suffix = ".xml"
    precision: ClassVar[str] = "f32"

    def _open(self, path: Path, threads: int) -> None:
        core = require("openvino", "OpenVINO", EXTRA).Core()
        # By default OpenVINO chooses the precision, by the processor.
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        self._request = core.compile_model(str(path), "CPU", settings).create_infer_request()

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        found = self._request.infer(list(arrays))
        return [np.array(found[place]) for place in range(len(self.outputs))]


class BFloat16Session(OpenVINOSession):
    """A graph that OpenVINO computes with numbers of 16 bits, where the processor has them."""

    precision = "bf16"


class TorchSession(Session):
    """A program that PyTorch computes. It uses the threads that are set for all programs."""

    suffix = ".pt2"

    def _open(self, path: Path, threads: int) -> None:
        import torch

        self._module = torch.export.load(path).module()

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        import torch

        with torch.no_grad():
            return [one.numpy() for one in self._module(*map(torch.from_numpy, arrays))]


# Format -> what opens its files. The last one is made by a reduction alone (`ctrkit.serving.reductions`).
SESSIONS: Mapping[str, type[Session]] = {
    "onnx": OnnxSession,
    "openvino": OpenVINOSession,
    "tensorrt": TensorRTSession,
    "torch-export": TorchSession,
    "openvino-bf16": BFloat16Session,
}


def session_of(format: str) -> type[Session]:
    """What opens files of a format.

    Raises:
        ConfigError: there is no such format.
    """
    if format not in SESSIONS:
        raise ConfigError(f"there is no format '{format}'", hint=nearest(format, SESSIONS))
    return SESSIONS[format]
