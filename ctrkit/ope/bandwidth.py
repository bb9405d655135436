"""The bandwidth of a kernel by SLOPE: the largest whose bias does not yet show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctrkit.errors import ConfigError
from ctrkit.ope.base import Estimate
from ctrkit.ope.continuous import ContinuousRows, KernelEstimator
from ctrkit.ope.tuning import Candidate, slope


class BandwidthBySlope:
    """A kernel estimator whose bandwidth SLOPE takes from a grid.

    Su, Srinath and Krishnamurthy, Adaptive Estimator Selection for Off-Policy Evaluation, ICML 2020, for
    one of its cases; the rule and its constants are those of `ctrkit.ope.tuning.slope`.

    Caveat: where clicks are few, variance is all that can be seen, and everything agrees with everything.
    SLOPE then takes a large bandwidth, whose bias is as large as the differences between policies that one
    wants to see. The interval is that of the bandwidth selected, as if it had been given: it contains
    neither the bias nor the chance in the selection. Judge a policy by a bandwidth fixed in advance; use
    this one to learn which bandwidths are worth a thought.

    Args:
        kind: such as `KernelInversePropensityScoring`.
        kernel, action_range, reward_range: see `KernelEstimator`.
        bandwidths: the grid; at least two.

    Raises:
        ConfigError: for a grid of fewer than two bandwidths.
    """

    def __init__(
        self,
        kind: type[KernelEstimator],
        kernel: str,
        bandwidths: Sequence[float],
        action_range: tuple[float, float] | None = None,
        reward_range: tuple[float, float] | None = None,
    ) -> None:
        grid = sorted(set(bandwidths))
        if len(grid) < 2:
            raise ConfigError("a choice of bandwidth needs at least two", mend="Give a grid of bandwidths")
        self.name = f"{kind.name}-slope"
        self.estimators = [kind(kernel, bandwidth, action_range, reward_range) for bandwidth in grid]

    def update(self, rows: ContinuousRows) -> None:
        """Take in rows."""
        for estimator in self.estimators:
            estimator.update(rows)

    def merge(self, other: BandwidthBySlope) -> None:
        """Take in what another with the same settings has seen, of other users."""
        for estimator, seen in zip(self.estimators, other.estimators, strict=True):
            estimator.merge(seen)

    @property
    def selected(self) -> KernelEstimator:
        """The estimator of the bandwidth that SLOPE selects.

        Bandwidths so small that no reward was weighted have no spread, which is no sign of precision: they
        do not compete. The largest bandwidth is taken where none does.
        """
        compete, candidates = [], []
        for estimator in self.estimators:
            behind = estimator.estimator
            value = behind.value()
            error = behind.moments.standard_error(behind.direction())
            if np.isfinite(value) and error > 0:
                compete.append(estimator)
                candidates.append(Candidate(value, error))
        if not compete:
            return self.estimators[-1]
        return compete[slope(candidates, self.estimators[0].estimator.moments.count)]

    def result(self, confidence: float = 0.95) -> Estimate:
        """Value and intervals with the bandwidth selected."""
        selected = self.selected
        found = selected.result(confidence)
        chosen = f"bandwidth {selected.bandwidth:g} by SLOPE"
        return replace(
            found,
            estimator=self.name,
            interval=replace(found.interval, method=f"{found.interval.method}, {chosen}"),
            difference_interval=replace(
                found.difference_interval, method=f"{found.difference_interval.method}, {chosen}"
            ),
        )
