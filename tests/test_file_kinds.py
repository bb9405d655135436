"""Files of all kinds given as a model or a policy: what each is, that none of it runs, and what to do."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import ctrkit
from ctrkit.api.policies.specs import policy_specs
from ctrkit.errors import ArtifactError
from ctrkit.file_kinds import file_kind


class Writes(nn.Module):
    """A program that writes a file, past any pattern over its source text."""

    def forward(self, x: Tensor) -> Tensor:
        (torch.save)(x, "/nowhere/written")
        return x


class RunsCode:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def script() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Writes()), file)
    return file.getvalue()


def exported() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(2, 1), (torch.ones(3, 2),)), file)
    return file.getvalue()


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return file.getvalue()


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def saved(value: object) -> bytes:
    return written(lambda file: torch.save(value, file))


TABLE = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
SAFETENSORS = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
ONNX = b"\x08\x0a\x12\x07pytorch\x3a\x02\x0a\x00"

KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "script.pt": (script, "a TorchScript program"),
    "exported.pt": (exported, "a torch.export program"),
    "script by its folder": (lambda: archive("m/data.pkl", "m/code/__torch__.py"), "a TorchScript program"),
    "pickle": (lambda: pickle.dumps(RunsCode()), "a pickle"),
    "old torch": (
        lambda: written(lambda f: torch.save(nn.Linear(1, 1), f, _use_new_zipfile_serialization=False)),
        "a pickle",
    ),
    "objects.pt": (lambda: saved(RunsCode()), "a torch file that holds Python objects"),
    "module.pt": (lambda: saved(nn.Linear(1, 1)), "a torch file that holds Python objects"),
    "weights.pt": (lambda: saved(nn.Linear(1, 1).state_dict()), "another torch file"),
    "safetensors": (
        lambda: len(SAFETENSORS).to_bytes(8, "little") + SAFETENSORS + b"\0\0\0\0",
        "a safetensors file",
    ),
    "parquet": (lambda: written(lambda f: TABLE.write_parquet(f)), "a parquet table"),
    "csv": (lambda: b"a,b\n1,2\n", "a CSV table"),
    "tsv in UTF-16": (lambda: "a\tb\n1\t2\n".encode("utf-16"), "a CSV table"),
    "json": (lambda: b'{\n "a": 1\n}\n', "JSON"),
    "json list": (lambda: b"[1, 2]", "JSON"),
    "json lines": (lambda: b'{"a": 1}\n{"a": 2}\n', "JSON lines"),
    "yaml": (lambda: b"training:\n  epochs: 2\n", "YAML"),
    "python": (lambda: b"import os\n", "a script"),
    "text": (lambda: b"hello", "text"),
    "html": (lambda: b"<!DOCTYPE html><html></html>", "a web page"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "npz": (lambda: written(lambda f: np.savez(f, a=np.ones(2))), "an archive of NumPy arrays"),
    "npy": (lambda: written(lambda f: np.save(f, np.ones(2))), "an array of NumPy"),
    "xlsx": (lambda: archive("[Content_Types].xml", "xl/workbook.xml"), "an Excel"),
    "zip": (lambda: archive("a.txt"), "a zip archive"),
    "cut zip": (lambda: archive("a.txt")[:40], "a damaged or cut-off archive"),
    "gzip": (lambda: b"\x1f\x8b\x08\0", "a gzip file"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "lightgbm": (lambda: b"tree\nversion=v4\n", "a LightGBM model"),
    "empty": (lambda: b"", "an empty file"),
    "zeros": (lambda: bytes(500), "a file of no known kind"),
    "one byte": (lambda: b"\x80", "a file of no known kind"),
    "latin-1": (lambda: b"caf\xe9,1\n", "a file of no known kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_each_is_called_what_it_is_and_refused(name: str, tmp_path: Path) -> None:
    make, said = KINDS[name]
    path = tmp_path / "new.pt"
    path.write_bytes(make())
    for opened in (
        lambda: ctrkit.load(path),
        lambda: policy_specs([str(path)]),
        lambda: policy_specs([f"{path}:columns=a,b"]),
    ):
        with pytest.raises(ArtifactError) as caught:
            opened()
        assert caught.value.file == str(path)
        assert f"this is {said}" in caught.value.problem
        assert caught.value.hint
        if "program" in said or "pickle" in said or "Python" in said:
            assert "could run code" in caught.value.hint
            assert "--policy column:NAME" in caught.value.hint
            assert "ctrkit.evaluate_policy" in caught.value.hint


def test_an_onnx_model_is_no_artifact_and_read_as_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "new.pt"
    path.write_bytes(ONNX)
    with pytest.raises(ArtifactError, match=r"this is an ONNX model.*`ctrkit ope --policy` reads it"):
        ctrkit.load(path)
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot open it"):  # its graph is cut off
        policy_specs([str(path)])


def test_a_folder_is_one(tmp_path: Path) -> None:
    assert file_kind(tmp_path).name == "a folder"
    for opened in (lambda: ctrkit.load(tmp_path), lambda: policy_specs([str(tmp_path)])):
        with pytest.raises(ArtifactError, match="this is a folder"):
            opened()


def test_random_bytes_never_fail(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "file"
    for start in (b"", b"PK\x03\x04", b"{", b"\x80\x04", b"\xff\xfe", b"\x08\x01"):
        for size in (0, 1, 7, 300):
            path.write_bytes(start + random.bytes(size))
            assert file_kind(path).name
