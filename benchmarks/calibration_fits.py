"""Fits of calibrators beside scikit-learn and scipy, on the same rows.

`python benchmarks/calibration.py fits` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scan import measure
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression as PeerIsotonic

from ctrkit.calibration import IsotonicRegression, PlattScaling, TemperatureScaling
from ctrkit.metrics import log_loss

Floats = NDArray[np.float64]
Predictor = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Fit:
    """Seconds of each repetition of one fit by ctrkit and by its peer, and the log loss that each reached."""

    what: str
    peer: str
    own_seconds: list[float]
    peer_seconds: list[float]
    own_loss: float
    peer_loss: float


def rows(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Logits of a model that is too sure of itself, and labels."""
    random = np.random.default_rng(seed)
    z = random.normal(-3, 1.5, count)
    return z, (random.random(count) < expit(0.7 * z - 0.2)).astype(np.float64)


def fits(count: int, repetitions: int) -> list[Fit]:
    """Isotonic regression beside scikit-learn's; Platt and temperature beside BFGS over the same loss."""
    z, y = rows(count)

    def by_isotonic() -> Predictor:
        predict: Predictor = PeerIsotonic(out_of_bounds="clip").fit(z, y).predict
        return predict

    def by_bfgs(start: list[float]) -> Predictor:
        def log_odds(at: Floats, of: Floats) -> Floats:
            return at[0] * of + (at[1] if len(at) > 1 else 0.0)

        def loss(at: Floats) -> tuple[float, Floats]:
            t = log_odds(at, z)
            d = expit(t) - y
            gradient = np.array([d @ z, d.sum()][: len(at)]) / count
            return float(np.mean(np.logaddexp(0, t) - y * t)), gradient

        best = minimize(loss, start, jac=True, method="BFGS").x
        return lambda of: np.asarray(expit(log_odds(best, of)))

    cases: dict[str, tuple[Callable[[], Predictor], str, Callable[[], Predictor]]] = {
        "isotonic": (lambda: IsotonicRegression().fit(z, y), "scikit-learn", by_isotonic),
        "platt": (lambda: PlattScaling().fit(z, y), "scipy BFGS", lambda: by_bfgs([1.0, 0.0])),
        "temperature": (lambda: TemperatureScaling().fit(z, y), "scipy BFGS", lambda: by_bfgs([1.0])),
    }
    found = []
    for what, (own, peer, theirs) in cases.items():
        seconds = measure({"own": own, "peer": theirs}, repetitions)
        losses = [log_loss(y, np.clip(fitted()(z), 1e-15, 1 - 1e-15)) for fitted in (own, theirs)]
        found.append(Fit(what, peer, seconds["own"], seconds["peer"], *losses))
    return found
