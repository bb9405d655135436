"""In a graph, every calibrator gives what it gives in Python."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ctrkit.calibration import CALIBRATORS, Calibrator, HistogramBinning, IsotonicRegression
from ctrkit.calibration.base import LEAST
from ctrkit.errors import ConfigError
from ctrkit.serving.calibrators import CalibratorGraph, formula_of, joint_logit

LOGITS = np.concatenate([np.linspace(-9, 6, 3001), [-800.0, -40.0, 0.0, 40.0, 800.0]])


def in_graph(calibrator: Calibrator, logits: np.ndarray, segments: np.ndarray) -> np.ndarray:
    found = CalibratorGraph(calibrator)(torch.from_numpy(logits), torch.from_numpy(segments))
    assert found.dtype == torch.float64
    return found.numpy()


def rows(count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    truth = random.normal(-2, 1, count)
    labels = (random.random(count) < 1 / (1 + np.exp(-truth))).astype(float)
    return 1.5 * truth, labels, random.integers(3, 9, count)


@pytest.mark.parametrize("kind", CALIBRATORS.values(), ids=CALIBRATORS)
def test_a_graph_gives_what_the_calibrator_gives(kind: type[Calibrator]) -> None:
    logits, labels, segments = rows()
    calibrator = kind().fit(logits, labels, segments=segments)
    places = [getattr(calibrator, name, np.empty(0)) for name in ("knots", "edges")]
    at = np.concatenate([LOGITS, *places, logits])  # also where steps are
    of = np.arange(at.size) % 13  # known segments and others
    np.testing.assert_allclose(in_graph(calibrator, at, of), calibrator(at, of), rtol=1e-9, atol=LEAST)


@pytest.mark.parametrize("kind", [IsotonicRegression, HistogramBinning])
def test_one_probability_for_all_logits(kind: type[Calibrator]) -> None:
    labels = (np.arange(400) % 4 == 0).astype(float)
    calibrator = kind().fit(np.zeros(400), labels)
    found = in_graph(calibrator, LOGITS, np.zeros(LOGITS.size, np.int64))
    np.testing.assert_allclose(found, calibrator(LOGITS), rtol=1e-12)


def test_the_joint_logit_is_that_of_the_product() -> None:
    one, other = np.linspace(-9, 9, 50), np.linspace(8, -12, 50)
    p = 1 / (1 + np.exp(-one)) / (1 + np.exp(-other))
    found = joint_logit([torch.from_numpy(one), torch.from_numpy(other)])
    np.testing.assert_allclose(found.numpy(), np.log(p / (1 - p)), rtol=1e-9)


def test_a_class_without_a_formula_is_refused() -> None:
    with pytest.raises(ConfigError, match="'mine' cannot be part of a graph"):
        formula_of(SimpleNamespace(name="mine"))  # type: ignore[arg-type]
