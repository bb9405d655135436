"""The uncertainty of a simulation: the same run over many seeds, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from scipy.special import stdtr, stdtrit

from ctrkit.arrays import Floats
from ctrkit.errors import ConfigError, DataError, nearest

RepeatKind: TypeAlias = Literal["markets", "resamples"]


@dataclass(frozen=True)
class Mean:
    """The mean of a KPI over seeds.

    Attributes:
        value: the mean.
        low: lower end of the interval of the expected KPI; None with fewer than two seeds.
        high: upper end of the interval; None with fewer than two seeds.
        deviation: standard deviation over seeds; None with fewer than two seeds.
        seeds: number of seeds in which the KPI is defined.
    """

    value: float
    low: float | None
    high: float | None
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class PairedDifference:
    """A KPI of a strategy less the KPI of the reference, seed by seed.

    Attributes:
        strategy: name of the strategy.
        kpi: name of the KPI.
        value: the mean difference.
        low: lower end of the interval of the expected difference; None with fewer than two seeds.
        high: upper end of the interval; None with fewer than two seeds.
        p_value: p-value of the two-sided t-test of no difference; None with fewer than two seeds.
        adjusted_p_value: the p-value with Holm's correction over all strategies compared by this KPI.
        seeds: number of seeds in which both have the KPI.
    """

    strategy: str
    kpi: str
    value: float
    low: float | None
    high: float | None
    p_value: float | None
    adjusted_p_value: float | None
    seeds: int


@dataclass(frozen=True)
class Repeats:
    """The results of many seeds together.

    Attributes:
        kind: what a seed is: `markets` or `resamples`.
        seeds: number of seeds.
        confidence: confidence level of all intervals.
        reference: the strategy that all others are compared with.
        means: strategy -> KPI -> mean over seeds; a KPI that no seed defines is left out.
        differences: the differences of each other strategy from the reference, by strategy, then KPI.
    """

    kind: RepeatKind
    seeds: int
    confidence: float
    reference: str
    means: Mapping[str, Mapping[str, Mean]]
    differences: tuple[PairedDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def over_seeds(
    runs: Sequence[Mapping[str, Mapping[str, float | None]]],
    reference: str | None = None,
    kind: RepeatKind = "markets",
    confidence: float = 0.95,
) -> Repeats:
    """Means, intervals and paired differences of the same simulation under S seeds.

    All intervals are Student's, mean ± t(S − 1)·c·s, with the deviation s over seeds:

    - `markets`: each seed draws its own market. The mean of S draws has the error c = √(1/S), so more seeds
      make the interval narrower without limit.
    - `resamples`: each seed resamples one log, as in the bootstrap. A resample differs from the log as the
      log differs from its market, so s estimates the log's own sampling error. The mean over resamples adds
      its own error: c = √(1 + 1/S). More seeds estimate s better and do not reduce the log's error.

    Within a seed all strategies meet the same auctions, outcomes and random numbers. So differences are
    taken seed by seed, which removes what affects both strategies.

    Args:
        runs: one entry per seed, strategy -> KPI -> value; None where it is undefined. A KPI's mean is over
            the seeds that define it, and a difference over the seeds that define both.
        reference: the strategy that all others are compared with; by default the first.
        kind: what a seed is: `markets` or `resamples`.
        confidence: confidence level of each interval.

    Raises:
        ConfigError: fewer than two seeds, an unknown reference or kind, or a confidence out of range.
        DataError: seeds that differ in strategies or KPIs.

    Source: A. M. Law, Simulation Modeling and Analysis, section 10.2 (paired t, common random numbers).
    """
    if len(runs) < 2:
        raise ConfigError(
            f"intervals need at least two seeds, but there is {len(runs)}", hint="Give more seeds"
        )
    if kind not in get_args(RepeatKind):
        raise ConfigError(f"there are no seeds of kind '{kind}'", hint=nearest(kind, get_args(RepeatKind)))
    if not 0 < confidence < 1:
        raise ConfigError(
            f"confidence is {confidence:g} and must be between 0 and 1", hint="Give for example 0.95"
        )
    shape = [(strategy, tuple(kpis)) for strategy, kpis in runs[0].items()]
    for seed, run in enumerate(runs):
        if [(strategy, tuple(kpis)) for strategy, kpis in run.items()] != shape:
            raise DataError(
                f"seed {seed} has other strategies or KPIs than the first",
                hint="Run all seeds with the same strategies",
            )
    strategies = [strategy for strategy, _ in shape]
    base = strategies[0] if reference is None else reference
    if base not in strategies:
        raise ConfigError(f"there is no strategy '{base}' to compare with", hint=nearest(base, strategies))

    columns = {
        # None turns into NaN.
        (strategy, kpi): np.array([run[strategy][kpi] for run in runs], np.float64)
        for strategy, kpis in shape
        for kpi in kpis
    }
    means: dict[str, dict[str, Mean]] = {strategy: {} for strategy in strategies}
    differences: list[PairedDifference] = []
    for (strategy, kpi), values in columns.items():
        if (mean := _mean(values, kind, confidence)) is not None:
            means[strategy][kpi] = mean
        if strategy != base and (base, kpi) in columns:
            differences += _difference(strategy, kpi, values - columns[base, kpi], kind, confidence)
    return Repeats(kind, len(runs), confidence, base, means, _corrected(differences))


def _mean(values: Floats, kind: RepeatKind, confidence: float) -> Mean | None:
    """The mean of the values that are not NaN, with its interval."""
    known = values[~np.isnan(values)]
    n = len(known)
    if not n:
        return None
    value = float(known.mean())
    if n == 1:
        return Mean(value, None, None, None, n)
    deviation = float(known.std(ddof=1))
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * _factor(n, kind) * deviation
    return Mean(value, value - reach, value + reach, deviation, n)


def _factor(n: int, kind: RepeatKind) -> float:
    """The standard error divided by the standard deviation (see `over_seeds`)."""
    return float(np.sqrt(1.0 / n if kind == "markets" else 1.0 + 1.0 / n))


def _difference(
    strategy: str, kpi: str, values: Floats, kind: RepeatKind, confidence: float
) -> list[PairedDifference]:
    """The difference, with an uncorrected p-value; empty if no seed has both KPIs."""
    if (mean := _mean(values, kind, confidence)) is None:
        return []
    p_value = None
    if mean.deviation is not None:
        error = mean.deviation * _factor(mean.seeds, kind)
        # Without any spread, a mean that is not 0 is surely not 0.
        far = abs(mean.value) / error if error > 0 else np.inf if mean.value else 0.0
        p_value = 2 * float(stdtr(mean.seeds - 1, -far))
    return [PairedDifference(strategy, kpi, mean.value, mean.low, mean.high, p_value, None, mean.seeds)]


def _corrected(differences: Sequence[PairedDifference]) -> tuple[PairedDifference, ...]:
    """With Holm's correction of the p-values of each KPI."""
    from ctrkit.ope.diagnostics.ranking import holm  # with all of scipy.stats, slow to import

    corrected = list(differences)
    for kpi in dict.fromkeys(one.kpi for one in differences):
        found = {place: one.p_value for place, one in enumerate(differences) if one.kpi == kpi}
        known = {place: p_value for place, p_value in found.items() if p_value is not None}
        for place, adjusted in zip(known, holm(list(known.values())).tolist(), strict=True):
            corrected[place] = replace(corrected[place], adjusted_p_value=adjusted)
    return tuple(corrected)
