"""How often intervals cover the truth, over draws of rows and labels from known true probabilities.

`python benchmarks/calibration.py coverage` runs it. The rows are independent, or ten a user whose own taste
moves the true probability, with intervals by user. The model is miscalibrated on purpose:
logit(p) = 1.2 logit(q) + 0.2 + noise. The truth of a metric is its value on a large population with both
labels of every row, weighted by q and 1 - q.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ctrkit import metrics
from ctrkit.metrics.calibration import bin_index

Floats = NDArray[np.float64]

METRICS = {
    "pcoc": metrics.pcoc,
    "log_loss": metrics.log_loss,
    "brier": metrics.brier,
    "normalized_entropy": metrics.normalized_entropy,
    "auc": metrics.auc,
}
POPULATION = 3_000_000
BINS, SITES = 15, 20


def drawn(random: np.random.Generator, users: int, each: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """True and predicted probabilities, and users, of `each` rows a user."""
    user = np.repeat(np.arange(users), each)
    logit = random.normal(-3.3, 0.9, user.size)
    taste = random.normal(0, 0.8, users)[user] if each > 1 else 0.0
    predicted = expit(1.2 * logit + 0.2 + random.normal(0, 0.2, user.size))
    return expit(logit + taste), predicted, user


def coverage(draws: int, rows: int, each: int, seed: int) -> dict[str, float]:
    """The share of 95 % intervals that hold the truth, by metric.

    Args:
        each: rows a user; with more than one, intervals are by user.
    """
    random = np.random.default_rng(seed)
    truth = _truths(*drawn(random, POPULATION // each, each)[:2])
    held: dict[str, list[float]] = {name: [] for name in (*truth, "reliability, bins", "PCOC by field")}
    for _ in range(draws):
        q, p, user = drawn(random, rows // each, each)
        y = (random.random(q.size) < q).astype(np.float64)
        groups = user if each > 1 else None
        for name, metric in (*METRICS.items(), ("debiased_ece", metrics.debiased_ece)):
            found = metrics.interval(metric, y, p, groups)
            held[name].append(found.low <= truth[name] <= found.high)
        # Given the rows, the truth of a bin is the mean true probability in it.
        diagram = metrics.reliability(y, p, BINS, groups=groups)
        index = bin_index(p, np.ones(q.size), BINS, "mass")
        of_bin = np.bincount(index, q) / np.bincount(index)
        held["reliability, bins"].append(float(np.mean((diagram.low <= of_bin) & (of_bin <= diagram.high))))
        site = random.integers(0, SITES, q.size)
        expected = np.bincount(site, p) / np.bincount(site, q)
        of_site = metrics.by_field(y, p, site, groups=groups)
        covered = [one.pcoc.low <= expected[one.value] <= one.pcoc.high for one in of_site]
        held["PCOC by field"].append(float(np.mean(covered)))
    return {name: float(np.mean(values)) for name, values in held.items()}


def _truths(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Each metric's value on a population whose true probabilities are known."""
    labels = np.repeat([1.0, 0.0], len(truth))
    both, weight = np.tile(predicted, 2), np.concatenate([truth, 1 - truth])
    found = {name: metric(labels, both, weight=weight) for name, metric in METRICS.items()}
    index = bin_index(predicted, np.ones(len(predicted)), BINS, "mass")
    share = np.bincount(index)
    gap = np.bincount(index, predicted - truth) / share
    return {**found, "debiased_ece": float(np.sqrt(share / share.sum() @ gap**2))}
