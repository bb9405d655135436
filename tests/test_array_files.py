"""Plain data and arrays come back as they were, or the file is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from ctrkit.array_files import ARRAYS, DATA, read_arrays, write_arrays

CONTENT: dict[str, Any] = {
    "text/with ~ and ~1": {"~0": np.arange(3, dtype=np.int64), "": np.zeros((0, 2), dtype=np.float32)},
    "numbers": [0.1 + 0.2, -0.0, 1e-320, 2**70, True, None, np.float64(0.5), np.int32(3)],
    "lists": [{"inner": np.array(2.5)}, [np.array([True, False])], (1, 2)],
    "odd": "\ud800 \x00 é",
    "strided": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}


def test_round_trip(tmp_path: Path) -> None:
    found = read_arrays(write_arrays(CONTENT, tmp_path / "m.pt"))
    assert list(found) == list(CONTENT)
    for path in (
        ("text/with ~ and ~1", "~0"),
        ("text/with ~ and ~1", ""),
        ("strided",),
        ("lists", 0, "inner"),
    ):
        one, other = found, CONTENT
        for key in path:
            one, other = one[key], other[key]
        np.testing.assert_array_equal(one, other, strict=True)
    assert found["numbers"] == [0.1 + 0.2, 0.0, 1e-320, 2**70, True, None, 0.5, 3]
    assert str(found["numbers"][1]) == "-0.0"
    assert found["lists"][1][0].tolist() == [True, False]
    assert found["lists"][2] == [1, 2]
    assert found["odd"] == CONTENT["odd"]


@pytest.mark.parametrize("wrong", [{3: "a"}, {"a": Path("b")}, {"a": np.array([object()])}])
def test_what_is_no_plain_data_is_not_written(wrong: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011  (an error of the program, not of a person)
        write_arrays(wrong, tmp_path / "m.pt")
    assert not list(tmp_path.iterdir())


def file(path: Path, *members: tuple[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def header(text: str, size: int) -> bytes:
    """A safetensors file with a header of one's own, and zeros for numbers."""
    return len(text).to_bytes(8, "little") + text.encode() + bytes(size)


ONE = '"/a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
PLAIN, NOTHING = (DATA, '{"a": null}'), (ARRAYS, save({}))
DAMAGED: dict[str, list[tuple[str, bytes | str]]] = {
    "no arrays": [PLAIN],
    "no data": [NOTHING],
    "a name twice in JSON": [(DATA, '{"a": 1, "a": 2}'), NOTHING],
    "no JSON": [(DATA, '{"a": '), NOTHING],
    "an array twice": [PLAIN, (ARRAYS, header(f"{{{ONE}, {ONE}}}", 4))],
    "an array too many": [(DATA, "{}"), (ARRAYS, save({"/b/a": np.zeros(1)}))],
    "an array in a taken place": [(DATA, '{"a": 1}'), (ARRAYS, save({"/a": np.zeros(1)}))],
    "an array in no place": [(DATA, '{"a": []}'), (ARRAYS, save({"/a/0": np.zeros(1)}))],
    "a name that is no place": [PLAIN, (ARRAYS, save({"a": np.zeros(1)}))],
    "a longer header than file": [PLAIN, (ARRAYS, (2**40).to_bytes(8, "little") + b"{}")],
    "more numbers than told": [PLAIN, (ARRAYS, header(f"{{{ONE}}}", 8))],
    "fewer numbers than told": [PLAIN, (ARRAYS, header(f"{{{ONE}}}", 3))],
    "numbers that NumPy lacks": [PLAIN, (ARRAYS, header(f"{{{ONE}}}".replace("F32", "BF16"), 2))],
    "numbers of two arrays": [PLAIN, (ARRAYS, header(f"{{{ONE}, {ONE.replace('/a', '/b')}}}", 4))],
    "no safetensors": [PLAIN, (ARRAYS, b"\x00" * 20)],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (of many kinds, as promised)
        read_arrays(file(tmp_path / "m.pt", *DAMAGED[name]))
    assert not isinstance(caught.value, AssertionError)


def test_two_members_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = file(tmp_path / "m.pt", PLAIN, NOTHING, PLAIN)
    with pytest.raises(ValueError, match="twice"):
        read_arrays(path)


def test_what_others_read(tmp_path: Path) -> None:
    path = write_arrays({"weights": {"layer/1": np.ones(2)}}, tmp_path / "m.pt")
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read(DATA)) == {"weights": {"layer/1": None}}
        assert b'"/weights/layer~11"' in archive.read(ARRAYS)
