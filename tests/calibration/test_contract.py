"""What every calibrator must do: one suite over the registry, so a new one is tested once it is defined."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from ctrkit.calibration import CALIBRATORS, Calibrator, Identity, calibrator_from_state
from ctrkit.errors import ArtifactError, DataError, RunError
from ctrkit.metrics import log_loss

pytestmark = pytest.mark.parametrize("kind", CALIBRATORS.values(), ids=CALIBRATORS)
Kind = type[Calibrator]


def over_confident(rows: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits 1.5 times as far from their mean as they should be, and labels."""
    random = np.random.default_rng(seed)
    truth = random.normal(-2, 1, rows)
    labels = random.random(rows) < 1 / (1 + np.exp(-truth))
    return 1.5 * truth, labels.astype(float)


def test_has_a_name_and_is_registered_under_it(kind: Kind) -> None:
    assert CALIBRATORS[kind.name] is kind
    assert kind.minimum_positives >= 0


def test_does_not_lose_on_the_rows_it_was_fitted_on(kind: Kind) -> None:
    for seed in range(5):
        logits, labels = over_confident(seed=seed)
        before = log_loss(labels, Identity()(logits))
        after = log_loss(labels, kind().fit(logits, labels)(logits))
        assert after <= before + 1e-12
        assert kind is Identity or after < before - 0.001


def test_never_changes_the_order(kind: Kind) -> None:
    calibrator = kind().fit(*over_confident())
    grid = np.concatenate([-np.logspace(308, -3, 500), [0.0], np.logspace(-3, 308, 500)])
    assert (np.diff(calibrator(grid)) >= 0).all()
    # It does not answer by a constant either.
    assert calibrator([-5.0])[0] < calibrator([3.0])[0]


def test_probabilities_lie_inside_0_and_1_also_as_float32(kind: Kind) -> None:
    calibrator = kind().fit(*over_confident())
    for logits in ([-1e308, -1e4, -40.0], [40.0, 1e4, 1e308]):
        probabilities = calibrator(logits)
        assert probabilities.dtype == np.float64
        assert ((probabilities > 0) & (probabilities < 1)).all()
        assert ((np.float32(probabilities) > 0) & (np.float32(probabilities) < 1)).all()


def test_keeps_the_shape_of_the_logits(kind: Kind) -> None:
    calibrator = kind().fit(*over_confident())
    logits = np.linspace(-6, 2, 12)
    assert (calibrator(logits.reshape(3, 4)) == calibrator(logits).reshape(3, 4)).all()
    assert calibrator(np.empty((0, 4))).shape == (0, 4)
    assert calibrator(-1.5).shape == ()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_fits_logits_of_any_scale(kind: Kind, scale: float) -> None:
    logits, labels = over_confident()
    probabilities = kind().fit(scale * logits, labels)(scale * logits)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    if kind is not Identity:
        assert probabilities == pytest.approx(kind().fit(logits, labels)(logits), rel=1e-6)


# One negative at 1e7 outweighs all other rows in the likelihood; lines warn that their slope is not above 0.
@pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")
def test_one_absurd_logit_breaks_nothing(kind: Kind) -> None:
    logits, labels = over_confident()
    calibrator = kind().fit(np.append(logits, 1e7), np.append(labels, 0.0))
    grid = np.linspace(-10, 10, 100)
    assert ((calibrator(grid) > 0) & (calibrator(grid) < 1)).all()
    assert (np.diff(calibrator(grid)) >= 0).all()


def test_state_round_trip_is_exact(kind: Kind) -> None:
    logits, labels = over_confident()
    calibrator = kind().fit(logits, labels)
    state = calibrator.state()
    assert state["name"] == kind.name
    assert all(type(value) in (str, float) or isinstance(value, np.ndarray) for value in state.values())
    through_json = json.loads(json.dumps(state, default=lambda array: array.tolist()))
    grid = np.linspace(-20, 20, 999)
    for restored in (calibrator_from_state(state), kind.from_state(through_json)):
        assert type(restored) is kind
        assert (restored(grid) == calibrator(grid)).all()
        assert pickle.dumps(restored.state()) == pickle.dumps(state)


def test_damaged_states_are_refused(kind: Kind) -> None:
    state = kind().fit(*over_confident()).state()
    with pytest.raises(ArtifactError, match="unknown calibrator"):
        calibrator_from_state({**state, "name": "no such"})
    with pytest.raises(ArtifactError, match="was read as"):
        kind.from_state({**state, "name": "other"})
    for part in set(state) - {"name"}:
        with pytest.raises(ArtifactError, match="damaged"):
            kind.from_state({key: value for key, value in state.items() if key != part})
        for wrong in ("text", float("nan"), [np.nan, np.nan]):
            with pytest.raises(ArtifactError, match="damaged"):
                kind.from_state({**state, part: wrong})


def test_a_weight_of_two_is_two_rows(kind: Kind) -> None:
    logits, labels = over_confident(1500)
    times = np.random.default_rng(1).integers(0, 4, len(logits))
    weighted = kind().fit(logits, labels, times)
    repeated = kind().fit(np.repeat(logits, times), np.repeat(labels, times))
    grid = np.linspace(-12, 6, 500)
    assert weighted(grid) == pytest.approx(repeated(grid), rel=1e-8)


def test_the_order_of_rows_does_not_matter(kind: Kind) -> None:
    logits, labels = over_confident()
    shuffled = np.random.default_rng(2).permutation(len(logits))
    grid = np.linspace(-12, 6, 500)
    expected = kind().fit(logits, labels)(grid)
    assert kind().fit(logits[shuffled], labels[shuffled])(grid) == pytest.approx(expected, rel=1e-8)


def test_one_logit_for_all_rows(kind: Kind) -> None:
    probabilities = kind().fit(np.full(100, -3.0), np.arange(100) < 20)([-3.0])
    assert 0 < probabilities[0] < 1
    assert kind().fit(np.zeros(100), np.arange(100) < 20)([0.0])[0] == pytest.approx(0.35, abs=0.16)


def test_refuses_bad_input(kind: Kind) -> None:
    with pytest.raises(DataError, match=r"column 'logits', row 1 .*missing"):
        kind().fit([0.0, np.nan], [0, 1])
    with pytest.raises(DataError, match=r"column 'labels', row 0 .*this is 3"):
        kind().fit([0.0, 1.0], [3, 1])
    with pytest.raises(DataError, match="labels has 3 rows and logits has 2"):
        kind().fit([0.0, 1.0], [0, 1, 1])
    with pytest.raises(DataError, match=r"row 1 .*-2"):
        kind().fit([0.0, 1.0], [0, 1], [1, -2])
    with pytest.raises(DataError, match="both classes"):
        kind().fit([0.0, 1.0], [0, 0])
    with pytest.raises(DataError, match="both classes"):
        kind().fit([0.0, 1.0], [0, 1], [1, 0])
    with pytest.raises(DataError, match="infinite"):
        kind().fit(*over_confident())([0.0, np.inf])


def test_says_when_it_was_not_fitted(kind: Kind) -> None:
    if kind is not Identity:
        with pytest.raises(RunError, match="not fitted"):
            kind()([0.0])
        with pytest.raises(RunError, match="not fitted"):
            kind().state()
