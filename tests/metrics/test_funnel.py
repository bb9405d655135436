"""Funnel metrics against scikit-learn on the rows where each task can happen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from ctrkit.errors import DataError
from ctrkit.metrics.funnel import TaskQuality, funnel


def log() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    p_click, p_conversion = random.beta(2, 8, 4000), random.beta(2, 5, 4000)
    click = random.random(4000) < p_click
    conversion = click & (random.random(4000) < p_conversion)
    return click.astype(int), p_click, conversion.astype(int), p_conversion, random.integers(0, 3, 4000)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_task_equals_scikit_learn_on_its_rows(weighted: bool) -> None:
    click, p_click, conversion, p_conversion, weight = log()
    found = funnel(click, p_click, conversion, p_conversion, weight if weighted else None)
    mass = weight if weighted else np.ones(4000)
    clicked = click == 1
    for quality, y, p, w in (
        (found.ctr, click, p_click, mass),
        (found.cvr, conversion[clicked], p_conversion[clicked], mass[clicked]),
        (found.ctcvr, conversion, p_click * p_conversion, mass),
    ):
        assert quality.auc == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
        assert quality.log_loss == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-12)
        assert quality.pcoc == pytest.approx(np.average(p, weights=w) / np.average(y, weights=w), rel=1e-12)
        assert (quality.rows, quality.positives) == (np.sum(w > 0), y[w > 0].sum())


def test_conversion_probabilities_of_unclicked_rows_matter_to_ctcvr_alone() -> None:
    click, p_click, conversion, p_conversion, _ = log()
    changed = np.where(click == 1, p_conversion, 1 - p_conversion)
    before = funnel(click, p_click, conversion, p_conversion)
    after = funnel(click, p_click, conversion, changed)
    assert (after.ctr, after.cvr) == (before.ctr, before.cvr)
    assert after.ctcvr.pcoc != pytest.approx(before.ctcvr.pcoc, rel=0.1)


def test_what_is_undefined_is_none() -> None:
    found = funnel([0, 0], [0.5, 0.5], [0, 0], [0.1, 0.1])
    assert found.cvr == TaskQuality(None, None, None, 0, 0)
    assert (found.ctr.auc, found.ctr.pcoc) == (None, None)
    assert found.ctr.log_loss == pytest.approx(np.log(2))
    assert found.to_dict()["ctcvr"]["rows"] == 2


def test_bad_input() -> None:
    with pytest.raises(DataError, match=r"argument `conversion`, row index 1.*without a click"):
        funnel([1, 0], [0.5, 0.5], [0, 1], [0.1, 0.1])
    with pytest.raises(DataError, match="2 rows of clicks and 1 of conversions"):
        funnel([1, 0], [0.5, 0.5], [0], [0.1])
    with pytest.raises(DataError, match=r"argument `probabilities`, row index 1"):
        funnel([1, 0], [0.5, 0.5], [0, 0], [0.1, 1.1])
