"""Metrics at ten million rows, beside scikit-learn and FuxiCTR.

`python benchmarks/calibration.py metrics` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scan import measure
from sklearn.metrics import roc_auc_score

from ctrkit.metrics import auc, ece, gauc, smooth_ece


class Log(NamedTuple):
    """Labels, probabilities and groups of an ad log: a click rate of 7 %, ten rows a group on average."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    groups: NDArray[np.int64]


@dataclass(frozen=True)
class Timed:
    """Median seconds of one metric, and how far its value is from another's.

    Attributes:
        beside: what it is compared with; ratio: how many times as long that takes, 0 for not timed.
        difference: between both values.
    """

    what: str
    rows: int
    seconds: float
    beside: str = ""
    ratio: float = 0.0
    difference: float | None = None


def log_of(rows: int) -> Log:
    """A log with a tenth as many groups as rows."""
    random = np.random.default_rng(0)
    logit = random.normal(-3, 1, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    return Log(labels, 1 / (1 + np.exp(-1.2 * logit)), random.integers(0, max(1, rows // 10), rows))


def metrics(rows: int, peer_rows: int, repetitions: int) -> list[Timed]:
    """AUC, GAUC and calibration errors; then GAUC beside FuxiCTR's."""
    log = log_of(rows)
    y, p, groups = log
    found = [
        _beside("auc", rows, lambda: auc(y, p), "scikit-learn", lambda: roc_auc_score(y, p), repetitions),
        *(_alone(name, rows, run, repetitions) for name, run in {
            "gauc": lambda: gauc(y, p, groups),
            "ece, equal mass": lambda: ece(y, p),
            "ece, equal width": lambda: ece(y, p, strategy="width"),
            "smooth ece": lambda: smooth_ece(y, p),
        }.items()),
    ]  # fmt: skip
    if peer_rows and find_spec("fuxictr") is not None:
        found.append(_fuxictr(log_of(peer_rows), repetitions))
    return found


def _alone(what: str, rows: int, run: Callable[[], object], repetitions: int) -> Timed:
    return Timed(what, rows, median(measure({what: run}, repetitions)[what]))


def _beside(
    what: str, rows: int, own: Callable[[], float], peer: str, theirs: Callable[[], float], repetitions: int
) -> Timed:
    seconds = measure({"own": own, "peer": theirs}, repetitions)
    ours, others = median(seconds["own"]), median(seconds["peer"])
    return Timed(what, rows, ours, peer, others / ours, abs(own() - float(theirs())))


def _fuxictr(log: Log, repetitions: int) -> Timed:
    """FuxiCTR goes through the groups one by one in a pool of processes; it is run once."""
    from fuxictr.metrics import evaluate_metrics

    y, p, groups = log
    own = median(measure({"own": lambda: gauc(y, p, groups)}, repetitions)["own"])
    values: list[float] = []

    def peer() -> None:
        values.append(evaluate_metrics(y, p, ["gAUC"], groups)["gAUC"])

    seconds = measure({"peer": peer}, 1)["peer"][0]
    return Timed("gauc", y.size, own, "FuxiCTR", seconds / own, abs(values[0] - gauc(y, p, groups)))
