"""Artifacts of every format and kind still load, and say what they said when they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ctrkit
from ctrkit.policies import policy_config
from ctrkit.settings import content_of
from tests.fixtures.artifacts.write import answers

FORMATS = Path(__file__).parents[1] / "fixtures" / "artifacts"
KEPT = sorted(FORMATS.glob("*/*.pt"))


def close(found: Any, kept: Any) -> None:
    """Plain data alike, numbers to 1e-6."""
    assert type(found) is type(kept)
    if isinstance(kept, dict):
        assert found.keys() == kept.keys()
        for key, value in kept.items():
            close(found[key], value)
    elif isinstance(kept, list):
        np.testing.assert_allclose(found, kept, rtol=1e-6, atol=1e-6)
    else:
        assert found == kept


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_artifact_of_an_earlier_version_says_what_it_said(path: Path, tmp_path: Path) -> None:
    kept = json.loads((path.parent / "expected.json").read_text())[path.name]
    # The configs of policies had the settings of all of them.
    own = content_of(policy_config(kept["policy"]))
    assert own.items() <= kept["policy"].items()
    kept["policy"] = own
    close(answers(path, path.parent), kept)
    again = ctrkit.load(path).artifact.save(tmp_path / "again.pt")
    close(answers(again, path.parent), kept)


def test_every_format_has_its_artifacts() -> None:
    for number in range(1, 2):
        kept = json.loads((FORMATS / f"format_{number}" / "expected.json").read_text())
        assert {path.name for path in KEPT if path.parent.name == f"format_{number}"} == set(kept)
        assert len(kept) > 25
