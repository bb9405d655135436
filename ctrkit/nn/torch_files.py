"""Files in torch's format, complete or refused: checkpoints, and artifacts of the first format."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctrkit.tables import atomic_path

# The attribute of a folder in a zip archive (of MS-DOS); no checksum covers it.
_FOLDER = 0x10


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
    """Read what `write_tensors` wrote, and check the checksums, which torch itself does not.

    Raises:
        UnpicklingError: the file holds more than plain data and tensors, and is not opened.
        Exception: an exception of any kind, when the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(set(names)) < len(names) or (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"a checksum is wrong, or a name occurs twice: {damaged}")
        if any(part.external_attr & _FOLDER for part in archive.infolist()):
            raise zipfile.BadZipFile("a part is marked as a folder, which torch reads as a part of nothing")
    return torch.load(path, map_location="cpu", weights_only=True)


def read_as_arrays(path: str | os.PathLike[str]) -> Any:
    """`read_tensors` with arrays in place of tensors."""
    return _as_arrays(read_tensors(path))


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _as_arrays(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_arrays(inner) for inner in value]
    return value
