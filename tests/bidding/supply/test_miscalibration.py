"""Other sights of the same auctions: the logit map, the truth, and scikit-learn's logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from ctrkit.bidding import Auctions
from ctrkit.bidding.supply import miscalibrated, recalibrated_in_hindsight, truthful_sight
from ctrkit.errors import ConfigError, DataError

Log = Callable[..., Auctions]
Content = Callable[[Auctions], dict[str, object]]


@pytest.mark.parametrize("known", ["both", "click probability", "value", "nothing"])
def test_maps_the_logit_and_leaves_the_judgement(full_log: Log, content: Content, known: str) -> None:
    log = full_log(500)
    if known in ("value", "nothing"):
        log = replace(log, true_click_probability=None)
    if known in ("click probability", "nothing"):
        log = replace(log, true_value=None)
    pctr = np.clip(log.click_probability, 1e-6, 0.999)
    pctr[0] = 0.0, 1.0
    log = replace(log, click_probability=pctr)
    (found,) = miscalibrated([log], 1.4, -0.3)
    odds = (pctr[1:] / (1 - pctr[1:])) ** 1.4 * np.exp(-0.3)
    np.testing.assert_allclose(found.click_probability[1:], odds / (1 + odds), rtol=1e-12)
    np.testing.assert_array_equal(found.click_probability[0], [0.0, 1.0])
    np.testing.assert_array_equal(found.expected_value, log.expected_value)
    unmoved = replace(found, click_probability=pctr, true_click_probability=log.true_click_probability)
    assert content(unmoved) == content(log)


def test_no_scale_and_no_shift_is_no_change(full_log: Log) -> None:
    log = full_log(500)
    (found,) = miscalibrated([log])
    np.testing.assert_allclose(found.click_probability, log.click_probability, rtol=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_refuses_settings_at_once(scale: float, shift: float) -> None:
    with pytest.raises(ConfigError, match="miscalibration"):
        miscalibrated([], scale, shift)


def test_truthful_sight_sees_the_truth(full_log: Log, content: Content) -> None:
    log = full_log(200)
    (found,) = truthful_sight([log])
    np.testing.assert_array_equal(found.click_probability, log.true_click_probability)
    assert content(replace(found, click_probability=log.click_probability)) == content(log)
    blind = replace(log, true_click_probability=None)
    (same,) = truthful_sight([blind])
    assert content(same) == content(blind)


def test_recalibration_is_logistic_regression(full_log: Log, content: Content) -> None:
    log = full_log(700, ads=2)
    pctr = log.click_probability.copy()
    pctr[::7, 1] = 0.0  # no such candidate
    log = replace(log, click_probability=pctr)
    found = recalibrated_in_hindsight(log)
    there = pctr > 0
    x, y = logit(pctr[there])[:, None], log.click[there]
    twin = LogisticRegression(C=np.inf, tol=1e-10).fit(x, y)
    np.testing.assert_allclose(found.click_probability[there], twin.predict_proba(x)[:, 1], rtol=1e-5)
    assert not found.click_probability[~there].any()
    assert content(replace(found, click_probability=pctr)) == content(log)


def test_recalibration_undoes_miscalibration(
    full_log: Log, gathered: Callable[[Iterable[Auctions]], Auctions]
) -> None:
    log = gathered(truthful_sight([full_log(30_000, ads=1)]))
    (askew,) = miscalibrated([log], 2.0, 1.0)
    np.testing.assert_allclose(askew.click_probability, expit(2 * logit(log.click_probability) + 1))
    mended = recalibrated_in_hindsight(askew)

    def loss(auctions: Auctions) -> float:
        return float(((auctions.click_probability - log.true_click_probability) ** 2).mean())

    assert loss(mended) < 0.05 * loss(askew)


def test_recalibration_needs_clicks(full_log: Log) -> None:
    with pytest.raises(DataError, match="column 'click'"):
        recalibrated_in_hindsight(replace(full_log(50), click=None))
    with pytest.raises(DataError):
        recalibrated_in_hindsight(replace(full_log(50), click=np.zeros((50, 2))))
