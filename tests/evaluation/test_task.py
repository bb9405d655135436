"""A whole task: what is measured agrees with the metrics themselves, and noise is taken for noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ctrkit.errors import DataError
from ctrkit.evaluation import MEASURES, EvaluationSettings, LabelledRows, by_fields, evaluate_task
from ctrkit.evaluation.fields import FALSE_DISCOVERY_RATE
from ctrkit.metrics import MetricInterval

SETTINGS = EvaluationSettings(draws=20)


def test_values_are_those_of_scikit_learn_and_differences_are_theirs(
    true_rows: Callable[..., LabelledRows],
) -> None:
    rows = true_rows(4000)
    found = evaluate_task("click", rows, None, SETTINGS)
    assert found.other is not None
    assert set(found.measured.intervals) == {one.name for one in MEASURES}
    assert rows.other is not None
    y, p, q = rows.labels, rows.model.probabilities, rows.other.probabilities
    for name, metric in {"auc": roc_auc_score, "log_loss": log_loss, "brier": brier_score_loss}.items():
        first, second, apart = (
            found.measured.intervals[name], found.other.intervals[name], found.differences[name],
        )  # fmt: skip
        assert first is not None
        assert second is not None
        assert apart is not None
        assert first.value == pytest.approx(metric(y, p))
        assert second.value == pytest.approx(metric(y, q))
        assert apart.interval.value == pytest.approx(metric(y, p) - metric(y, q))
        assert 0 <= apart.p_value < 0.001  # the other model is the first with noise


def test_every_interval_holds_its_ends_in_order_and_json_takes_all(
    true_rows: Callable[..., LabelledRows],
) -> None:
    found = evaluate_task("click", true_rows(2000), None, SETTINGS)
    assert all(one is not None and one.low <= one.high for one in found.measured.intervals.values())
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"] == 2000


def test_a_model_against_itself_does_not_differ(true_rows: Callable[..., LabelledRows]) -> None:
    rows = true_rows(2000)
    found = evaluate_task("click", replace(rows, other=rows.model), None, SETTINGS)
    differences = [one for one in found.differences.values() if one is not None]
    assert len(differences) > 5
    assert all((one.interval.value, one.p_value) == (0.0, 1.0) for one in differences)


def test_without_groups_what_needs_them_is_told_of(true_rows: Callable[..., LabelledRows]) -> None:
    rows = replace(true_rows(2000), groups=None, other=None)
    found = evaluate_task("click", rows, None, SETTINGS)
    assert found.measured.intervals["gauc"] is None
    assert "groups" in found.measured.reasons["gauc"]
    assert found.to_dict()["against"] is None


def test_one_class_is_refused(true_rows: Callable[..., LabelledRows]) -> None:
    rows = true_rows(500)
    with pytest.raises(DataError, match="an evaluation of 'click' needs rows of both classes"):
        evaluate_task("click", replace(rows, labels=np.zeros(500)), None, SETTINGS)


@pytest.mark.slow
def test_few_of_many_right_segments_are_called_wrong() -> None:
    # 200 markets with 6 fields of true probabilities: a call in 5 % of the markets, where one looks at each.
    rng = np.random.default_rng(3)
    called = 0
    for _ in range(100):
        p = rng.uniform(0.05, 0.4, 2000)
        y = (rng.random(2000) < p).astype(float)
        fields = {f"f{i}": rng.integers(0, 4, 2000).astype(str) for i in range(6)}
        found = by_fields(y, p, fields, minimum_rows=50)
        called += any(one.beyond_noise for report in found.values() for one in report.values)
    assert called <= 12  # binomial: above with probability 0.1 %


def test_a_wrong_segment_is_found_and_its_pcoc_measured(true_rows: Callable[..., LabelledRows]) -> None:
    rows = true_rows(20_000, factor=1.5)
    (report,) = by_fields(rows.labels, rows.model.probabilities, rows.fields, rows.groups).values()
    wrong = {one.value: one for one in report.values if one.beyond_noise}
    assert set(wrong) == {"b"}
    held: MetricInterval = wrong["b"].pcoc
    here = rows.fields["place"] == "b"
    assert held.value == pytest.approx(rows.model.probabilities[here].sum() / rows.labels[here].sum())
    assert wrong["b"].adjusted_p_value <= FALSE_DISCOVERY_RATE
    gaps = [
        abs((rows.labels - rows.model.probabilities)[rows.fields["place"] == value].sum()) for value in "abc"
    ]
    assert report.ece == pytest.approx(sum(gaps) / 20_000)
