"""Two methods trained with several seeds: the difference of a metric, over seeds and over rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit

from ctrkit.arrays import Floats, Integers
from ctrkit.metrics import MetricInterval, auc, log_loss
from ctrkit.metrics.influence import contributions
from ctrkit.metrics.significance import quantile, two_sided

# Metric -> whether a higher or a lower value is better, and what it judges: probabilities from logits.
_METRICS: dict[str, tuple[Callable[..., float], Literal["higher", "lower"], Callable[[Floats], Floats]]] = {
    "auc": (auc, "higher", lambda logits: logits),  # AUC depends on the order alone
    "log_loss": (log_loss, "lower", expit),
}


@dataclass(frozen=True)
class MethodDifference:
    """A metric of two methods, each trained with the same seeds, and the difference of their means.

    Attributes:
        metric: the metric's name.
        best: whether a higher or a lower value is better.
        first: the first method's metric by seed.
        second: the second method's metric by seed.
        over_seeds: the mean difference, first minus second, with a paired t interval over S seeds (S - 1
            degrees of freedom): other seeds on the same rows.
        over_rows: the same mean difference, with an interval over the test rows: other test rows for the same
            trained networks.
        p_value: the p-value over seeds of the hypothesis that both methods are equally good on these rows.
    """

    metric: str
    best: Literal["higher", "lower"]
    first: tuple[float, ...]
    second: tuple[float, ...]
    over_seeds: MetricInterval
    over_rows: MetricInterval
    p_value: float

    @property
    def sentence(self) -> str:
        """Which method is better, if both intervals say so."""
        signs = {np.sign(one.low) * (np.sign(one.low) == np.sign(one.high)) for one in self._intervals}
        if signs in ({1.0}, {-1.0}):
            ahead = (signs == {1.0}) == (self.best == "higher")
            which = "This method has the" if ahead else "The other method has the"
            return f"{which} better {self.metric}, beyond the noise of seeds and of rows."
        within = [
            what
            for what, one in zip(("seeds", "rows"), self._intervals, strict=True)
            if one.low <= 0 <= one.high
        ]
        return (
            f"The methods cannot be told apart by {self.metric}: their difference is within the noise of"
            + (f" {' and of '.join(within)}.")
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    @property
    def _intervals(self) -> tuple[MetricInterval, MetricInterval]:
        return self.over_seeds, self.over_rows


def mean_of_trainings(values: Floats, confidence: float, over: Literal["seeds", "folds"]) -> MetricInterval:
    """The mean of a value over S trainings, mean ± t · sd / √S with S - 1 degrees of freedom.

    Over folds the interval is approximate, and rather too short: their trainings share rows, and no estimate
    of the variance of their mean is unbiased (Bengio and Grandvalet, "No Unbiased Estimator of the Variance
    of K-Fold Cross-Validation", JMLR 2004).

    Args:
        values: the value of each training, [S].
        confidence: confidence level of the interval.
        over: in what the trainings differ.
    """
    mean, count = float(values.mean()), values.size
    half = quantile(confidence, count) * float(values.std(ddof=1) / np.sqrt(count))
    return MetricInterval(mean, mean - half, mean + half, confidence, over)


def compare_methods(
    labels: Floats,
    first: Floats,
    second: Floats,
    groups: Integers | None = None,
    weight: Floats | None = None,
    confidence: float = 0.95,
) -> tuple[MethodDifference, ...]:
    """Compare AUC and log loss of two methods on the same rows, each trained with S seeds.

    Over seeds: d_s is the difference with seed s, and the interval is mean(d) ± t · sd(d) / √S with S - 1
    degrees of freedom, the paired t test. Over rows: the rows' contributions to the error of each network's
    metric (DeLong, DeLong & Clarke-Pearson 1988 for AUC) are averaged over the networks; this gives the
    interval of the mean difference for these networks. No network is selected, and no maximum is taken
    (Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks", on why).

    Args:
        labels: 0 or 1, [N].
        first: logits of the first method, [S, N].
        second: logits of the second method, [S, N].
        groups: the group of each row, [N]; rows of one group are not independent.
        weight: the weight of each row, [N].
        confidence: confidence level of the intervals.

    Raises:
        DataError: bad values, or only one class.
    """
    found = []
    for name, (metric, best, judged) in _METRICS.items():
        each = [
            [contributions(metric, labels, judged(logits), groups, weight) for logits in method]
            for method in (first, second)
        ]
        differences = [one.less(other) for one, other in zip(*each, strict=True)]
        values = np.array([one.value for one in differences])
        mean, seeds = float(values.mean()), values.size
        error = float(values.std(ddof=1) / np.sqrt(seeds))
        rows = differences[0]._replace(
            value=mean, by_cluster=np.mean([one.by_cluster for one in differences], axis=0)
        )
        of_rows = quantile(confidence, rows.units) * rows.deviation
        found.append(
            MethodDifference(
                name,
                best,
                tuple(one.value for one in each[0]),
                tuple(one.value for one in each[1]),
                mean_of_trainings(values, confidence, "seeds"),
                MetricInterval(mean, mean - of_rows, mean + of_rows, confidence, "linearised"),
                two_sided(mean / error, seeds) if error else float(mean == 0),
            )
        )
    return tuple(found)
