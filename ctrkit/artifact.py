"""The artifact, `model.pt`: one file with model, encoder, calibrators, posterior and policy."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.errors import ArtifactError, missing
from ctrkit.file_kinds import ARTIFACT, RUNS_CODE, TORCH, FileKind, file_kind

# The first format was a file of torch.
FORMAT = 2
_MARK = "ctrkit artifact"
_AGAIN = "Copy it again, or train again with `ctrkit train`"
_OBJECTS = FileKind("a torch file that holds Python objects", RUNS_CODE, program=True)
_OTHERS = {
    TORCH: FileKind("another torch file, such as the weights of another model", program=True),
    ARTIFACT: FileKind("another archive of data and arrays"),
}
# Parts that determine probabilities.
_FINITE = ("encoder", "weights", "posterior")
# How to use a model of another library.
_SAYS = (
    "its probabilities in a column of the log (`--policy column:NAME`), or a Python function that gives them "
    "(`ctrkit.evaluate_policy(logs, function)`)"
)


@dataclass
class Artifact:
    """Everything that commands need to know about a trained model, as plain data and arrays.

    Attributes:
        config: the resolved training config.
        feature_map: the fields and ids of encoded rows.
        encoder: how rows are encoded.
        weights: the network's tensors, by their names.
        calibrators: task -> calibrator state; empty until `ctrkit calibrate`.
        posterior: last-layer posterior of the first task, or None.
        policy: the policy's config.
        data: fingerprint, rows and split of the training table; a profile of its training rows, and a sample
            by which they are recognised.
        metrics: command -> its measurements.
        versions: package -> its version when the artifact was written.
    """

    config: dict[str, Any]
    feature_map: dict[str, Any]
    encoder: dict[str, Any]
    weights: dict[str, NDArray[Any]]
    calibrators: dict[str, Any] = field(default_factory=dict)
    posterior: dict[str, Any] | None = None
    policy: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the artifact, atomically."""
        content = {part.name: getattr(self, part.name) for part in fields(self)}
        return write_arrays({"mark": _MARK, "format": FORMAT, **content}, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read an artifact. No code in the file can run.

        Raises:
            ArtifactError: the file is missing, damaged, not an artifact or of a newer format, or a part is
                missing, has another type, or holds numbers that are not finite.
        """
        file = Path(path)
        if not file.exists():
            raise missing("model", path)
        kind = file_kind(file)
        if kind not in _OTHERS:
            raise _another(file, kind)
        try:
            content = read_arrays(file) if kind is ARTIFACT else _read_first_format(file)
        except UnpicklingError as error:
            raise _another(file, _OBJECTS) from error
        except Exception as error:  # of many kinds, by the damage
            raise ArtifactError("the file is damaged", file=path, hint=_AGAIN) from error
        if not isinstance(content, dict) or content.get("mark") != _MARK:
            raise _another(file, _OTHERS[kind])
        number = content.get("format")
        if isinstance(number, int) and number > FORMAT:
            raise ArtifactError(
                f"the artifact has format {number}, but this ctrkit reads formats up to {FORMAT}",
                file=path,
                hint="Install a newer ctrkit",
            )
        if type(number) is not int or number < 1:
            raise ArtifactError(f"the artifact has an unknown format, {number!r}", file=path, hint=_AGAIN)
        return cls(**{part.name: _checked(content, part.name, file) for part in fields(cls)})


def _read_first_format(file: Path) -> Any:
    # Here, and not above: only a file of torch needs torch.
    from ctrkit.nn.torch_files import read_as_arrays

    return read_as_arrays(file)


def _checked(content: dict[str, Any], name: str, file: Path) -> Any:
    """A part of an artifact's file."""
    part = content.get(name)
    if name not in content or not (isinstance(part, dict) or (part is None and name == "posterior")):
        problem = f"the part '{name}' is missing or has another type"
    elif name in _FINITE and not _is_finite(part):
        problem = f"the part '{name}' holds numbers that are not finite"
    else:
        return part
    raise ArtifactError(problem, file=file, hint=_AGAIN)


def _is_finite(value: Any) -> bool:
    """Whether all numbers in plain data and arrays are finite."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(inner) for inner in value.values())
    return all(_is_finite(inner) for inner in value) if isinstance(value, (list, tuple)) else True


def _another(file: Path, kind: FileKind) -> ArtifactError:
    """The error for a file of another kind."""
    hints = [kind.hint] if kind.hint else []
    if kind.program:
        hints += [f"Give a model from `ctrkit train`, or the predictions of this one: {_SAYS}"]
    elif not hints:
        hints += ["Give a file that `ctrkit train` wrote"]
    return ArtifactError(f"this is {kind.name}, not a ctrkit artifact", file=file, hint=". ".join(hints))


def versions() -> dict[str, str]:
    """Versions of the packages that determine the numbers."""
    from importlib.metadata import version

    names = ("ctrkit", "torch", "numpy", "polars", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
