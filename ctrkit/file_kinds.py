"""The kind of a file, from its content and not its name. Nothing in it is run or unpickled."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Number of bytes read from a file, beside the names in a zip archive.
_HEAD = 65_536

_TABLE = (
    "It is a table: give it as the data or the log, and a model from `ctrkit train` here. `ctrkit evaluate` "
    "and `ctrkit calibrate` read a table of labels and probabilities with --scores"
)
RUNS_CODE = "Opening it could run code that came with it, so ctrkit never does"


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: name of the kind with its article, as in "a CSV table".
        hint: advice for a user who gave it as a model; a sentence without a full stop.
        program: whether it is a model or code of another library, which could give probabilities.
    """

    name: str
    hint: str = ""
    program: bool = False


ARTIFACT = FileKind("an archive of plain data and arrays, such as a ctrkit artifact")
TORCH = FileKind("a torch file")
ONNX = FileKind(
    "an ONNX model",
    "`ctrkit ope --policy` reads it as it is; `ctrkit import` makes an artifact of it",
    program=True,
)
_PICKLE = FileKind("a pickle", RUNS_CODE, program=True)
_ZIP = FileKind("a zip archive", "Unpack it first")
_UNKNOWN = FileKind("a file of no known kind, or a damaged one")

# Kinds by the first bytes, as documented for each format.
_SIGNATURES = (
    (b"PAR1", FileKind("a parquet table", _TABLE)),
    (b"ARROW1", FileKind("an Arrow table", _TABLE)),
    (b"\x1f\x8b", FileKind("a gzip file", "Unpack it first")),
    (b"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file, such as Keras writes", program=True)),
    (b"\x93NUMPY", FileKind("an array of NumPy")),
    (b"GGUF", FileKind("a GGUF language model", program=True)),
    (b"CBM1", FileKind("a CatBoost model", program=True)),
    (b"SQLite format 3\0", FileKind("a SQLite database", "Write its table as parquet or CSV")),
    (b"version https://git-lfs", FileKind("a Git LFS pointer", "Fetch the file itself: `git lfs pull`")),
    (b"tree\nversion=", FileKind("a LightGBM model", program=True)),
    (b"%PDF", FileKind("a PDF document")),
    (b"\x89PNG", FileKind("a picture")),
)


def file_kind(path: str | os.PathLike[str]) -> FileKind:
    """The kind of a file.

    Raises:
        OSError: the file cannot be read.
    """
    if Path(path).is_dir():
        return FileKind("a folder", "Give the file in it")
    with Path(path).open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return FileKind("an empty file", "Write it again")
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    for sign, kind in _SIGNATURES:
        if head.startswith(sign):
            return kind
    for tells, kind in _BINARY:
        if tells(head):
            return kind
    return _text(head, whole=len(head) < _HEAD)


def _archive(path: str | os.PathLike[str]) -> FileKind:
    """The kind of a zip archive. Files of torch are zip archives too."""
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return FileKind("a damaged or cut-off archive", "Copy or write it again")
    inner = {name.partition("/")[2] for name in listed}
    if {"archive_format", "serialized_exported_program.json"} & {*inner, *listed}:
        return FileKind("a torch.export program", RUNS_CODE, program=True)
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return FileKind("a TorchScript program", RUNS_CODE, program=True)
    if "data.pkl" in inner:
        return TORCH
    if {"artifact.json", "arrays.safetensors"} <= {*listed}:
        return ARTIFACT
    if "[Content_Types].xml" in listed:
        return FileKind(
            "an Excel or Office file", "Save its table as CSV, and give it as the data or the log"
        )
    if "model.weights.h5" in listed:
        return FileKind("a Keras model", RUNS_CODE, program=True)
    if listed and all(name.endswith(".npy") for name in listed):
        return FileKind("an archive of NumPy arrays")
    return _ZIP


def _is_pickle(head: bytes) -> bool:
    # The opcode PROTO and a version from 2; joblib's files are pickles too, and zlib's where compressed.
    return head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5


def _is_safetensors(head: bytes) -> bool:
    # The length of a JSON header, 8 bytes with the lowest first, and the header.
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def _is_onnx(head: bytes) -> bool:
    # A protocol buffer whose first field is a small ir_version; then the producer, the graph or the opset.
    return len(head) > 2 and head[0] == 0x08 and 0 < head[1] < 32 and head[2] in (0x12, 0x3A, 0x42)


_BINARY: tuple[tuple[Callable[[bytes], bool], FileKind], ...] = (
    (_is_pickle, _PICKLE),
    (
        lambda head: head[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda"),
        FileKind("a compressed pickle or other zlib data", RUNS_CODE, program=True),
    ),
    (
        _is_safetensors,
        FileKind("a safetensors file: only weights, without the model", program=True),
    ),
    (_is_onnx, ONNX),
)


def _text(head: bytes, *, whole: bool) -> FileKind:
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in head and not marked:
        return _UNKNOWN
    try:
        text = head.decode(
            "utf-16" if marked else "utf-8-sig", errors="strict" if whole else "ignore"
        ).lstrip()
    except UnicodeDecodeError:
        return _UNKNOWN
    line = text.partition("\n")[0]
    if text.startswith(("{", "[")):
        lines = _is_json(line) and "\n" in text.rstrip() and line.startswith("{")
        return FileKind("JSON lines", _TABLE) if lines else FileKind("JSON")
    if text.lower().startswith(("<!doctype", "<html", "<?xml")):
        return FileKind("a web page or XML", "Fetch the file itself")
    if text.startswith(("#!", "import ", "from ", "def ", '"""')):
        return FileKind("a script", "In Python, call its function through `ctrkit.evaluate_policy`")
    if any(line.count(sign) for sign in ",;\t|"):
        return FileKind("a CSV table", _TABLE)
    if ":" in line:
        return FileKind("YAML or other text", "A config goes in --config")
    return FileKind("text")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
