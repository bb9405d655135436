"""Calibration over the entire space: a market where clicked rows mislead, with known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from ctrkit.calibration import (
    EntireSpaceCalibration,
    FieldAware,
    IsotonicRegression,
    OnlineRecalibration,
    PlattScaling,
    joint_logits,
)
from ctrkit.errors import ArtifactError, DataError, RunError
from ctrkit.metrics import pcoc


def market(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Impressions where something that no model sees moves clicks and conversions the same way."""
    random = np.random.default_rng(seed)
    seen, unseen = random.normal(size=(2, rows))
    click, conversion = expit(-2 + seen + unseen), expit(-2 + 0.5 * seen + unseen)
    clicked = random.random(rows) < click
    converted = clicked & (random.random(rows) < conversion)
    return {
        "click_logit": -1.7 + 0.9 * seen,
        "conversion_logit": -1.0 + 0.8 * seen,
        "clicked": clicked.astype(float),
        "converted": converted.astype(float),
        "joint": click * conversion,
        "conversion": conversion,
    }


@pytest.mark.slow
def test_mends_the_bias_of_clicked_rows() -> None:
    fit, judge = market(300_000, 0), market(300_000, 1)
    click = PlattScaling().fit(fit["click_logit"], fit["clicked"])
    clicked = fit["clicked"] == 1
    on_clicks = PlattScaling().fit(fit["conversion_logit"][clicked], fit["converted"][clicked])
    # Both factors are calibrated by themselves; over impressions, the conditional is far too high.
    p_click = click(judge["click_logit"])
    naive = on_clicks(judge["conversion_logit"])
    assert pcoc(judge["clicked"], p_click) == pytest.approx(1, abs=0.02)
    rows = judge["clicked"] == 1
    assert pcoc(judge["converted"][rows], naive[rows]) == pytest.approx(1, abs=0.03)
    assert naive.mean() > 1.3 * judge["conversion"].mean()

    def logits(table: dict[str, np.ndarray]) -> np.ndarray:
        return joint_logits(click(table["click_logit"]), on_clicks(table["conversion_logit"]))

    # A click model that is off where conversions are frequent: the product is wrong, the joint is not.
    def flat(table: dict[str, np.ndarray]) -> np.ndarray:
        return np.full(len(table["clicked"]), fit["clicked"].mean())

    entire = EntireSpaceCalibration().fit(
        joint_logits(flat(fit), on_clicks(fit["conversion_logit"])), fit["converted"]
    )
    z = joint_logits(flat(judge), on_clicks(judge["conversion_logit"]))
    assert pcoc(judge["converted"], flat(judge) * naive) < 0.9
    assert pcoc(judge["converted"], entire.joint(z)) == pytest.approx(1, abs=0.04)
    conditional = entire.conditional(z, flat(judge))
    assert flat(judge) * conditional == pytest.approx(np.minimum(flat(judge), entire.joint(z)), rel=1e-12)
    assert pcoc(judge["converted"], flat(judge) * conditional) == pytest.approx(1, abs=0.04)
    # With the better click model it agrees as well.
    better = EntireSpaceCalibration(IsotonicRegression()).fit(logits(fit), fit["converted"])
    assert pcoc(judge["converted"], better.joint(logits(judge))) == pytest.approx(1, abs=0.04)


def test_joint_logits_are_those_of_the_product() -> None:
    click, conversion = np.array([0.2, 0.5, 1e-9, 1.0]), np.array([0.1, 1.0, 1e-8, 1.0])
    assert joint_logits(click, conversion)[:3] == pytest.approx(logit(click * conversion)[:3], rel=1e-9)
    assert np.isfinite(joint_logits([0.0, 1.0], [0.5, 1.0])).all()
    with pytest.raises(DataError, match=r"argument `conversion`, row index 1.*must be in \[0, 1\]"):
        joint_logits([0.1, 0.2], [0.1, 1.2])
    with pytest.raises(DataError, match="click has the shape"):
        joint_logits([0.1, 0.2], [0.1])


def test_the_conditional_is_at_most_1_and_needs_clicks_to_be_possible() -> None:
    z = np.linspace(-4, 4, 200)
    entire = EntireSpaceCalibration().fit(z, np.random.default_rng(0).random(200) < expit(z))
    assert entire.conditional([3.0], [0.001]) == pytest.approx([1.0])
    assert entire.conditional(3.0, 0.9).shape == ()
    with pytest.raises(DataError, match=r"argument `click`, row index 1.*p\(click\) is 0"):
        entire.conditional([0.0, 0.0], [0.5, 0.0])
    with pytest.raises(DataError, match="click has"):
        entire.conditional([0.0, 0.0], [0.5])
    with pytest.raises(RunError, match="not fitted"):
        EntireSpaceCalibration().joint([0.0])


def test_state_round_trip_and_damage() -> None:
    random = np.random.default_rng(3)
    z, segments = random.normal(size=900), np.arange(900) % 3
    fitted = EntireSpaceCalibration(FieldAware()).fit(z, random.random(900) < expit(z), None, segments)
    state = fitted.state()
    restored = EntireSpaceCalibration.from_state(json.loads(json.dumps(state, default=lambda a: a.tolist())))
    assert (restored.joint(z, segments) == fitted.joint(z, segments)).all()
    with pytest.raises(ArtifactError, match="was read as"):
        EntireSpaceCalibration.from_state({**state, "name": "platt"})
    for wrong in ({k: v for k, v in state.items() if k != "inner"}, {**state, "inner": "no such"}):
        with pytest.raises(ArtifactError, match="damaged"):
            EntireSpaceCalibration.from_state(wrong)


def test_a_joint_probability_is_not_held_up_by_a_floor() -> None:
    # Slope 1 and intercept 0: the joint probabilities are right as they are, and rare.
    right = PlattScaling.from_state({"name": "platt", "slope": 1.0, "intercept": 0.0})
    rare = np.exp(np.random.default_rng(0).normal(np.log(1e-7) - 2, 2, 100_000))
    z = np.log(rare) - np.log1p(-rare)
    assert EntireSpaceCalibration(right).joint(z).mean() == pytest.approx(rare.mean(), rel=1e-9)
    online = OnlineRecalibration(right)
    assert EntireSpaceCalibration(online).joint(z).mean() == pytest.approx(rare.mean(), rel=1e-9)
