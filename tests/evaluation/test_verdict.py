"""The rules of the verdict, each alone, and on rows whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from ctrkit.evaluation import Drift, EvaluationSettings, FitRules, LabelledRows, Leak, evaluate_task, judge
from ctrkit.evaluation.unknown import UnknownShare
from ctrkit.evaluation.verdict import FieldSegment
from ctrkit.metrics import MetricInterval


def between(low: float, high: float) -> MetricInterval:
    return MetricInterval((low + high) / 2, low, high, 0.95, "linearised")


RIGHT, BETTER = between(0.97, 1.03), between(0.8, 0.9)
DRIFTED = Drift("hour", 0.4, 0.01, "drifted", "12", 0.1, 0.3)
WRONG = FieldSegment("device", "tablet", 0.2, between(1.3, 1.5), True)


def decided(**changes: object) -> str:
    given = {
        "positives": 500,
        "pcoc": RIGHT,
        "normalized_entropy": BETTER,
        "segments": [],
        "drifts": [],
        "rules": FitRules(),
    } | changes
    return judge("click", **given).decision  # type: ignore[arg-type]


def test_each_rule_decides() -> None:
    assert decided() == "fit"
    assert decided(pcoc=between(1.2, 1.3)) == "not fit"
    assert decided(pcoc=between(0.5, 0.8)) == "not fit"
    assert decided(pcoc=between(0.8, 1.05)) == "cannot tell"
    assert decided(pcoc=None) == "cannot tell"
    assert decided(normalized_entropy=between(1.01, 1.1)) == "not fit"
    assert decided(normalized_entropy=between(0.9, 1.1)) == "cannot tell"
    assert decided(segments=[WRONG]) == "fit with limits"
    assert decided(drifts=[DRIFTED]) == "fit with limits"
    assert decided(drifts=None) == "fit"
    assert decided(positives=19, pcoc=between(1.2, 1.3)) == "cannot tell"
    assert decided(pcoc=between(1.2, 1.3), segments=[WRONG], drifts=[DRIFTED]) == "not fit"


def test_what_is_too_good_to_be_true_is_not_called_fit() -> None:
    assert decided(auc=between(0.8, 0.995)) == "fit"
    assert decided(auc=between(0.995, 0.999)) == "cannot tell"
    leak = Leak("seconds", "click", 0.9991)
    assert decided(leaks=[leak]) == "cannot tell"
    assert decided(leaks=[leak], pcoc=between(1.2, 1.3)) == "not fit"
    said = judge("click", 500, RIGHT, BETTER, [], [], FitRules(), leaks=[leak]).sentence
    assert "'seconds' alone predicts click with an AUC of 0.9991" in said


def test_rows_that_the_model_was_trained_on_do_not_call_it_fit() -> None:
    assert decided(seen=0.3) == "cannot tell"
    assert decided(seen=0.3, pcoc=between(1.2, 1.3)) == "not fit"


def unknown(evaluated: float, training: float | None = 0.0, *, item: bool = True) -> UnknownShare:
    return UnknownShare("ad", training, evaluated, item, "train on newer rows")


def test_a_model_that_does_not_know_the_items_of_nearly_all_rows_is_not_called_fit() -> None:
    assert decided(unknown=[unknown(0.79)]) == "fit"
    assert decided(unknown=[unknown(0.8)]) == "cannot tell"
    assert decided(unknown=[unknown(0.8, None)]) == "cannot tell"
    assert decided(unknown=[unknown(0.8)], pcoc=between(1.2, 1.3)) == "not fit"
    assert decided(unknown=[unknown(0.95)], rules=FitRules(unknown_items=1.0)) == "fit"
    assert decided(unknown=[unknown(0.99, item=False)]) == "fit"
    # Trained on rows with as many unknown items, it is judged as it was trained.
    assert decided(unknown=[unknown(0.95, 0.94)]) == "fit"
    assert decided(unknown=[unknown(0.98, 0.94)]) == "cannot tell"
    said = judge("click", 500, RIGHT, BETTER, [], [], FitRules(), unknown=[unknown(0.98)]).sentence
    assert "98% of the ids in 'ad' are unknown to the model (in training 0%)" in said
    assert "If they are new, train on newer rows." in said


def test_small_segments_noise_and_small_gaps_do_not_count() -> None:
    small = FieldSegment("device", "tablet", 0.01, between(1.3, 1.5), True)
    noise = FieldSegment("device", "tablet", 0.2, between(0.9, 1.9), False)
    near = FieldSegment("device", "tablet", 0.2, between(1.04, 1.06), True)
    assert decided(segments=[small, noise, near]) == "fit"
    assert decided(segments=[small], rules=FitRules(large_segment=0.005)) == "fit with limits"


def test_sentences_say_what_and_where() -> None:
    said = judge("click", 500, RIGHT, BETTER, [WRONG], [DRIFTED], FitRules()).sentence
    assert said == (
        "click: fit to bid on, with limits. Do not bid where device is tablet (20.0% of rows): bids would"
        " be 40% too high, PCOC 1.4 [1.3, 1.5]. hour has drifted since training (PSI 0.40): '12' went from"
        " 10.0% to 30.0% of rows."
    )
    passed = judge("click", 500, RIGHT, BETTER, [], [], FitRules()).sentence
    assert "Predictions are right on average: PCOC 1 [0.97, 1.03]." in passed
    wrong = judge("click", 500, between(0.5, 0.7), BETTER, [], [], FitRules()).sentence
    assert "Bids would be 40% too low" in wrong


def test_bounds_of_pcoc_stand_around_one() -> None:
    for wrong in ((1.1, 1.2), (0.0, 1.1), (0.8, 0.9)):
        with pytest.raises(ValidationError):
            FitRules(pcoc=wrong)


@pytest.mark.slow
def test_true_probabilities_are_fit_and_spoilt_ones_are_not(true_rows: Callable[..., LabelledRows]) -> None:
    settings = EvaluationSettings(draws=20)
    fit = evaluate_task("click", true_rows(), None, settings).verdict
    assert fit.decision == "fit"
    limited = evaluate_task("click", true_rows(factor=1.25), None, settings.model_copy(
        update={"fit": FitRules(pcoc=(0.8, 1.25))})).verdict  # fmt: skip
    assert limited.decision == "fit with limits"
    assert "Do not bid where place is b" in limited.sentence
    assert "place is a" not in limited.sentence
    assert evaluate_task("click", true_rows(whole=1.4), None, settings).verdict.decision == "not fit"
    assert evaluate_task("click", true_rows(n=300), None, settings).verdict.decision == "cannot tell"
