"""An artifact is whole or it is refused: never half of it, and never probabilities that are none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import ctrkit
from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.artifact import FORMAT, Artifact
from ctrkit.errors import ArtifactError
from ctrkit.nn.torch_files import read_as_arrays, read_tensors, write_tensors
from ctrkit.training.checkpoints import Position, load_checkpoint, save_checkpoint

PARTS = (
    "config", "feature_map", "encoder", "weights", "calibrators", "posterior", "policy", "data", "metrics",
    "versions",
)  # fmt: skip


@pytest.fixture(scope="module")
def content(trained: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_arrays(trained)
    return found


@pytest.fixture(scope="module")
def first_format(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same artifact as a file of torch, which artifacts were once."""
    path = tmp_path_factory.mktemp("first_format") / "model.pt"
    return write_tensors({**as_tensors(content), "format": 1}, path)


def as_tensors(value: Any) -> Any:
    """The same with tensors in place of arrays."""
    if isinstance(value, dict):
        return {key: as_tensors(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_tensors(inner) for inner in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def refused(content: dict[str, Any], path: Path, said: str | None = None) -> None:
    write_arrays(content, path)
    with pytest.raises(ArtifactError, match=said) as caught:
        ctrkit.load(path)
    assert caught.value.file == str(path)
    assert caught.value.hint


def test_every_part_is_missed(content: dict[str, Any], tmp_path: Path) -> None:
    assert set(content) == {*PARTS, "mark", "format"}
    for part in PARTS:
        refused({key: value for key, value in content.items() if key != part}, tmp_path / "m.pt", part)


def test_every_part_of_the_first_format_is_missed(first_format: Path, tmp_path: Path) -> None:
    content = read_tensors(first_format)
    for part in PARTS:
        rest = {key: value for key, value in content.items() if key != part}
        for damaged in (rest, {**rest, part: 3}, {**rest, part: torch.ones(2, dtype=torch.bfloat16)}):
            write_tensors(damaged, tmp_path / "m.pt")
            with pytest.raises(ArtifactError):
                ctrkit.load(tmp_path / "m.pt")


@pytest.mark.parametrize("wrong", [None, [], "text", 3, float("nan"), np.ones(2)])
def test_every_part_of_another_type_is_refused(wrong: Any, content: dict[str, Any], tmp_path: Path) -> None:
    for part in PARTS:
        if wrong is None and part == "posterior":
            continue
        refused({**content, part: wrong}, tmp_path / "m.pt", part)


@pytest.mark.parametrize("number", [-5, 0, 1.0, True, None, "1", FORMAT + 1])
def test_formats_that_there_are_not(number: Any, content: dict[str, Any], tmp_path: Path) -> None:
    refused({**content, "format": number}, tmp_path / "m.pt", "format")


def test_parts_that_are_empty(content: dict[str, Any], tmp_path: Path) -> None:
    for part in ("config", "feature_map", "encoder", "weights", "posterior", "data"):
        refused({**content, part: {}}, tmp_path / "m.pt")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all that is in nested dicts and lists."""
    if isinstance(value, dict):
        return [place for key, inner in value.items() for place in leaves(inner, (*path, key))]
    if isinstance(value, list) and value and isinstance(value[0], (dict, float)):
        return [place for key, inner in enumerate(value) for place in leaves(inner, (*path, key))]
    return [path]


def changed(content: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any], Any]) -> dict[str, Any]:
    """A copy with another value at one place."""
    copied = copy.deepcopy(content)
    place = copied
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = change(place[path[-1]])
    return copied


def poisoned(value: Any) -> Any:
    """The same with its first number NaN."""
    if not isinstance(value, np.ndarray):
        return float("nan")
    other = value.copy()
    other.reshape(-1)[:1] = float("nan")
    return other


@pytest.mark.slow
def test_no_number_that_is_none(content: dict[str, Any], tmp_path: Path) -> None:
    for part in ("weights", "posterior", "encoder", "calibrators"):
        for path in leaves(content[part]):
            value = content[part]
            for key in path:
                value = value[key]
            numbers = isinstance(value, np.ndarray) and value.size and value.dtype.kind == "f"
            if isinstance(value, float) or numbers:
                refused(changed(content, (part, *path), poisoned), tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("path", "change", "said"),
    [
        (("weights",), lambda w: dict(list(w.items())[1:]), "is missing"),
        (("weights",), lambda w: {**w, "more": np.ones(1)}, "more is unknown"),
        (("weights",), lambda w: {k: v.astype(np.float64) for k, v in w.items()}, "is not a tensor of"),
        (("weights",), lambda w: {k: v[:1] for k, v in w.items()}, "is not a tensor of"),
        (("weights",), lambda w: dict.fromkeys(w, "text"), "is not a tensor of"),
        (("posterior", "mean"), lambda m: m[:-1], "posterior is damaged"),
        (("posterior", "precision"), lambda p: -p, "positive definite"),
        (("posterior", "precision"), lambda p: np.zeros_like(p), "positive definite"),
        (("posterior", "precision"), lambda p: p + np.triu(np.ones_like(p)), "not symmetric"),
        (("posterior",), lambda p: {"mean": np.ones(3), "precision": np.eye(3)}, "3 weights"),
        (("encoder", "scales", "user_age"), lambda s: [s[0], 0.0], "scale of 'user_age'"),
        (("encoder", "scales", "user_age"), lambda s: [s[0], -1.0], "scale of 'user_age'"),
        (("encoder", "scales"), lambda s: {}, "not those of its features"),
        (("encoder", "vocabularies", "ad_id"), lambda v: v[:-1], "tables differ from those of the encoder"),
        (("encoder", "vocabularies", "ad_id"), lambda v: [v[0], *v[:-1]], "has a duplicate"),
        (("encoder", "vocabularies", "ad_id"), lambda v: list(range(len(v))), "not text"),
        (("encoder", "vocabularies"), lambda v: {**v, "more": ["a"]}, "not those of its features"),
        (("encoder", "spec", "labels"), lambda v: {"click": "click"}, "tasks"),
        (("feature_map", "tables", "ad_id"), lambda n: 10**12, "tables differ from those of the encoder"),
        (("config", "model", "name"), lambda n: "nothing", "unknown model"),
        (("config", "model", "width"), lambda n: -3, "config is damaged"),
        (("policy",), lambda p: {"name": "softmax", "temperature": 0}, "policy is damaged"),
        (("policy",), lambda p: {"name": "softmx"}, "policy is damaged"),
        (("calibrators",), lambda c: {"bounce": c["click"]}, "'bounce'"),
        (("calibrators", "click", "slope"), lambda c: 0.0, "slope"),
        (("calibrators", "click", "name"), lambda c: "plat", "unknown calibrator 'plat'"),
        (("calibrators", "click"), lambda c: {**c, "field": "nowhere"}, "'nowhere'"),
        (("data", "file"), lambda f: 3, "data is damaged"),
        (("data", "seen", "sample"), lambda s: s.astype(np.float64), "data is damaged"),
        (("data", "profile", "user_age"), lambda p: {}, "data is damaged"),
    ],
)
def test_parts_that_do_not_go_together(
    path: tuple[str, ...], change: Callable[[Any], Any], said: str, content: dict[str, Any], tmp_path: Path
) -> None:
    refused(changed(content, path, change), tmp_path / "m.pt", said)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or one != one)


@pytest.mark.parametrize("file", ["trained", "first_format"])
def test_a_flipped_bit_is_an_error_or_changes_nothing(
    file: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole = request.getfixturevalue(file).read_bytes()
    read, directory = {"trained": (read_arrays, 250), "first_format": (read_as_arrays, 3000)}[file]
    content = read(request.getfixturevalue(file))
    random = np.random.default_rng(0)
    # All over the file, and in the directory at its end.
    places = [*random.integers(0, len(whole), 150), *random.integers(len(whole) - directory, len(whole), 50)]
    path, refusals = tmp_path / "m.pt", 0
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(random.integers(8))
        path.write_bytes(flipped)
        try:
            Artifact.load(path)
        except ArtifactError:
            refusals += 1
        else:
            assert same(read(path), content), place
    assert refusals > 140


@pytest.mark.parametrize("file", ["trained", "first_format"])
def test_a_cut_off_file_is_an_error(file: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    whole = request.getfixturevalue(file).read_bytes()
    for end in (1, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "m.pt").write_bytes(whole[:end])
        with pytest.raises(ArtifactError):
            ctrkit.load(tmp_path / "m.pt")


def test_checksums_are_written_whatever_torch_was_told(first_format: Path, tmp_path: Path) -> None:
    content = read_tensors(first_format)
    torch.serialization.set_crc32_options(False)
    try:
        write_tensors(content, tmp_path / "m.pt")
        assert torch.serialization.get_crc32_options() is False
    finally:
        torch.serialization.set_crc32_options(True)
    ctrkit.load(tmp_path / "m.pt")


def test_a_flipped_bit_in_a_checkpoint_is_an_error(tmp_path: Path) -> None:
    path, layer = tmp_path / "checkpoint.pt", torch.nn.Linear(50, 50)
    save_checkpoint(path, {"run": 1}, {"model": layer}, Position())
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ArtifactError, match="damaged"):
        load_checkpoint(path, {"run": 1}, {"model": layer})


def test_what_is_whole_still_predicts(
    trained: Path, content: dict[str, Any], logs: Path, tmp_path: Path
) -> None:
    write_arrays({**content, "posterior": None, "calibrators": {}}, tmp_path / "m.pt")
    rows = pl.read_parquet(logs / "impressions.parquet")[:20]
    found = ctrkit.load(tmp_path / "m.pt").predict(rows).to_numpy()
    assert np.isfinite(found).all()
    with pytest.raises(ArtifactError, match="no posterior"):
        ctrkit.load(tmp_path / "m.pt").posterior  # noqa: B018
