"""The table of calibration metrics."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from ctrkit import metrics
from ctrkit.calibration import PlattScaling, assess
from ctrkit.errors import DataError


def test_every_value_is_its_metric() -> None:
    random = np.random.default_rng(0)
    probabilities = random.beta(1, 20, 4000)
    labels, users = random.random(4000) < probabilities, random.integers(0, 500, 4000)
    summary = assess(labels, probabilities, users, confidence=0.9)
    assert (summary.rows, summary.positives) == (4000, labels.sum())
    assert summary.ece == metrics.ece(labels, probabilities)
    assert summary.mce == metrics.mce(labels, probabilities)
    assert summary.debiased_ece.value == metrics.debiased_ece(labels, probabilities, groups=users)
    for name in ("pcoc", "brier", "normalized_entropy", "log_loss"):
        found = getattr(summary, name)
        assert found == metrics.interval(getattr(metrics, name), labels, probabilities, users, confidence=0.9)
        assert found.low < found.value < found.high
    table = summary.to_dict()
    assert json.loads(json.dumps(table)) == table
    assert table["pcoc"]["low"] == summary.pcoc.low


def test_before_and_after_calibration() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(-3, 1, 40_000)
    labels = random.random(40_000) < expit(truth)
    logits = 1.5 * truth + 2  # predicts too high
    calibrator = PlattScaling().fit(logits[:20_000], labels[:20_000])
    held_out = slice(20_000, None)
    before = assess(labels[held_out], expit(logits[held_out]))
    after = assess(labels[held_out], calibrator(logits[held_out]))
    assert before.pcoc.low > 1
    assert before.debiased_ece.low > 0.01
    assert after.pcoc.low < 1 < after.pcoc.high
    assert after.debiased_ece.low == 0
    assert after.ece < 0.3 * before.ece
    assert after.log_loss.value < before.log_loss.low


def test_one_class_cannot_be_assessed() -> None:
    with pytest.raises(DataError, match="at least one positive"):
        assess([0, 0, 0], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="no negative"):
        assess(np.ones(60), np.full(60, 0.9))
