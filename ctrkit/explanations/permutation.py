"""Permutation importance: what a model loses when a feature's values are shuffled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from ctrkit.arrays import Floats
from ctrkit.data.encoded import EncodedTable
from ctrkit.errors import DataError
from ctrkit.explanations.features import assemble, units
from ctrkit.metrics import auc, log_loss
from ctrkit.models import Scorer
from ctrkit.progress import OnStep, silent
from ctrkit.training import predict

# (logits [n, T], their rows) -> calibrated probabilities [n] of the task that is explained.
Probabilities: TypeAlias = Callable[[Floats, EncodedTable], Floats]


@dataclass(frozen=True)
class Repeated:
    """A mean over repeats with its interval.

    Attributes:
        value: the mean.
        low: the lower end of the interval.
        high: the upper end of the interval.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: ArrayLike, confidence: float) -> Repeated:
        """The mean of independent repeats and Student's interval: mean ± t s / √repeats."""
        numbers = np.asarray(values, dtype=np.float64)
        reach = student.ppf(0.5 + confidence / 2, numbers.size - 1) * numbers.std(ddof=1)
        half = float(reach / np.sqrt(numbers.size))
        mean = float(numbers.mean())
        return cls(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Importance:
    """The loss when one feature is shuffled.

    Attributes:
        feature: the feature's name.
        auc: the fall of AUC.
        log_loss: the rise of log loss, in nats.
    """

    feature: str
    auc: Repeated
    log_loss: Repeated

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def permutation_importance(
    network: Scorer,
    data: EncodedTable,
    probabilities: Probabilities,
    *,
    task: int = 0,
    repeats: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
    on_step: OnStep = silent,
) -> tuple[Importance, ...]:
    """Permutation importance of every static field and of the history.

    Source: "Random Forests" (Breiman, Machine Learning 2001). A feature's column is shuffled over the rows,
    which keeps its distribution and removes its information; a history is shuffled with all its sequences. Of
    two features that carry the same information, neither looks important.

    The intervals cover the randomness of shuffling, not that of the rows.

    Args:
        network: the network.
        data: n labelled rows where the task can happen, on which the model was not trained.
        probabilities: gives the task's calibrated probabilities of logits.
        task: the index of the task.
        repeats: the number of times each feature is shuffled, at least two.
        confidence: confidence level of the intervals.
        seed: seed of the shuffling.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        DataError: all rows have one label, so there is no AUC.
    """
    labels = data.labels[:, task]
    if labels.min() == labels.max():
        raise DataError(
            f"all {len(data):,} rows have the label {labels[0]:g}, so there is no AUC to lose",
            hint="Give a larger table",
        )

    def judged(rows: EncodedTable) -> Floats:
        p = probabilities(predict(network, rows).logits, rows)
        return np.array([auc(labels, p), log_loss(labels, p)])

    names = units(network.feature_map)
    before, generator = judged(data), np.random.default_rng(seed)
    index = np.repeat(np.arange(len(data))[:, None], len(names), axis=1)
    found = []
    for number, name in enumerate(names):
        changes = []
        for repeat in range(repeats):
            shuffled = index.copy()
            shuffled[:, number] = generator.permutation(len(data))
            changes.append(judged(assemble(data, shuffled)) - before)
            on_step(number * repeats + repeat + 1, len(names) * repeats, f"shuffling {name}")
        falls = np.array(changes)
        found.append(
            Importance(name, Repeated.of(-falls[:, 0], confidence), Repeated.of(falls[:, 1], confidence))
        )
    return tuple(found)
