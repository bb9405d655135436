"""A row of weight c equals c copies of it: choosing a calibrator, judging it, and learning on."""

from __future__ import annotations

import numpy as np
import pytest

from ctrkit.calibration import OnlineRecalibration, PlattScaling, assess, choose
from ctrkit.errors import DataError


def rows(number: int = 6000, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Logits that are too far apart, labels, weights 0 to 3, users, and the place of each copy."""
    random = np.random.default_rng(seed)
    truth = random.normal(-1, 1, number)
    labels = (random.random(number) < 1 / (1 + np.exp(-truth))).astype(float)
    weight = random.integers(0, 4, number).astype(float)
    return 1.4 * truth, labels, weight, np.repeat(np.arange(number), weight.astype(int))


def test_the_choice() -> None:
    z, y, w, copies = rows()
    weighted = choose(z, y, weight=w)
    copied = choose(z[copies], y[copies], groups=copies)
    assert weighted.method == copied.method
    for one, other in zip(weighted.scores, copied.scores, strict=True):
        assert one.log_loss == pytest.approx(other.log_loss, rel=1e-9), one.method
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-6, abs=1e-12), one.method
    grid = np.linspace(-4, 4, 50)
    assert weighted.calibrator(grid) == pytest.approx(copied.calibrator(grid), rel=1e-8)
    assert (weighted.rows, weighted.positives) == (np.count_nonzero(w), np.count_nonzero(w * y))


def test_weights_do_not_make_many_positives_of_few() -> None:
    z, y, _, _ = rows(2000)
    positive = np.flatnonzero(y)
    # Of some hundred positive rows ten have all but nothing of the weight.
    w = np.where(y == 1, 1e-3, 1.0)
    w[positive[:10]] = 1000.0
    with pytest.warns(match=r"only \d+ that count as 10 positive rows"):
        assert choose(z, y, weight=w).method == "identity"


def test_the_thinned_table_is_calibrated_for_the_whole() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(-4, 1, 200_000)
    y = (random.random(200_000) < 1 / (1 + np.exp(-truth))).astype(float)
    kept = (y == 1) | (random.random(200_000) < 0.05)
    w = np.where(y == 1, 1.0, 20.0)
    chosen = choose(truth[kept], y[kept], weight=w[kept])
    # The model's logits are the true ones: as if every row counted once, odds would be 20 times as high.
    assert chosen.calibrator(truth).mean() == pytest.approx(y.mean(), rel=0.03)
    found = assess(y[kept], chosen.calibrator(truth[kept]), weight=w[kept])
    assert found.pcoc is not None
    assert found.pcoc.low < 1.0 < found.pcoc.high


def test_the_judgement() -> None:
    z, y, w, copies = rows(1500)
    p = 1 / (1 + np.exp(-z))
    weighted, copied = assess(y, p, weight=w), assess(y[copies], p[copies], groups=copies)
    for name in ("pcoc", "debiased_ece", "brier", "normalized_entropy", "log_loss"):
        one, other = getattr(weighted, name), getattr(copied, name)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-9)
    assert (weighted.ece, weighted.mce) == pytest.approx((copied.ece, copied.mce), rel=1e-9)
    alone = assess(y, p, groups=np.zeros(len(y)), weight=w)
    assert alone.pcoc is None  # one user does not tell how sure it is
    assert alone.ece == weighted.ece


def test_an_update() -> None:
    z, y, w, _ = rows(400)
    fitted = [OnlineRecalibration(PlattScaling().fit(z, y), half_life=500.0) for _ in range(2)]
    # In one block, as forgetting goes by rows within it.
    one = fitted[0].update(z[:90], y[:90], w[:90] + 1)
    times = np.repeat(np.arange(90), (w[:90] + 1).astype(int))
    other = fitted[1].update(z[times], y[times])
    assert one.before == pytest.approx(other.before, rel=1e-9)
    with pytest.raises(DataError, match="every weight is 0"):
        fitted[0].update(z[:9], y[:9], np.zeros(9))
