"""Field-aware calibration against its own stated optimum by scipy, and markets with known segment effects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logsumexp

from ctrkit.calibration import FieldAware, PlattScaling
from ctrkit.metrics import log_loss


def draw(
    rows: int, segments: int, spread: float, seed: int = 0, tilt: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels, segments of very different sizes, and true log-odds."""
    random = np.random.default_rng(seed)
    z = random.normal(-1.5, 1, rows)
    codes = np.minimum(random.geometric(3 / segments, rows) - 1, segments - 1)
    slope = 1 + tilt * random.normal(size=segments)[codes]
    truth = slope * z + spread * random.normal(size=segments)[codes]
    return z, (random.random(rows) < expit(truth)).astype(float), codes, truth


def log_likelihoods(
    fitted: FieldAware, z: np.ndarray, y: np.ndarray, codes: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """The log-likelihood of each segment's rows with its shift at each of some values, [S, values]."""
    t = fitted.line.slope * z + fitted.line.intercept
    rows = t[:, None] + at
    each = y[:, None] * rows - np.logaddexp(0, rows)
    return np.stack([each[codes == code].sum(0) for code in np.unique(codes)])


def test_shifts_are_posterior_modes_and_shrink_as_stated() -> None:
    z, y, codes, _ = draw(3000, 25, 0.7)
    fitted = FieldAware().fit(z, y, segments=codes)
    line = PlattScaling().fit(z, y)
    assert tuple(fitted.line) == pytest.approx((line.slope, line.intercept), rel=1e-12)
    shifts, variance = fitted.intercepts - fitted.line.intercept, fitted.spread[0] ** 2
    told = []
    for code, shift in zip(fitted.segments, shifts, strict=True):
        t, own = line.slope * z[codes == code] + line.intercept, y[codes == code]
        best = minimize_scalar(
            lambda d, t=t, own=own: np.sum(np.logaddexp(0, t + d) - own * (t + d)) + d * d / (2 * variance),
            bracket=(-1, 1),
            tol=1e-12,
        )
        assert shift == pytest.approx(best.x, abs=1e-6)
        p = expit(t + shift)
        information = np.sum(p * (1 - p))
        told.append(information / (information + 1 / variance))
        assert shift == pytest.approx(told[-1] * (shift + np.sum(own - p) / information), abs=1e-8)
    # The fixed point of the spread, with the weights of the docstring.
    assert variance == pytest.approx(np.sum(shifts**2) / np.sum(told), rel=1e-6)
    assert (fitted.slopes == fitted.line.slope).all()


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_the_spread_is_near_that_of_the_exact_marginal_likelihood(spread: float) -> None:
    z, y, codes, _ = draw(20_000, 60, spread, seed=1)
    fitted = FieldAware().fit(z, y, segments=codes)
    # ∫ likelihood(δ) N(δ; 0, τ²) dδ of each segment, on a grid finer than any of its peaks.
    grid = np.arange(-5, 5, 0.02)
    terms = log_likelihoods(fitted, z, y, codes, grid)

    def negative(log_spread: float) -> float:
        prior = -((grid / np.exp(log_spread)) ** 2) / 2 - log_spread
        return -float(logsumexp(terms + prior, axis=1).sum())

    exact = float(np.exp(minimize_scalar(negative, bounds=(-3, 1.5), method="bounded").x))
    assert fitted.spread[0] == pytest.approx(exact, rel=0.05)


def test_lines_are_posterior_modes_too() -> None:
    z, y, codes, _ = draw(6000, 8, 0.5, seed=2, tilt=0.4)
    fitted = FieldAware(lines=True).fit(z, y, segments=codes)
    t = fitted.line.slope * z + fitted.line.intercept
    x = (t - t.mean()) / t.std()
    assert (fitted.spread > 0.05).all()
    for code, slope, intercept in zip(fitted.segments, fitted.slopes, fitted.intercepts, strict=True):
        rows = codes == code

        def penalised(change: np.ndarray, rows: np.ndarray = rows) -> float:
            own = t[rows] + change[0] + change[1] * x[rows]
            return float(
                np.sum(np.logaddexp(0, own) - y[rows] * own) + np.sum((change / fitted.spread) ** 2) / 2
            )

        shift, tilt = minimize(penalised, [0.0, 0.0], method="BFGS", options={"gtol": 1e-6}).x
        expected = t[rows] + shift + tilt * x[rows]
        assert slope * z[rows] + intercept == pytest.approx(expected, abs=1e-4)
    assert len(np.unique(fitted.slopes)) == len(fitted.slopes)


def test_is_better_than_one_line_and_than_no_shrinking() -> None:
    z, y, codes, truth = draw(20_000, 400, 0.8, seed=3)
    half = np.random.default_rng(0).random(20_000) < 0.5
    fitted = FieldAware().fit(z[half], y[half], segments=codes[half])
    probabilities = fitted(z[~half], codes[~half])

    def error(found: np.ndarray) -> float:
        return float(np.mean((found - expit(truth[~half])) ** 2))

    line = PlattScaling().fit(z[half], y[half])
    assert error(probabilities) < 0.5 * error(line(z[~half]))
    # Each segment's own shift, unshrunk: those of few rows go wrong.
    own = np.zeros(400)
    for code in np.unique(codes[half]):
        rows = half & (codes == code)
        t = line.slope * z[rows] + line.intercept
        own[code] = minimize_scalar(
            lambda d, t=t, rows=rows: np.sum(np.logaddexp(0, t + d) - y[rows] * (t + d)),
            bounds=(-8, 8),
            method="bounded",
        ).x
    t = line.slope * z[~half] + line.intercept
    assert log_loss(y[~half], probabilities) < log_loss(y[~half], expit(t + own[codes[~half]]))


def test_small_segments_stay_close_and_unseen_ones_get_the_global_line() -> None:
    random = np.random.default_rng(4)
    z = random.normal(-1, 1, 4042)
    codes = np.append(np.repeat([10, 20], 2020), [30, 30])
    shift = np.where(codes == 10, -1.0, 1.0)
    y = (random.random(4042) < expit(z + shift)).astype(float)
    y[-2:] = 0
    fitted = FieldAware().fit(z, y, segments=codes)
    shifts = fitted.intercepts - fitted.line.intercept
    assert shifts[0] == pytest.approx(-1, abs=0.25)
    assert shifts[1] == pytest.approx(1, abs=0.25)
    assert -1.2 < shifts[2] < 0  # two negatives: its own estimate would be minus infinity
    line = PlattScaling().fit(z, y)
    for unseen in (-5, 15, 99):
        assert fitted(z[:9], np.full(9, unseen)) == pytest.approx(line(z[:9]), rel=1e-12)


def test_alike_segments_are_not_moved() -> None:
    z, y, codes, _ = draw(20_000, 20, 0.0, seed=5)
    fitted = FieldAware().fit(z, y, segments=codes)
    line = PlattScaling().fit(z, y)
    assert fitted.spread[0] < 0.08
    assert fitted(z, codes) == pytest.approx(line(z), rel=0.1)
    one = FieldAware().fit(z, y, segments=np.zeros(20_000, int))
    assert one(z, np.zeros(20_000, int)) == pytest.approx(line(z), rel=1e-6)


def test_numbers_of_segments_do_not_matter() -> None:
    z, y, codes, _ = draw(3000, 10, 0.7, seed=6)
    near = FieldAware().fit(z, y, segments=codes)
    names = np.array([7, -(2**50), 2**53, 0, 12, 10**9, -3, 99, 5, 2**40])
    far = FieldAware().fit(z, y, segments=names[codes])
    assert far(z, names[codes]) == pytest.approx(near(z, codes), rel=1e-9)
    assert far.segments.tolist() == sorted(names[np.unique(codes)].tolist())


def test_one_sided_segments_and_steep_shifts_are_fitted() -> None:
    random = np.random.default_rng(7)
    z = random.normal(-4, 0.5, 3000)
    codes = np.arange(3000) % 3
    y = np.where(codes == 0, 0.0, np.where(codes == 1, 1.0, random.random(3000) < expit(z)))
    fitted = FieldAware(lines=True).fit(z, y, segments=codes)
    low, high = fitted([-4.0], [0])[0], fitted([-4.0], [1])[0]
    assert low < 0.02 < 0.98 < high
    assert np.isfinite(fitted.intercepts).all()
    assert (fitted.slopes > 0).all()
