from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ctrkit
from ctrkit.array_files import read_arrays, write_arrays
from ctrkit.artifact import FORMAT, Artifact
from ctrkit.errors import ArtifactError


def artifact() -> Artifact:
    return Artifact(
        config={"a": [1, 2]},
        feature_map={},
        encoder={"vocabularies": {"ad": ["x"]}},
        weights={"w": np.ones(2, dtype=np.float32), "n": np.array(3)},
        calibrators={"click": {"name": "platt", "knots": np.arange(3.0)}},
        posterior={"mean": np.zeros(2)},
        metrics={"auc": np.float64(0.5)},
    )


def test_round_trip(tmp_path: Path) -> None:
    path = artifact().save(tmp_path / "m.pt")
    again = Artifact.load(path)
    assert again.config == {"a": [1, 2]}
    for name, value in artifact().weights.items():
        np.testing.assert_array_equal(again.weights[name], value, strict=True)
    np.testing.assert_array_equal(again.calibrators["click"]["knots"], np.arange(3.0))
    assert isinstance(again.posterior, dict)
    assert isinstance(again.posterior["mean"], np.ndarray)
    assert again.metrics == {"auc": 0.5}


def test_the_same_artifact_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = (artifact().save(tmp_path / name) for name in ("one.pt", "other.pt"))
    assert one.read_bytes() == other.read_bytes()


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_what_is_no_artifact_is_refused_and_runs_no_code(tmp_path: Path) -> None:
    whole = artifact().save(tmp_path / "m.pt")
    (tmp_path / "cut.pt").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.pt")
    torch.save(Evil(), tmp_path / "evil.pt")
    write_arrays({"weights": {"w": np.ones(1)}}, tmp_path / "arrays.pt")
    for name, said in {
        "none.pt": "no such model file",
        "cut.pt": "damaged or cut-off",
        "text.pt": "this is text, not a ctrkit artifact",
        "other.pt": "another torch file",
        "arrays.pt": "another archive of data and arrays, not a ctrkit artifact",
        "evil.pt": "holds Python objects, not a ctrkit artifact",
    }.items():
        with pytest.raises(ArtifactError, match=said) as caught:
            ctrkit.load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert caught.value.hint


def test_a_newer_format_says_what_to_do(tmp_path: Path) -> None:
    path = artifact().save(tmp_path / "m.pt")
    write_arrays({**read_arrays(path), "format": FORMAT + 1}, path)
    with pytest.raises(ArtifactError, match="Install a newer ctrkit"):
        Artifact.load(path)
