"""Tensors of the Open Inference Protocol, version 2, in JSON and binary."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from ctrkit.serving.http.errors import Refusal
from ctrkit.serving.requests.body import Cell

# Datatype of the protocol -> type of NumPy.
TYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    **{
        f"{sign}{bits}": getattr(np, f"{sign.lower()}{bits}")
        for sign in ("UINT", "INT")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": getattr(np, f"float{bits}") for bits in (16, 32, 64)},
}
TEXT = "BYTES"
SIZE = "binary_data_size"
_LENGTH = struct.Struct("<I")


class Tensor(msgspec.Struct):
    """A tensor of a request.

    Attributes:
        name: name of the input.
        shape: its sizes.
        datatype: type of its elements.
        parameters: with `binary_data_size`, the elements stand behind the JSON.
        data: the elements in row-major order, nested or flat.
    """

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Cell | list[Cell]] | None = None


def cells_of(tensor: Tensor, path: str, binary: memoryview | None) -> pl.Series:
    """The cells of a column: numbers, texts or lists of them. An empty text is a missing one.

    Args:
        tensor: of shape [n] or [n, 1], or [n, L] for lists.
        path: the tensor's place in the request, for messages.
        binary: its elements; None where they stand in the JSON.

    Raises:
        Refusal: 422, the tensor is wrong.
    """
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or shape[0] < 0 or shape[-1] < len(shape) - 1:
        raise Refusal(422, f"the shape {shape} is neither [rows] nor [rows, n]", path=f"{path}.shape")
    if tensor.datatype not in (*TYPES, TEXT):
        known = ", ".join((*TYPES, TEXT))
        raise Refusal(422, "there is no such datatype", path=f"{path}.datatype", hint=f"Known: {known}")
    size = shape[0] * (shape[1] if len(shape) == 2 else 1)
    values = _of_json(tensor, path) if binary is None else _of_bytes(tensor.datatype, binary, path)
    if len(values) != size:
        raise Refusal(422, f"there are {len(values)} elements, and the shape {shape} needs {size}", path=path)
    if isinstance(values, np.ndarray) and values.dtype == np.float16:
        values = values.astype(np.float32)
    flat = pl.Series(tensor.name, values)
    if flat.dtype == pl.String:
        flat = flat.replace("", None)
    elif flat.dtype.is_float() and not np.isfinite(flat.to_numpy()).all():
        at = int(np.argmin(np.isfinite(flat.to_numpy())))
        raise Refusal(
            422,
            "the number is not finite",
            path=f"{path}.data[{at}]",
            hint="Send a missing number as the empty text of a BYTES tensor",
        )
    if len(shape) == 1 or shape[1] == 1:
        return flat
    return flat.reshape((shape[0], shape[1])).cast(pl.List(flat.dtype)).list.drop_nulls()


def _of_json(tensor: Tensor, path: str) -> Sequence[Any] | NDArray[Any]:
    elements = tensor.data
    if elements is None:
        raise Refusal(422, "the tensor has no data", path=f"{path}.data")
    elements = [cell for one in elements for cell in (one if isinstance(one, list) else (one,))]
    kinds = _KINDS[tensor.datatype]
    wrong = next((at for at, one in enumerate(elements) if type(one) not in kinds), None)
    if wrong is not None:
        raise Refusal(422, f"the element is no {tensor.datatype}", path=f"{path}.data[{wrong}]")
    if tensor.datatype == TEXT:
        return elements
    try:
        with np.errstate(over="ignore"):
            return np.array(elements, dtype=TYPES[tensor.datatype])
    except OverflowError:
        raise Refusal(
            422, f"an element is beyond the range of {tensor.datatype}", path=f"{path}.data"
        ) from None


# Datatype -> what its elements are in JSON.
_KINDS: dict[str, tuple[type, ...]] = {
    name: (bool,) if name == "BOOL" else (float, int) if name.startswith("FP") else (int,) for name in TYPES
} | {TEXT: (str,)}


def _of_bytes(datatype: str, binary: memoryview, path: str) -> Sequence[Any] | NDArray[Any]:
    if datatype == TEXT:
        return list(_texts(binary, path))
    kind = np.dtype(TYPES[datatype]).newbyteorder("<")
    if len(binary) % kind.itemsize:
        raise Refusal(422, f"{len(binary)} bytes are no whole number of {datatype}", path=path)
    return np.frombuffer(binary, dtype=kind).astype(TYPES[datatype])


def _texts(binary: memoryview, path: str) -> Iterator[str]:
    """Texts that each have their length before them."""
    at = 0
    while at < len(binary):
        end = at + _LENGTH.size
        if end <= len(binary):
            (length,) = _LENGTH.unpack(binary[at:end])
            at, end = end, end + length
        if end > len(binary):
            raise Refusal(422, "the bytes end within a text", path=path)
        try:
            yield str(binary[at:end], "utf-8")
        except UnicodeDecodeError:
            raise Refusal(422, "a text is not UTF-8", path=path) from None
        at = end
