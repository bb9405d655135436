"""Online recalibration against its stated posterior by scipy, a loop by hand, and markets that move."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from ctrkit.calibration import (
    CALIBRATORS,
    CalibrationWarning,
    FieldAware,
    Identity,
    IsotonicRegression,
    OnlineRecalibration,
    PlattScaling,
    calibrator_from_state,
)
from ctrkit.errors import ArtifactError, ConfigError, DataError, RunError
from ctrkit.metrics import log_loss


def draw(rows: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels whose log-odds are the logits and a shift."""
    random = np.random.default_rng(seed)
    z = random.normal(-2, 1, rows)
    return z, (random.random(rows) < expit(z + shift)).astype(float)


def test_begins_as_the_calibrator_and_scores_rows_before_learning_them() -> None:
    z, y = draw(5000)
    fitted = IsotonicRegression().fit(z, y)
    online = OnlineRecalibration(fitted)
    assert online(z) == pytest.approx(fitted(z), rel=1e-9)
    fresh, labels = draw(900, 1.0, seed=1)
    weight = np.random.default_rng(2).exponential(size=900)
    expected = log_loss(labels, online(fresh), weight)
    report = online.update(fresh, labels, weight)
    assert report.before == pytest.approx(expected, rel=1e-12)
    assert report.monitored == pytest.approx(expected, rel=1e-2)
    assert (report.rows, report.positives) == (900, labels.sum())


def test_one_block_is_the_mode_of_its_posterior() -> None:
    online = OnlineRecalibration(Identity(), half_life=400, on_worse="keep")
    z, y = draw(90, 1.0)
    online.update(z, y)

    def own(line: np.ndarray) -> float:
        t = line[0] * z + line[1]
        return float(np.sum(np.logaddexp(0, t) - y * t))

    # At first, the calibrator counts as known from a half-life of rows like these.
    p = expit(z)
    x = np.stack([z, np.ones(90)])
    prior = (x * p * (1 - p)) @ x.T * 400 / 90 * 0.5 ** (90 / 400)

    def posterior(line: np.ndarray) -> float:
        off = line - [1.0, 0.0]
        return own(line) + float(off @ prior @ off) / 2

    best = minimize(posterior, [1.0, 0.0], method="BFGS", options={"gtol": 1e-7}).x
    assert online.learnt == pytest.approx(best, abs=1e-6)
    p = expit(best[0] * z + best[1])
    assert online.information == pytest.approx(prior + (x * p * (1 - p)) @ x.T, rel=1e-5)
    assert online.line == pytest.approx(online.learnt)


def test_the_prequential_loss_is_that_of_a_loop_by_hand() -> None:
    z, y = draw(800, 0.8)
    online, shadow = (OnlineRecalibration(Identity(), half_life=2000, on_worse="keep") for _ in range(2))
    report = online.update(z, y)
    learning = np.empty(800)
    for rows in np.split(np.arange(800), 8):
        p = expit(shadow.learnt[0] * z[rows] + shadow.learnt[1])
        learning[rows] = -np.log(np.where(y[rows] == 1, p, 1 - p))
        shadow.update(z[rows], y[rows])
    own = -np.log(np.where(y == 1, expit(z), 1 - expit(z)))
    assert report.before == pytest.approx(own.mean(), rel=1e-9)
    assert report.after == pytest.approx(learning.mean(), rel=1e-9)
    assert online.learnt == pytest.approx(shadow.learnt, rel=1e-9)
    # What is left of a row: half after a half-life, for the evidence after a tenth of it.
    age = np.arange(799, -1, -1)
    assert report.monitored == pytest.approx(np.average(own, weights=0.5 ** (age / 2000)), rel=1e-9)
    assert report.evidence == pytest.approx(0.5 ** (age / 200) @ (learning - own), rel=1e-9)


def test_follows_a_market_that_moves_and_says_so() -> None:
    base = PlattScaling().fit(*draw(20_000))
    online = OnlineRecalibration(base, half_life=3000)
    for step in range(8):
        report = online.update(*draw(2000, 1.0, seed=10 + step))
    assert report.outcome in ("kept", "reverted")
    z, y = draw(50_000, 1.0, seed=99)
    best = log_loss(y, PlattScaling().fit(z, y)(z))
    assert log_loss(y, online(z)) < best + 0.001 < log_loss(y, base(z)) - 0.03
    first = OnlineRecalibration(base, half_life=3000).update(*draw(2000, 1.0, seed=10))
    assert first.outcome == "kept"
    assert first.after < first.before
    assert "lowers the log loss" in first.reason
    # And back again: what was learnt is forgotten.
    for step in range(12):
        online.update(*draw(2000, 0.0, seed=30 + step))
    z, y = draw(50_000, 0.0, seed=98)
    assert log_loss(y, online(z)) < log_loss(y, expit(z)) + 0.001


def test_a_short_half_life_forgets_faster() -> None:
    lines = {}
    for half_life in (500.0, 50_000.0):
        online = OnlineRecalibration(Identity(), half_life=half_life)
        online.update(*draw(4000, 1.0))
        lines[half_life] = online.learnt[1] - (1 - online.learnt[0]) * 2
    assert lines[500.0] > 3 * lines[50_000.0] > 0


def test_nothing_gets_worse_unsaid() -> None:
    # A first part that misleads, and a second that tells: what is learnt from the first costs on the second.
    z, y = draw(4000, 2.0)
    z2, y2 = draw(12_000, -0.5, seed=1)
    rows, labels = np.append(z, z2), np.append(y, y2)
    careful = OnlineRecalibration(Identity(), half_life=50_000)
    before = careful([-3.0, 0.0])
    report = careful.update(rows, labels)
    assert report.outcome == "reverted"
    assert report.evidence > 0
    assert report.after > report.before
    assert "stays" in report.reason
    assert (careful([-3.0, 0.0]) == before).all()
    assert careful.learnt[1] != careful.line[1]
    bold = OnlineRecalibration(Identity(), half_life=50_000, on_worse="keep")
    with pytest.warns(CalibrationWarning, match="online: the update is worse"):
        worse = bold.update(rows, labels)
    assert worse.outcome == "kept although worse"
    assert (worse.before, worse.after) == (report.before, report.after)
    assert (bold([-3.0, 0.0]) != before).all()
    # What waits is judged again by the rows to come, and comes into use once it is better.
    outcomes = [careful.update(*draw(4000, -0.5, seed=20 + step)).outcome for step in range(5)]
    assert "kept" in outcomes
    assert careful.line[1] < 0


def test_a_steady_market_is_left_alone() -> None:
    base = PlattScaling().fit(*draw(100_000))
    online = OnlineRecalibration(base, half_life=20_000)
    for step in range(10):
        online.update(*draw(3000, seed=50 + step))
    z, y = draw(100_000, seed=97)
    assert log_loss(y, online(z)) < log_loss(y, base(z)) + 2e-4


@pytest.mark.parametrize("size", [1, 7])
def test_few_rows_at_a_time_will_do(size: int) -> None:
    online = OnlineRecalibration(Identity(), half_life=400)
    z, y = draw(700, 1.2)
    reports = [online.update(z[i : i + size], y[i : i + size]) for i in range(0, 700, size)]
    assert reports[0].outcome == "reverted"  # nothing could be judged yet
    assert "could not be judged yet" in reports[0].reason
    assert any(report.outcome == "kept" for report in reports)
    fresh, labels = draw(50_000, 1.2, seed=3)
    assert log_loss(labels, online(fresh)) < log_loss(labels, expit(fresh)) - 0.03


def test_rows_of_one_class_and_backward_rows_keep_the_order() -> None:
    online = OnlineRecalibration(Identity(), half_life=300)
    report = online.update(draw(800)[0], np.zeros(800))
    assert (report.outcome, report.positives) == ("kept", 0)
    assert (np.diff(online(np.linspace(-9, 9, 99))) > 0).all()
    # The better the row, the fewer positives.
    for step in range(6):
        random = np.random.default_rng(step)
        z = random.normal(-2, 1, 500)
        online.update(z, random.random(500) < expit(-2 * z - 5))
    assert (np.diff(online(np.linspace(-9, 9, 99))) > 0).all()
    assert online.learnt[0] == pytest.approx(1e-3)


def test_goes_on_from_its_state_as_if_never_saved() -> None:
    base = FieldAware().fit(*draw(3000), segments=np.arange(3000) % 4)
    online = OnlineRecalibration(base, half_life=700, on_worse="keep")
    segments = np.arange(600) % 5
    online.update(*draw(600, 1.0, seed=1), segments=segments)
    state = json.loads(json.dumps(online.state(), default=lambda array: array.tolist()))
    restored = calibrator_from_state(state)
    assert isinstance(restored, OnlineRecalibration)
    assert (restored.half_life, restored.on_worse) == (700.0, "keep")
    assert restored.uses_segments
    fresh = draw(600, 1.0, seed=2)
    assert restored.update(*fresh, segments=segments) == online.update(*fresh, segments=segments)
    assert (restored(fresh[0], segments) == online(fresh[0], segments)).all()
    assert json.loads(json.dumps(online.update(*fresh, segments=segments).to_dict()))["rows"] == 600
    with pytest.raises(DataError, match="needs the segment"):
        online.update(*fresh)


def test_its_state_does_not_grow() -> None:
    online = OnlineRecalibration(PlattScaling().fit(*draw(2000)))
    sizes = []
    for step in range(3):
        online.update(*draw(1000 * (step + 1), seed=step))
        sizes.append(sum(np.size(part) for part in online.state().values()))
    assert len(set(sizes)) == 1
    assert sizes[0] < 30


def test_fitting_begins_anew() -> None:
    online = OnlineRecalibration(half_life=500)
    z, y = draw(3000)
    online.fit(z, y).update(*draw(2000, 1.5, seed=1))
    online.fit(z, y)
    assert online(z) == pytest.approx(PlattScaling().fit(z, y)(z), rel=1e-9)


@pytest.mark.parametrize("name", [name for name, kind in CALIBRATORS.items() if name != "online"])
def test_holds_every_calibrator(name: str) -> None:
    z, y = draw(3000)
    segments = np.arange(3000) % 3
    online = OnlineRecalibration(CALIBRATORS[name]()).fit(z, y, segments=segments)
    report = online.update(z, y, segments=segments)
    assert report.before == pytest.approx(log_loss(y, online.calibrator(z, segments)), rel=1e-6)
    assert (calibrator_from_state(online.state())(z, segments) == online(z, segments)).all()


def test_bad_settings_and_rows_are_named() -> None:
    with pytest.raises(ConfigError, match="half-life must be a number of rows above 0"):
        OnlineRecalibration(half_life=0)
    with pytest.raises(ConfigError, match="'revert' or 'keep'"):
        OnlineRecalibration(on_worse="hope")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot hold another"):
        OnlineRecalibration(OnlineRecalibration())
    with pytest.raises(RunError, match="not fitted"):
        OnlineRecalibration().update([0.0], [1])
    online = OnlineRecalibration(Identity())
    with pytest.raises(DataError, match=r"argument `logits`, row index 0.*missing"):
        online.update([np.nan], [1])
    with pytest.raises(DataError, match=r"this is 2"):
        online.update([0.0], [2])
    with pytest.raises(ArtifactError, match="damaged"):
        calibrator_from_state({**online.state(), "inner": "no such"})
    assert logit(online([0.5])[0]) == pytest.approx(0.5)
