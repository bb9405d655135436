"""The one file that travels the whole road: model, encoder, calibrators, posterior and policy."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.errors import ArtifactError
from ctrkit.file_kinds import RUNS_CODE, TORCH, FileKind, file_kind
from ctrkit.tables import atomic_path

FORMAT = 1
_MARK = "ctrkit artifact"
_OBJECTS = FileKind("a torch file that holds Python objects", RUNS_CODE, program=True)
_WEIGHTS = FileKind("a torch file of something else, such as the weights of another model", program=True)
# How a model of another library takes part, all the same.
_SAYS = (
    "its probabilities in a column of the log (`--policy column:NAME`), or a Python function that gives them "
    "(`ctrkit.evaluate_policy(logs, function)`)"
)


@dataclass
class Artifact:
    """Everything a command needs to know of a trained model, as plain data and tensors.

    Attributes:
        config: the resolved training config.
        feature_map, encoder: how rows become batches.
        weights: the model's state.
        calibrators: task -> calibrator state; empty until `ctrkit calibrate`.
        posterior: last-layer posterior of the first task, or None.
        policy: the policy's config.
        data: fingerprint, rows and split of the training table; a profile of its training rows, and by what
            they are known again.
        metrics: what was measured, by command.
        versions: of the packages that wrote it.
    """

    config: dict[str, Any]
    feature_map: dict[str, Any]
    encoder: dict[str, Any]
    weights: dict[str, Tensor]
    calibrators: dict[str, Any] = field(default_factory=dict)
    posterior: dict[str, Any] | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the artifact, atomically."""
        content = {part.name: _to_tensors(getattr(self, part.name)) for part in fields(self)}
        with atomic_path(path) as temporary:
            torch.save({"mark": _MARK, "format": FORMAT, **content}, temporary)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read an artifact; a file from a stranger can not run code (`weights_only=True`).

        Raises:
            ArtifactError: when the file is missing, damaged, of something else, or of a newer format.
        """
        file = Path(path)
        if not file.exists():
            raise ArtifactError("no such model file", file=path, mend="Train one with `ctrkit train`")
        kind = file_kind(file)
        if kind is not TORCH:
            raise _another(file, kind)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            raise _another(file, _OBJECTS) from error
        except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, by the damage
            raise ArtifactError(
                "the file is damaged", file=path, mend="Copy it again, or train again with `ctrkit train`"
            ) from error
        if not isinstance(content, dict) or content.get("mark") != _MARK:
            raise _another(file, _WEIGHTS)
        if content["format"] > FORMAT:
            raise ArtifactError(
                f"the artifact has format {content['format']}, this ctrkit reads up to {FORMAT}",
                file=path,
                mend="Install a newer ctrkit",
            )
        parts = {part.name: content[part.name] for part in fields(cls)}
        # All but the network's weights is NumPy's on the road.
        for name in ("calibrators", "posterior", "data"):
            parts[name] = _to_arrays(parts[name])
        return cls(**parts)


def _another(file: Path, kind: FileKind) -> ArtifactError:
    """What is said of a file of another kind."""
    mends = [kind.hint] if kind.hint else []
    if kind.program:
        mends += [f"Give a model of `ctrkit train`, or what this one says: {_SAYS}"]
    elif not mends:
        mends += ["Give a file that `ctrkit train` wrote"]
    return ArtifactError(f"this is {kind.name}, no ctrkit artifact", file=file, mend=". ".join(mends))


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    from importlib.metadata import version

    names = ("ctrkit", "torch", "numpy", "polars", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _to_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _to_tensors(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_tensors(inner) for inner in value]
    return value


def _to_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _to_arrays(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_arrays(inner) for inner in value]
    return value
