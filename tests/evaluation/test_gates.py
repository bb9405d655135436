"""Thresholds: what breaks them and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ctrkit.errors import ConfigError
from ctrkit.evaluation import MetricGate, check_gates
from ctrkit.evaluation.gates import need_known
from ctrkit.metrics import MetricInterval

ends = st.floats(-5, 5)


def around(value: float, half: float) -> MetricInterval:
    return MetricInterval(value, value - half, value + half, 0.95, "linearised")


@given(ends, st.floats(0, 2), ends, ends, st.booleans())
def test_a_gate_holds_where_the_definition_says(
    value: float, half: float, first: float, second: float, noise: bool
) -> None:
    low, high = sorted((first, second))
    (outcome,) = check_gates(
        {"m": MetricGate(minimum=low, maximum=high, beyond_noise=noise)}, {"m": around(value, half)}
    )
    inside = low <= value <= high
    overlaps = value - half <= high and value + half >= low
    assert outcome.held == (overlaps if noise else inside)


def test_what_was_not_measured_breaks_its_gate() -> None:
    for value in (None, float("nan"), float("inf")):
        (outcome,) = check_gates({"auc": MetricGate(minimum=0.1)}, {"auc": value})
        assert not outcome.held
        assert outcome.reason == "auc could not be measured on these rows"
    assert not check_gates({"auc": MetricGate(minimum=0.1)}, {})[0].held


def test_a_broken_gate_names_value_and_threshold() -> None:
    gates = {"auc": MetricGate(minimum=0.6), "psi": MetricGate(maximum=0.25)}
    first, second = check_gates(gates, {"auc": around(0.55, 0.01), "psi": 0.3})
    assert first.reason == "auc is 0.55 [0.54, 0.56], below its minimum of 0.6"
    assert second.reason == "psi is 0.3, above its maximum of 0.25"


def test_gates_need_an_end_in_order_and_a_known_metric() -> None:
    for wrong in ({}, {"minimum": 2.0, "maximum": 1.0}):
        with pytest.raises(ValidationError):
            MetricGate(**wrong)
    with pytest.raises(ConfigError, match=r"there is no metric 'acu'\. Did you mean 'auc'"):
        need_known(["acu"], ["auc", "pcoc"])
