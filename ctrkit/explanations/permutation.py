"""Permutation importance: what a model loses when a feature's values are dealt out anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from ctrkit.arrays import Floats
from ctrkit.data.encoder import EncodedTable
from ctrkit.errors import DataError
from ctrkit.explanations.features import assemble, units
from ctrkit.metrics import auc, log_loss
from ctrkit.models import CtrModel
from ctrkit.progress import OnStep, silent
from ctrkit.training import predict

# Logits [n, T] and the rows they are of to the calibrated probabilities [n] of the task that is explained.
Probabilities: TypeAlias = Callable[[Floats, EncodedTable], Floats]


@dataclass(frozen=True)
class Repeated:
    """A mean over repeats, with the ends of its interval."""

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
    """What is lost without one feature: the fall of AUC and the rise of log loss."""

    feature: str
    auc: Repeated
    log_loss: Repeated

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def permutation_importance(
    network: CtrModel,
    data: EncodedTable,
    probabilities: Probabilities,
    *,
    task: int = 0,
    repeats: int = 5,
    confidence: float = 0.95,
    seed: int = 0,
    on_step: OnStep = silent,
) -> tuple[Importance, ...]:
    """Permutation importance of every static field and of the history: "Random Forests" (Breiman, Machine
    Learning 2001), on rows that the model was not trained on.

    A feature's column is shuffled over the rows, which leaves its distribution as it is and takes away what
    it tells; histories are shuffled as a whole, with all their sequences. Of two features that tell the same,
    neither seems important.

    The intervals are over the repeats: they say how much another shuffling would change, and not what other
    rows would.

    Args:
        data: n labelled rows, on which the task can happen.
        probabilities: calibrated, of the task.
        task: whose labels are predicted.
        repeats: shufflings of each feature, two at least.

    Raises:
        DataError: all rows have one label, for which there is no AUC.
    """
    labels = data.labels[:, task]
    if labels.min() == labels.max():
        raise DataError(
            f"all {len(data):,} rows have the label {labels[0]:g}, so there is no AUC to lose",
            hint="Give a larger table",
        )

    def judged(rows: EncodedTable) -> Floats:
        p = probabilities(predict(network, rows)[0], rows)
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
