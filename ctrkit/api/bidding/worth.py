"""What the values of a simulation rest on: the truth, predictions, or the outcomes in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ctrkit.arrays import Floats
from ctrkit.bidding import Auctions, SimulationResult
from ctrkit.calibration.choose import PCOC_RANGE
from ctrkit.errors import DataError
from ctrkit.metrics import MetricInterval, interval, pcoc, value_interval, value_pcoc
from ctrkit.reports.cells import text

Basis: TypeAlias = Literal["truth", "prediction", "outcomes"]


@dataclass(frozen=True)
class ValueBasis:
    """What the values of a simulation rest on.

    Attributes:
        basis: `truth` where the true click probabilities are known; `outcomes` where the log's clicks or
            money contradict the predictions, so that strategies are compared by what they earned; else
            `prediction`.
        pcoc: predicted clicks over clicks, of all auctions; None without clicks, or with the truth.
        value_pcoc: expected money over earned money, of all auctions; None where values count clicks.
        in_money: whether values are money that the log knows, not clicks.
    """

    basis: Basis
    pcoc: MetricInterval | None = None
    value_pcoc: MetricInterval | None = None
    in_money: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        found = {"pcoc": self.pcoc, "value_pcoc": self.value_pcoc}
        return {
            "basis": self.basis,
            **{name: None if one is None else one.to_dict() for name, one in found.items()},
        }

    @property
    def warning(self) -> str | None:
        """A sentence where the log's outcomes contradict the predictions."""
        if self.basis != "outcomes":
            return None
        name, found = ("clicks", self.pcoc) if _is_wrong(self.pcoc) else ("earnings", self.value_pcoc)
        assert found is not None
        wrong = f"{found.value - 1:.0%} too high" if found.value > 1 else f"{1 - found.value:.0%} too low"
        return (
            f"The predicted {name} are {wrong}: PCOC is {text(found)} on this log, so expected values and"
            " bids are wrong too. Calibrate the predictions first."
        )

    @property
    def says(self) -> str:
        """What the compared values are, for the end of a sentence."""
        if self.basis == "truth":
            return "by the true probabilities"
        if self.pcoc is None:
            return "by the predictions alone, as the log has no clicks to check them"
        return f"by predictions whose PCOC is {text(self.pcoc)} on this log"

    def best(self, simulation: SimulationResult) -> tuple[str, str | None]:
        """The name of the best strategy, and what it earned by the log's outcomes where these decide."""
        if self.basis != "outcomes":
            return max(simulation.strategies, key=lambda one: one.value).name, None
        amounts = {
            one.name: (one.earned if self.in_money else one.clicks) or 0.0 for one in simulation.strategies
        }
        name = max(amounts, key=lambda one: amounts[one])
        return name, f"{text(amounts[name])}{'' if self.in_money else ' clicks'}"


def value_basis(stream: Sequence[Auctions]) -> ValueBasis:
    """What the values of these auctions rest on.

    Predictions are compared with outcomes on all auctions, whoever won them: an ad that is not shown has the
    outcome of the log.
    """
    first = stream[0]
    if first.true_value is not None or first.true_click_probability is not None:
        return ValueBasis("truth")
    if first.click is None:
        return ValueBasis("prediction")
    p, y, expected, earned, users = [], [], [], [], []
    for one in stream:
        there = one.click_probability > 0 if one.click_probability.shape[1] > 1 else np.s_[:, 0]
        p.append(one.click_probability[there])
        y.append(np.asarray(one.click, np.float64)[there])
        expected.append(one.slots.value[there])
        earned.append(np.zeros(0) if one.earned is None else one.earned[there])
        if one.user is not None and one.click_probability.shape[1] == 1:
            users.append(one.user)
    groups = np.concatenate(users) if users else None
    clicks = _interval_of_clicks(np.concatenate(y), np.concatenate(p), groups)
    # Where the value of a click is unknown it is 1, and values count clicks.
    in_money = first.earned is not None and any((one.value_of_click != 1).any() for one in stream)
    money = None
    if in_money:
        money = _interval_of_money(np.concatenate(earned), np.concatenate(expected), groups)
    wrong = _is_wrong(clicks) or _is_wrong(money)
    return ValueBasis("outcomes" if wrong else "prediction", clicks, money, in_money)


def _interval_of_clicks(y: Floats, p: Floats, groups: Any) -> MetricInterval | None:
    try:
        return interval(pcoc, y, p, groups)
    except DataError:  # no clicks at all, or a single user
        return None


def _interval_of_money(earned: Floats, expected: Floats, groups: Any) -> MetricInterval | None:
    try:
        return value_interval(value_pcoc, earned, expected, groups)
    except DataError:  # nothing earned, or negative amounts
        return None


def _is_wrong(found: MetricInterval | None) -> bool:
    """Whether a PCOC lies outside the range in which bids are right, beyond noise."""
    return found is not None and (found.high < PCOC_RANGE[0] or found.low > PCOC_RANGE[1])
