"""Every verdict, and every doubt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ctrkit.ope import ConfidenceInterval, Diagnostics, Estimate
from ctrkit.ope.diagnostics.checks import Check, checks_of
from ctrkit.ope.diagnostics.overlap import MeanCheck
from ctrkit.ope.diagnostics.timeline_results import MeanDrift, RunningEstimate
from ctrkit.ope.diagnostics.verdict import PolicyVerdict, deciding, judge

SOUND = Diagnostics(
    rows=10_000,
    positives=200,
    effective_sample_size=3000.0,
    mean_weight=0.99,
    mean_weight_z=-1.0,
    max_weight=20.0,
    top_share=0.1,
    unsupported_share=0.0,
)


def estimate(low: float, high: float, name: str = "snips", value: float = 0.02) -> Estimate:
    return Estimate(
        name, value, ConfidenceInterval(0, 1, ""), (low + high) / 2, ConfidenceInterval(low, high, "")
    )


def verdict_of(
    estimates: dict[str, Estimate],
    diagnostics: Diagnostics = SOUND,
    reward_range: tuple[float, float] | None = (0, 1),
    **given: Any,
) -> PolicyVerdict:
    decisive = deciding(estimates)
    return judge(decisive, checks_of(diagnostics, decisive, reward_range, **given), diagnostics)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.01, "better"),
        (-0.01, -0.001, "worse"),
        (-0.01, 0.01, "cannot tell"),
        (0, 0.01, "cannot tell"),
    ],
)
def test_difference_decides(low: float, high: float, verdict: str) -> None:
    assert verdict_of({"snips": estimate(low, high)}, SOUND, (0, 1)).verdict == verdict


def test_rounding_is_no_difference() -> None:
    found = verdict_of({"snips": estimate(-2.8e-10, -1e-16)}, SOUND, (0, 1))
    assert found.verdict == "cannot tell"
    assert "makes the same choices as the logging policy" in found.reason


def test_doubly_robust_goes_before_snips_and_dm_never_decides() -> None:
    better, worse = estimate(0.1, 0.2, "dr"), estimate(-0.2, -0.1)
    assert verdict_of({"snips": worse, "dr": better}, SOUND, (0, 1)).verdict == "better"
    found = verdict_of({"dm": estimate(0.1, 0.2, "dm")}, SOUND, (0, 1))
    assert found.verdict == "cannot tell"
    assert "bounds its own error" in found.reason


@pytest.mark.parametrize(
    ("diagnostics", "reason"),
    [
        (replace(SOUND, effective_sample_size=2.1), "effective sample size is 2.1 of 10000 rows"),
        (replace(SOUND, mean_weight=0.7, mean_weight_z=-9.0), "mean weight is 0.7, 9.0 standard errors"),
        (replace(SOUND, positives=9), "only 9 rows have a reward"),
        (replace(SOUND, unsupported_share=0.2), "20.0% of the policy's choices"),
    ],
)
def test_doubts_come_before_the_difference(diagnostics: Diagnostics, reason: str) -> None:
    found = verdict_of({"snips": estimate(0.1, 0.2)}, diagnostics, (0, 1))
    assert found.verdict == "do not trust"
    assert reason in found.reason


def test_a_negative_click_rate_is_not_to_be_trusted() -> None:
    dr = estimate(-0.2, -0.1, "dr", value=-0.0035)
    found = verdict_of({"dr": dr}, SOUND, (0, 1))
    assert found.verdict == "do not trust"
    assert "the estimate of dr, -0.0035, is outside" in found.reason
    # A reward without a known range may be negative.
    assert verdict_of({"dr": dr}, SOUND, None).verdict == "worse"


@pytest.mark.parametrize(
    "diagnostics",
    [
        replace(SOUND, mean_weight_z=-2.2, mean_weight=0.953),
        replace(SOUND, mean_weight_z=8.0, mean_weight=1.001),
        replace(SOUND, unsupported_share=None),
        replace(SOUND, unsupported_share=0.04),
    ],
)
def test_small_faults_are_no_doubts(diagnostics: Diagnostics) -> None:
    assert verdict_of({"snips": estimate(0.1, 0.2)}, diagnostics, (0, 1)).verdict == "better"


@pytest.mark.parametrize(("value", "low", "high", "trusted"), [
    (0.02, 0.01, 0.03, True), (0.031, 0.01, 0.03, False), (0.02, 0.021, 0.019, False)
])  # fmt: skip
def test_an_estimate_outside_its_own_bounds_over_time_is_not_trusted(
    value: float, low: float, high: float, trusted: bool
) -> None:
    ends = np.array([0.0, low]), np.array([1.0, high])
    running = RunningEstimate(
        np.arange(2.0), np.array([10.0, 20.0]), np.array([0.9, value]), *ends, "", low > high
    )
    found = verdict_of({"snips": estimate(0.001, 0.01)}, SOUND, (0, 1), running=running)
    assert found.verdict == ("better" if trusted else "do not trust")
    assert trusted or "has left the bounds that hold at all times" in found.reason


def test_an_estimate_outside_its_own_interval_is_not_trusted() -> None:
    whole = estimate(0.001, 0.01)
    outside = replace(whole, interval=replace(whole.interval, missed=True))
    apart = replace(whole, difference_interval=replace(whole.difference_interval, missed=True))
    assert "the value estimated by snips, 0.02, is outside" in verdict_of({"snips": outside}).reason
    assert "the difference estimated by snips, 0.0055, is outside" in verdict_of({"snips": apart}).reason
    # Plain ips may be by chance, as it does not use the mean weight.
    assert verdict_of({"ips": replace(outside, estimator="ips")}).verdict == "better"


@pytest.mark.parametrize(
    ("mean", "z", "trusted"),
    [(0.021, 8.0, False), (-0.021, -8.0, False), (0.021, 3.9, True), (0.019, 8.0, True)],
)
def test_a_reward_model_that_contradicts_the_weights_is_a_doubt(mean: float, z: float, trusted: bool) -> None:
    residual = MeanCheck(mean, abs(mean / z), z, 0.02)
    found = verdict_of({"dr": estimate(0.001, 0.01, "dr")}, residual=residual)
    assert found.verdict == ("better" if trusted else "do not trust")
    assert trusted or "weights and reward model contradict each other" in found.reason


@pytest.mark.parametrize(
    ("least", "p_value", "trusted"), [(0.9, 0.01, True), (0.9, 1e-6, False), (0.99, 1e-9, True)]
)
def test_a_mean_weight_that_drifts_is_a_doubt(least: float, p_value: float, trusted: bool) -> None:
    found = verdict_of({"snips": estimate(0.001, 0.01)}, drift=MeanDrift(least, 1.005, p_value))
    assert found.verdict == ("better" if trusted else "do not trust")
    assert trusted or "in one period and 1.005 in another" in found.reason


def test_a_number_that_is_only_shown_says_so() -> None:
    dr = estimate(0.001, 0.01, "dr")
    checks = checks_of(SOUND, dr, (0, 1), tail=0.9)
    assert judge(dr, checks, SOUND).verdict == "better"
    assert [one.expected for one in checks if "tail" in one.what] == ["below 0.7 (only shown)"]


def test_every_doubt_enters_the_verdict_whatever_it_is_of() -> None:
    own = Check("a number", 3.0, "0", "the number is wrong")
    found = judge(estimate(0.001, 0.01), [Check("rows", 5.0), own], SOUND)
    assert (found.verdict, found.reason) == ("do not trust", "the number is wrong")
