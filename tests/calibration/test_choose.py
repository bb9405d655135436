"""The choice: what wins where it should, by cross-validation that a loop with scikit-learn confirms."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from ctrkit.calibration import (
    CALIBRATORS,
    CalibrationWarning,
    CalibratorChoice,
    TemperatureScaling,
    choose,
    spoils_pcoc,
)
from ctrkit.errors import ConfigError, DataError


def draw(rows: int, base: float = -2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True logits and labels."""
    random = np.random.default_rng(seed)
    truth = random.normal(base, 1.2, rows)
    return truth, (random.random(rows) < expit(truth)).astype(float)


def chosen(logits: np.ndarray, labels: np.ndarray, **settings: object) -> CalibratorChoice:
    return choose(logits, labels, **settings)  # type: ignore[arg-type]


def test_calibrated_logits_are_left_alone() -> None:
    choice = chosen(*draw(20_000))
    assert choice.method == choice.calibrator.name == "identity"
    assert choice.reason.startswith("Calibration does not help")
    competing = ["identity", "temperature", "platt", "beta", "histogram", "isotonic", "venn-abers"]
    assert [score.method for score in choice.scores] == competing
    assert choice.compared_rows == choice.rows == 20_000


def test_each_fault_gets_the_calibrator_made_for_it() -> None:
    truth, labels = draw(40_000)
    assert chosen(1.6 * truth, labels).method == "temperature"
    shifted = chosen(truth + 0.8, labels)
    assert shifted.method == "platt"
    assert "cross-validated log loss" in shifted.reason
    # A kink that no line follows.
    bent = np.where(truth > -2, truth, -2 + 5 * (truth + 2))
    bent = np.where(bent > -1, -1 + 0.2 * (bent + 1), bent)
    choice = chosen(bent, labels)
    assert choice.method == "isotonic"
    assert choice.calibrator(bent).mean() == pytest.approx(labels.mean(), rel=0.01)
    # Beta distributed scores, of which beta calibration is the right map (Kull et al. 2017, section 3).
    random = np.random.default_rng(1)
    labels = (random.random(40_000) < 0.3).astype(float)
    scores = np.where(labels == 1, random.beta(5, 1, 40_000), random.beta(1, 1, 40_000))
    assert chosen(logit(np.clip(scores, 1e-12, 1 - 1e-12)), labels).method == "beta"


def test_segments_let_field_aware_compete() -> None:
    truth, labels = draw(40_000)
    segments = np.random.default_rng(2).integers(0, 30, 40_000)
    shifts = np.random.default_rng(3).normal(0, 0.8, 30)
    without = chosen(truth - shifts[segments], labels)
    choice = chosen(truth - shifts[segments], labels, segments=segments)
    assert "field-aware" not in {score.method for score in without.scores}
    assert (choice.method, choice.calibrator.uses_segments) == ("field-aware", True)
    (own,) = [score.log_loss for score in choice.scores if score.method == "field-aware"]
    assert min(score.log_loss for score in without.scores) - own > 0.01
    # Where segments do not differ, it does not win.
    alike = chosen(truth + 0.8, labels, segments=segments)
    assert alike.method == "platt"
    assert "field-aware" in {score.method for score in alike.scores}
    with pytest.raises(ConfigError, match="'field-aware' needs segments"):
        chosen(truth, labels, methods=["field-aware"])


def test_the_simpler_of_two_alike_is_taken() -> None:
    # Isotonic can follow a line as well; whichever is ahead by noise, the line is preferred.
    for seed in range(4):
        truth, labels = draw(30_000, seed=seed)
        choice = chosen(1.5 * truth + 1, labels, methods=["platt", "isotonic"], seed=seed)
        assert choice.method == "platt"
    best = min(choice.scores, key=lambda score: score.log_loss)
    assert (best.difference, best.standard_error) == (0.0, 0.0)
    for score in choice.scores:
        loss = score.log_loss + score.penalty - best.log_loss - best.penalty
        assert score.difference == pytest.approx(loss, abs=1e-12)


def test_the_penalty_is_as_stated() -> None:
    truth, labels = draw(6000, base=-3.5)
    rate = labels.mean()
    scores = {score.method: score for score in chosen(1.5 * truth, labels).scores}
    own_entropy = sklearn.metrics.log_loss(labels, np.full(6000, rate))
    for name, score in scores.items():
        numbers = CALIBRATORS[name].minimum_positives / 10
        assert score.penalty == pytest.approx(own_entropy * numbers / (2 * labels.sum()), rel=1e-12)
    assert scores["identity"].penalty == 0
    # It falls as 1/n, and reads the rarer label.
    twice = chosen(np.tile(1.5 * truth, 2), np.tile(labels, 2), methods=["platt", "isotonic"])
    assert twice.scores[0].penalty == pytest.approx(scores["platt"].penalty / 2, rel=1e-12)
    turned = chosen(-1.5 * truth, 1 - labels, methods=["identity", "platt"])
    assert turned.scores[1].penalty == pytest.approx(scores["platt"].penalty, rel=1e-12)


def test_a_penalty_that_decides_is_told() -> None:
    # A step that no line follows, in few rows: isotonic is ahead, by less than it is charged.
    random = np.random.default_rng(5)
    logits = random.uniform(-6, 2, 2500)
    labels = (random.random(2500) < np.where(logits < -2, 0.03, 0.15)).astype(float)
    choice = chosen(logits, labels, methods=["platt", "isotonic"])
    scores = {score.method: score for score in choice.scores}
    assert scores["isotonic"].log_loss < scores["platt"].log_loss
    assert choice.method == "platt"
    rows = f"{labels.sum():,.0f} positive rows"
    assert "Isotonic has the smallest loss" in choice.reason
    assert rows in choice.reason


def test_many_rows_are_compared_on_a_sample() -> None:
    truth, labels = draw(9000)
    users = np.repeat(np.arange(1800), 5)
    choice = chosen(truth + 1, labels, groups=users, sample=3000, methods=["identity", "platt"])
    assert (choice.compared_rows, choice.rows, choice.method) == (3000, 9000, "platt")
    assert "It was compared on 3,000 random rows and fitted on all 9,000 rows." in choice.reason
    expected = CALIBRATORS["platt"]().fit(truth + 1, labels)
    assert (choice.calibrator(truth) == expected(truth)).all()
    # The rows are drawn anew by the seed, and the loss is that of all rows up to their noise.
    other = chosen(truth + 1, labels, groups=users, sample=3000, methods=["identity", "platt"], seed=1)
    assert other.scores != choice.scores
    every = chosen(truth + 1, labels, methods=["identity", "platt"])
    assert choice.scores[0].log_loss == pytest.approx(every.scores[0].log_loss, rel=0.05)
    assert chosen(truth, labels, sample=3000, methods=["identity", "platt"]).compared_rows == 3000
    with pytest.raises(ConfigError, match="at least 1000 rows"):
        chosen(truth, labels, sample=10)


def test_scores_are_cross_validated_log_losses() -> None:
    truth, labels = draw(3000)
    choice = chosen(2 * truth + 1, labels, methods=["identity", "platt"], folds=10)
    scores = {score.method: score for score in choice.scores}
    identity = sklearn.metrics.log_loss(labels, expit(2 * truth + 1))
    assert scores["identity"].log_loss == pytest.approx(identity, rel=1e-12)
    # Other folds than ours: equal up to the noise of which row is in which.
    predicted = cross_val_predict(
        LogisticRegression(C=np.inf), truth[:, None], labels, cv=10, method="predict_proba"
    )[:, 1]
    assert scores["platt"].log_loss == pytest.approx(sklearn.metrics.log_loss(labels, predicted), rel=2e-3)
    # The table of the difference: losses of the rows, paired.
    losses = [-(labels * np.log(p) + (1 - labels) * np.log(1 - p)) for p in (expit(2 * truth + 1), predicted)]
    error = np.std(losses[0] - losses[1]) / np.sqrt(3000)
    assert scores["identity"].standard_error == pytest.approx(error, rel=0.02)


def test_few_positives_rule_methods_out() -> None:
    logits, labels = draw(3000, base=-3.5, seed=1)
    assert 20 <= labels.sum() < 200
    choice = chosen(1.5 * logits + 1, labels)
    many = {name for name, kind in CALIBRATORS.items() if kind.minimum_positives == 200}
    assert set(choice.left_out) == many - {"binned-isotonic"} | {"temperature"}  # it makes PCOC wrong
    assert "needs 200 positive rows" in choice.left_out["isotonic"]
    logits, labels = draw(300, base=-4.5, seed=2)
    assert 0 < labels.sum() < 20
    with pytest.warns(CalibrationWarning, match=rf"only {labels.sum():.0f} positive rows"):
        choice = chosen(logits, labels)
    assert (choice.method, choice.scores, choice.folds) == ("identity", (), 0)
    with pytest.warns(CalibrationWarning, match="only 0 positive rows"):
        assert chosen(logits, np.zeros(300)).method == "identity"
    # It is the rarer label that counts.
    with pytest.warns(CalibrationWarning, match="negative rows"):
        assert chosen(-logits, 1 - labels).method == "identity"


def test_a_single_method_is_fitted_without_comparison() -> None:
    logits, labels = draw(3000)
    segments = np.arange(3000) % 3
    for name, kind in CALIBRATORS.items():
        if not (kind.learns or name == "identity"):
            with pytest.raises(ConfigError, match=f"'{name}' learns nothing from labels"):
                chosen(logits, labels, methods=[name])
            continue
        choice = chosen(logits, labels, methods=[name], segments=segments)
        assert type(choice.calibrator) is kind
        assert (choice.scores, choice.compared_rows) == ((), 0)
        expected = kind().fit(logits, labels, segments=segments)(logits, segments)
        assert (choice.calibrator(logits, segments) == expected).all()
    with pytest.warns(CalibrationWarning, match="isotonic needs 200"):
        assert chosen(*draw(300), methods=["isotonic"]).method == "isotonic"


def test_copies_do_not_buy_flexibility_when_grouped() -> None:
    truth, labels = draw(1500, base=-1.0)
    copies = np.repeat(np.arange(1500), 8)
    logits, labels = (1.02 * truth)[copies], labels[copies]
    # Copies of one row in several folds let isotonic memorise it.
    assert chosen(logits, labels).method == "isotonic"
    assert chosen(logits, labels, groups=copies).method == "identity"


def test_groups_that_cannot_be_divided() -> None:
    logits, labels = draw(400)
    with pytest.warns(CalibrationWarning, match="groups of one fold"):
        assert chosen(logits, labels, groups=np.zeros(400)).method == "identity"
    with pytest.warns(CalibrationWarning, match="groups of one fold"):
        assert chosen(logits, labels, groups=np.where(labels == 1, 0, np.arange(400))).method == "identity"
    assert chosen(logits, labels, groups=np.arange(400) % 3, methods=["identity", "platt"]).folds == 5


def test_the_seed_decides_the_folds() -> None:
    truth, labels = draw(2000)
    first, again, other = (chosen(truth, labels, seed=seed).scores for seed in (0, 0, 1))
    assert first == again != other


def test_to_dict_is_plain_data() -> None:
    choice = chosen(*draw(2000))
    assert json.loads(json.dumps(choice.to_dict())) == choice.to_dict()
    assert choice.to_dict()["rows"] == 2000
    assert choice.calibrator([logit(0.2)])[0] == pytest.approx(0.2)


def test_bad_settings_are_named() -> None:
    logits, labels = draw(100)
    with pytest.raises(ConfigError, match=r"unknown calibrator 'plat'.*Did you mean 'platt'"):
        choose(logits, labels, methods=["plat"])
    with pytest.raises(ConfigError, match="folds must be at least 2"):
        choose(logits, labels, folds=1)
    with pytest.raises(DataError, match="argument `groups`"):
        choose(logits, labels, groups=[1, 2])


def rare_clicks(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of rare clicks, over-confident but with nearly the right mean: PCOC is near 0.9."""
    random = np.random.default_rng(seed)
    truth = random.normal(-4.2, 0.5, rows)
    labels = (random.random(rows) < expit(truth)).astype(float)
    return -4.84 + 1.5 * (truth + 4.2) + random.normal(0, 0.9, rows), labels


@pytest.mark.slow
def test_what_cannot_set_the_mean_is_never_chosen_where_it_makes_pcoc_wrong() -> None:
    alone = []
    for seed in range(30):
        logits, labels = rare_clicks(3000 if seed % 2 else 20_000, seed)
        temperature = TemperatureScaling().fit(logits, labels)
        after = temperature(logits).mean() / labels.mean()
        alone.append(after)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)
            choice = choose(logits, labels, seed=seed)
        if not 0.9 <= after <= 1.1:
            assert choice.method != "temperature"
            assert choice.calibrator.sets_mean or choice.method == "identity"
    assert np.median(alone) > 1.2


def test_of_two_that_are_alike_in_log_loss_the_one_with_the_right_mean_is_chosen() -> None:
    """With few positives, the simpler temperature is within one standard error of Platt."""
    left_out = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        truth = random.normal(-2.0, 1.0, 250)
        labels = (random.random(250) < expit(truth)).astype(float)
        logits = truth + 0.45
        both = choose(logits, labels, methods=["temperature", "platt"], seed=seed)
        if "temperature" in both.left_out:
            left_out += 1
            assert both.left_out["temperature"].startswith("cannot set the mean probability: its cross-val")
            assert both.method == "platt"
        else:
            fold_free = TemperatureScaling().fit(logits, labels)(logits).mean() / labels.mean()
            assert 0.8 < fold_free < 1.25
    assert left_out >= 5
    # Alone it is used as asked, and two of its kind are compared.
    assert choose(logits, labels, methods=["temperature"]).method == "temperature"
    assert choose(logits, labels, methods=["identity", "temperature"]).left_out == {}


def test_pcoc_is_spoilt_outside_its_range_and_where_it_gets_worse() -> None:
    assert spoils_pcoc(0.89, 1.57)
    assert spoils_pcoc(0.5, 0.85)
    assert spoils_pcoc(1.0, 1.06)
    assert not spoils_pcoc(1.0, 1.04)
    assert not spoils_pcoc(1.3, 1.09)
