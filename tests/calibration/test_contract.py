"""What every calibrator must do: one suite over the registry, so a new one is tested once it is defined."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest

from ctrkit.calibration import (
    CALIBRATORS,
    CalibrationWarning,
    Calibrator,
    Identity,
    calibrator_from_state,
)
from ctrkit.errors import ArtifactError, DataError, RunError
from ctrkit.metrics import log_loss

pytestmark = pytest.mark.parametrize("kind", CALIBRATORS.values(), ids=CALIBRATORS)
Kind = type[Calibrator]


def fitted(
    kind: Kind, logits: object, labels: object, weight: object = None, segments: np.ndarray | None = None
) -> Calibrator:
    """Fitted, where it uses segments with some that do not matter."""
    if segments is None:
        segments = np.sign(np.sin(1e3 * np.asarray(logits, float))).astype(int)  # by the row, not its place
    return kind().fit(logits, labels, weight, segments)  # type: ignore[arg-type]


def called(calibrator: Calibrator, logits: object, segment: int = 1) -> np.ndarray:
    """Probabilities of logits, all of one segment."""
    return calibrator(logits, np.full(np.shape(logits), segment))  # type: ignore[arg-type]


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
        segments = np.arange(len(logits)) % 3
        calibrator = fitted(kind, logits, labels, segments=segments)
        after = log_loss(labels, calibrator(logits, segments))
        assert after <= before + 1e-12
        assert not kind.learns or after < before - 0.001


def test_sets_the_mean_probability_or_says_that_it_does_not(kind: Kind) -> None:
    for shift in (-1.5, 0.0, 1.5):
        logits, labels = over_confident()
        segments = np.arange(len(logits)) % 3
        calibrator = fitted(kind, logits + shift, labels, segments=segments)
        right = calibrator(logits + shift, segments).mean() == pytest.approx(labels.mean(), rel=0.05)
        assert right or not kind.sets_mean
    # Over-confident logits around -3 have too low a mean, and with the last shift one too high.
    assert right == kind.sets_mean


def test_never_changes_the_order(kind: Kind) -> None:
    calibrator = fitted(kind, *over_confident())
    grid = np.concatenate([-np.logspace(308, -3, 500), [0.0], np.logspace(-3, 308, 500)])
    assert (np.diff(called(calibrator, grid)) >= 0).all()
    # It does not answer by a constant either.
    assert called(calibrator, [-5.0])[0] < called(calibrator, [3.0])[0]


def test_probabilities_lie_inside_0_and_1_also_as_float32(kind: Kind) -> None:
    calibrator = fitted(kind, *over_confident())
    for logits in ([-1e308, -1e4, -40.0], [40.0, 1e4, 1e308]):
        probabilities = called(calibrator, logits)
        assert probabilities.dtype == np.float64
        assert ((probabilities > 0) & (probabilities < 1)).all()
        assert ((np.float32(probabilities) > 0) & (np.float32(probabilities) < 1)).all()


def test_keeps_the_shape_of_the_logits(kind: Kind) -> None:
    calibrator = fitted(kind, *over_confident())
    logits = np.linspace(-6, 2, 12)
    assert (called(calibrator, logits.reshape(3, 4)) == called(calibrator, logits).reshape(3, 4)).all()
    assert called(calibrator, np.empty((0, 4))).shape == (0, 4)
    assert called(calibrator, -1.5).shape == ()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_fits_logits_of_any_scale(kind: Kind, scale: float) -> None:
    logits, labels = over_confident()
    segments = np.arange(len(logits)) % 3
    calibrator = fitted(kind, scale * logits, labels, segments=segments)
    probabilities = calibrator(scale * logits, segments)
    assert ((probabilities > 0) & (probabilities < 1)).all()
    if not kind.knows_zero:
        expected = fitted(kind, logits, labels, segments=segments)(logits, segments)
        assert probabilities == pytest.approx(expected, rel=1e-6)
    elif kind.learns:
        # Another curve, but no worse than what one number can do.
        assert log_loss(labels, probabilities) < log_loss(labels, np.full(len(labels), labels.mean()))


# One negative at 1e7 outweighs all other rows in the likelihood; lines warn that their slope is not above 0.
@pytest.mark.filterwarnings("ignore::ctrkit.calibration.CalibrationWarning")
def test_one_absurd_logit_breaks_nothing(kind: Kind) -> None:
    logits, labels = over_confident()
    calibrator = fitted(kind, np.append(logits, 1e7), np.append(labels, 0.0))
    grid = np.linspace(-10, 10, 100)
    assert ((called(calibrator, grid) > 0) & (called(calibrator, grid) < 1)).all()
    assert (np.diff(called(calibrator, grid)) >= 0).all()


def test_state_round_trip_is_exact(kind: Kind) -> None:
    logits, labels = over_confident()
    calibrator = fitted(kind, logits, labels)
    state = calibrator.state()
    assert state["name"] == kind.name
    assert all(type(value) in (str, float) or isinstance(value, np.ndarray) for value in state.values())
    through_json = json.loads(json.dumps(state, default=lambda array: array.tolist()))
    grid = np.linspace(-20, 20, 999)
    for restored in (calibrator_from_state(state), kind.from_state(through_json)):
        assert type(restored) is kind
        assert (called(restored, grid) == called(calibrator, grid)).all()
        assert pickle.dumps(restored.state()) == pickle.dumps(state)


def test_damaged_states_are_refused(kind: Kind) -> None:
    state = fitted(kind, *over_confident()).state()
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
    weighted = fitted(kind, logits, labels, times)
    repeated = fitted(kind, np.repeat(logits, times), np.repeat(labels, times))
    grid = np.linspace(-12, 6, 500)
    assert called(weighted, grid) == pytest.approx(called(repeated, grid), rel=1e-8)


def test_the_order_of_rows_does_not_matter(kind: Kind) -> None:
    logits, labels = over_confident()
    shuffled = np.random.default_rng(2).permutation(len(logits))
    grid = np.linspace(-12, 6, 500)
    expected = called(fitted(kind, logits, labels), grid)
    other = fitted(kind, logits[shuffled], labels[shuffled])
    assert called(other, grid) == pytest.approx(expected, rel=1e-8)


def test_one_logit_for_all_rows(kind: Kind) -> None:
    probabilities = called(fitted(kind, np.full(100, -3.0), np.arange(100) < 20), [-3.0])
    assert 0 < probabilities[0] < 1
    assert called(fitted(kind, np.zeros(100), np.arange(100) < 20), [0.0])[0] == pytest.approx(0.35, abs=0.16)


def test_segments_are_used_or_ignored(kind: Kind) -> None:
    logits, labels = over_confident()
    segments = np.arange(len(logits)) % 2
    labels = np.where(segments == 1, labels, labels * (np.arange(len(logits)) % 4 == 0))
    calibrator = kind().fit(logits, labels, segments=segments)
    grid = np.linspace(-6, 2, 50)
    if not kind.uses_segments:
        assert (called(calibrator, grid) == kind().fit(logits, labels)(grid)).all()
        assert (calibrator(grid, "anything") == called(calibrator, grid)).all()
        return
    assert (called(calibrator, grid, 0) < called(calibrator, grid, 1)).all()
    for other in (0, 1, -7):  # the last was not seen
        assert (np.diff(called(calibrator, grid, other)) >= 0).all()
    mixed = np.arange(50) % 2
    assert (
        calibrator(grid, mixed) == np.where(mixed, called(calibrator, grid, 1), called(calibrator, grid, 0))
    ).all()
    with pytest.raises(DataError, match=r"argument `segments`.* needs the segment of every row"):
        kind().fit(logits, labels)
    with pytest.raises(DataError, match=r"argument `segments`.* needs the segment of every row"):
        calibrator(grid)
    for wrong in (segments[:-1], segments[:, None]):
        with pytest.raises(DataError, match=r"logits has the shape \(4000,\) and segments has"):
            kind().fit(logits, labels, segments=wrong)
    for wrong in (np.where(segments, np.nan, 0.0), np.array(["a", None] * 2000)):
        with pytest.raises(DataError, match="segments are whole numbers"):
            kind().fit(logits, labels, segments=wrong)
    with pytest.raises(DataError, match=r"row index 2.*beyond 2\^53"):
        calibrator(grid[:3], [0, 1, 2**60])


def test_fewer_than_20_rows_of_a_label_are_warned_of(kind: Kind) -> None:
    logits, labels = over_confident(300)
    enough = np.flatnonzero(labels)[:20]
    rows = np.sort(np.append(np.flatnonzero(labels == 0), enough))
    fitted(kind, logits[rows], labels[rows])  # exactly 20: warnings are errors here
    rows = rows[rows != enough[0]]
    if not kind.learns:
        fitted(kind, logits[rows], labels[rows])
        return
    for z, y, label in ((logits, labels, "positive"), (-logits, 1 - labels, "negative")):
        with pytest.warns(
            CalibrationWarning, match=f"^{kind.name} was fitted with only 19 {label} rows"
        ) as caught:
            fitted(kind, z[rows], y[rows])
        assert len(caught) == 1
    weight = np.where(np.arange(300) == enough[0], 0.0, 1.0)
    only = np.isin(np.arange(300), np.append(enough, np.flatnonzero(labels == 0)))
    with pytest.warns(CalibrationWarning, match="only 19 positive rows"):
        fitted(kind, logits[only], labels[only], weight[only])


def test_refuses_bad_input(kind: Kind) -> None:
    zeros = np.zeros(2, int)
    with pytest.raises(DataError, match=r"argument `logits`, row index 1.*missing"):
        kind().fit([0.0, np.nan], [0, 1], segments=zeros)
    with pytest.raises(DataError, match=r"argument `labels`, row index 0.*this is 3"):
        kind().fit([0.0, 1.0], [3, 1], segments=zeros)
    with pytest.raises(DataError, match="labels has 3 rows and logits has 2"):
        kind().fit([0.0, 1.0], [0, 1, 1], segments=zeros)
    with pytest.raises(DataError, match=r"row index 1.*-2"):
        kind().fit([0.0, 1.0], [0, 1], [1, -2], zeros)
    with pytest.raises(DataError, match="both classes"):
        kind().fit([0.0, 1.0], [0, 0], segments=zeros)
    with pytest.raises(DataError, match="both classes"):
        kind().fit([0.0, 1.0], [0, 1], [1, 0], zeros)
    with pytest.raises(DataError, match="infinite"):
        called(fitted(kind, *over_confident()), [0.0, np.inf])


def test_says_when_it_was_not_fitted(kind: Kind) -> None:
    if kind.learns:
        with pytest.raises(RunError, match="not fitted"):
            kind()([0.0])
        with pytest.raises(RunError, match="not fitted"):
            kind().state()
    else:
        assert calibrator_from_state(kind().state())([0.0]) == pytest.approx([0.5])


def test_odd_arrays_are_taken(kind: Kind) -> None:
    logits, labels = over_confident(1500)
    expected = fitted(kind, logits, labels)
    wide = np.stack([logits, labels], axis=1)
    lists = fitted(kind, wide[:, 0].tolist(), wide[:, 1].astype(int).tolist(), segments=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strided = fitted(kind, wide[:, 0], wide[:, 1], np.ones(3000)[::2])
        for column in (logits, labels):
            column.flags.writeable = False  # as those of Arrow and Polars are
        read_only = fitted(kind, logits, labels)
    grid = np.linspace(-6, 2, 40)
    assert (called(lists, grid) == called(expected, grid)).all()
    assert (called(read_only, grid) == called(expected, grid)).all()
    assert called(strided, grid) == pytest.approx(called(expected, grid), rel=1e-10)
