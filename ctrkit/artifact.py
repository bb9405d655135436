"""The one file that travels the whole road: model, encoder, calibrators, posterior and policy."""

from __future__ import annotations

import math
import os
import platform
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctrkit.errors import ArtifactError, missing
from ctrkit.file_kinds import RUNS_CODE, TORCH, FileKind, file_kind
from ctrkit.tables import atomic_path

FORMAT = 1
_MARK = "ctrkit artifact"
_AGAIN = "Copy it again, or train again with `ctrkit train`"
_OBJECTS = FileKind("a torch file that holds Python objects", RUNS_CODE, program=True)
_WEIGHTS = FileKind("a torch file of something else, such as the weights of another model", program=True)
# Parts that probabilities are made of.
_FINITE = ("encoder", "weights", "posterior")
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
        return write_tensors({"mark": _MARK, "format": FORMAT, **content}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read an artifact; a file from a stranger can not run code (`weights_only=True`).

        Raises:
            ArtifactError: when the file is missing, damaged, of something else, or of a newer format; when a
                part of it is missing, of another type, or holds numbers that are none.
        """
        file = Path(path)
        if not file.exists():
            raise missing("model", path)
        kind = file_kind(file)
        if kind is not TORCH:
            raise _another(file, kind)
        try:
            content = read_tensors(file)
        except UnpicklingError as error:
            raise _another(file, _OBJECTS) from error
        except Exception as error:  # torch raises RuntimeError, EOFError, KeyError, by the damage
            raise ArtifactError("the file is damaged", file=path, mend=_AGAIN) from error
        if not isinstance(content, dict) or content.get("mark") != _MARK:
            raise _another(file, _WEIGHTS)
        number = content.get("format")
        if isinstance(number, int) and number > FORMAT:
            raise ArtifactError(
                f"the artifact has format {number}, this ctrkit reads up to {FORMAT}",
                file=path,
                mend="Install a newer ctrkit",
            )
        if type(number) is not int or number < 1:
            raise ArtifactError(f"there is no format {number!r} of artifacts", file=path, mend=_AGAIN)
        parts = {part.name: _checked(content, part.name, file) for part in fields(cls)}
        # All but the network's weights is NumPy's on the road.
        for name in ("calibrators", "posterior", "data"):
            parts[name] = _to_arrays(parts[name])
        return cls(**parts)


def write_tensors(content: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write plain data and tensors as torch does, atomically, with a checksum of every part."""
    sums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(True)
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    finally:
        torch.serialization.set_crc32_options(sums)
    return Path(path)


def read_tensors(path: str | os.PathLike[str]) -> Any:
    """What `write_tensors` wrote; torch itself would not look at the checksums.

    Raises:
        UnpicklingError: there is more than plain data and tensors in it, which is not opened.
        Exception: of many kinds, the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names) or (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"a checksum is wrong, or a name stands twice: {damaged}")
    return torch.load(path, map_location="cpu", weights_only=True)


def _checked(content: dict[str, Any], name: str, file: Path) -> Any:
    """A part of an artifact's file."""
    part = content.get(name)
    if name not in content or not (isinstance(part, dict) or (part is None and name == "posterior")):
        problem = f"the part '{name}' is missing or of another type"
    elif name in _FINITE and not _is_finite(part):
        problem = f"the part '{name}' holds numbers that are none"
    else:
        return part
    raise ArtifactError(problem, file=file, mend=_AGAIN)


def _is_finite(value: Any) -> bool:
    """Whether all numbers, wherever they are in plain data and tensors, are finite."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(inner) for inner in value.values())
    return all(_is_finite(inner) for inner in value) if isinstance(value, (list, tuple)) else True


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
