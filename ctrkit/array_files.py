"""Plain data and arrays in one file: a zip archive of JSON and safetensors, which can run no code."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.tables import atomic_path

# Names in the archive: plain data, with null in place of every array; and the arrays, each under the JSON
# pointer (RFC 6901) to its place.
DATA, ARRAYS = "artifact.json", "arrays.safetensors"


def write_arrays(content: dict[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write plain data and arrays atomically. The same content gives the same bytes."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    plain = json.dumps(_set_apart(content, "", arrays))
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(zipfile.ZipInfo(DATA), plain, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo(ARRAYS), save(arrays), zipfile.ZIP_STORED)
    return Path(path)


def read_arrays(path: str | os.PathLike[str]) -> Any:
    """Read a file that `write_arrays` wrote.

    Raises:
        Exception: an exception of any kind, when the file is damaged: a part is missing, has a wrong checksum
            or a wrong format, or a name occurs twice.
    """
    from safetensors.numpy import load

    with zipfile.ZipFile(path) as archive:
        _once([(name, None) for name in archive.namelist()])
        content = json.loads(archive.read(DATA), object_pairs_hook=_once)
        arrays = archive.read(ARRAYS)
    # safetensors checks sizes, but silently takes the last of two arrays with the same name.
    json.loads(arrays[8 : 8 + int.from_bytes(arrays[:8], "little")], object_pairs_hook=_once)
    for pointer, array in load(arrays).items():
        *above, last = map(_unescaped, pointer.split("/")[1:])
        place = content
        for key in above:
            place = place[_key(place, key)]
        if place[_key(place, last)] is not None:
            raise ValueError(f"the place of the array {pointer} is taken")
        place[_key(place, last)] = array
    return content


def _set_apart(value: Any, pointer: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """A copy without arrays; the arrays are moved to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[pointer] = np.asarray(value, order="C")
        return None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _set_apart(inner, f"{pointer}/{_escaped(key)}", arrays) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_set_apart(inner, f"{pointer}/{index}", arrays) for index, inner in enumerate(value)]
    return value


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _unescaped(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~")


def _key(place: Any, key: str) -> Any:
    return int(key) if isinstance(place, list) else key


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping of pairs without duplicate keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found
