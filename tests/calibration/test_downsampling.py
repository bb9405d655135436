"""The correction of down-sampling: the formula, and a market whose negatives are thinned."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from ctrkit.calibration import DownsamplingCorrection, PlattScaling, calibrator_from_state
from ctrkit.errors import ConfigError


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.01])
def test_is_the_formula_of_the_paper(rate: float) -> None:
    p = np.linspace(0.001, 0.999, 500)
    corrected = DownsamplingCorrection(rate)(logit(p))
    assert corrected == pytest.approx(p / (p + (1 - p) / rate), rel=1e-12)
    # And back: thinning multiplies the odds by 1 / rate.
    assert expit(logit(corrected) - np.log(rate)) == pytest.approx(p, rel=1e-12)


def test_undoes_the_thinning_of_negatives() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(-3, 1, 200_000)
    labels = random.random(200_000) < expit(truth)
    kept = labels | (random.random(200_000) < 0.1)
    learnt = PlattScaling().fit(truth[kept], labels[kept])
    naive, corrected = learnt(truth), DownsamplingCorrection(0.1)(logit(learnt(truth)))
    assert naive.mean() > 3 * labels.mean()
    assert corrected.mean() == pytest.approx(labels.mean(), rel=0.03)
    assert np.abs(corrected - expit(truth)).mean() < 0.05 * np.abs(naive - expit(truth)).mean()


def test_fitting_changes_nothing() -> None:
    fitted = DownsamplingCorrection(0.2).fit([0.0, 1.0, 2.0], [0, 1, 0])
    assert fitted([0.5]) == DownsamplingCorrection(0.2)([0.5]) == calibrator_from_state(fitted.state())([0.5])


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"must be in \(0, 1\]"):
        DownsamplingCorrection(rate)
