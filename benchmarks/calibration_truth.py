"""Calibrated probabilities beside the truth, which the synthetic market knows.

`python benchmarks/calibration.py market` runs it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

import ctrkit
from ctrkit.api.models.model import Model
from ctrkit.calibration import CALIBRATORS, DownsamplingCorrection
from ctrkit.data.synthetic import Market

# Of the impressions: the first part is trained on, with few of its negatives; on the next one calibrators
# are fitted, on the last they are judged.
TRAINED, FITTED = 0.7, 0.85


@dataclass(frozen=True)
class Distance:
    """How far some probabilities of one task are from the true ones.

    Attributes:
        error: mean absolute difference from the truth on the rows judged.
        of_uncalibrated: the same as a share of the uncalibrated model's.
        pcoc: mean probability over mean true probability.
    """

    task: str
    method: str
    error: float
    of_uncalibrated: float
    pcoc: float


def distances(rows: int, kept: float, seed: int, methods: Sequence[str]) -> list[Distance]:
    """Train with a share of the negatives, calibrate by each method, and compare with the truth.

    Clicks are judged on all rows, conversions on clicked ones, where their calibrator is fitted too.
    """
    table = Market(seed=seed).impressions(rows).sort("timestamp", maintain_order=True)
    cuts = int(TRAINED * rows), int(FITTED * rows)
    training, fitted, judged = table[: cuts[0]], table[cuts[0] : cuts[1]], table[cuts[1] :]
    drawn = np.random.default_rng(seed).random(training.height) < kept
    training = training.filter((pl.col("click") == 1) | drawn)
    with tempfile.TemporaryDirectory() as scratch:
        ctrkit.train(
            data=training,
            model=Path(scratch) / "model.pt",
            out=Path(scratch) / "run",
            overrides=[f"seed={seed}"],
        )
        model = ctrkit.load(Path(scratch) / "model.pt")
    found = _of_task(model, "click", fitted, judged, kept, methods)
    clicked = [part.filter(pl.col("click") == 1) for part in (fitted, judged)]
    return found + _of_task(model, "conversion", *clicked, 1.0, methods)


def _of_task(
    model: Model, task: str, fitted: pl.DataFrame, judged: pl.DataFrame, kept: float, methods: Sequence[str]
) -> list[Distance]:
    index = model.tasks.index(task)
    fit_logits, logits = (model.outputs(part)[0][:, index] for part in (fitted, judged))
    labels, truth = fitted[task].to_numpy(), judged[f"true_{task}_probability"].to_numpy()
    probabilities = {"uncalibrated": expit(logits)}
    if kept < 1:
        probabilities["correction of down-sampling"] = DownsamplingCorrection(kept)(logits)
    for method in methods:
        probabilities[method] = CALIBRATORS[method]().fit(fit_logits, labels)(logits)

    def error(p: NDArray[np.float64]) -> float:
        return float(np.abs(p - truth).mean())

    before = error(probabilities["uncalibrated"])
    return [
        Distance(task, name, error(p), error(p) / before, float(p.mean() / truth.mean()))
        for name, p in probabilities.items()
    ]
