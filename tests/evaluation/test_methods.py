"""Two methods over seeds: both intervals against other formulas, and what they tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from ctrkit.evaluation.methods import MethodDifference, compare_methods
from ctrkit.metrics import auc
from ctrkit.metrics.comparison import compare

ROWS, SEEDS = 1500, 5


def drawn(
    better: float = 0.0, noise: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and logits of two methods by seed; the first is better if its noise is less."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1.5, 1.0, ROWS)
    labels = (rng.random(ROWS) < expit(truth)).astype(float)
    common = rng.normal(size=(2, ROWS))
    spread = (1.0 - better, 1.0)
    both = [
        truth + spread[at] * common[at] + noise * rng.normal(size=(SEEDS, ROWS)) * rng.random((SEEDS, 1))
        for at in (0, 1)
    ]
    return labels, both[0], both[1]


def test_over_seeds_it_is_the_paired_t_test() -> None:
    labels, first, second = drawn()
    area, loss = compare_methods(labels, first, second)
    for found, metric, of in (
        (area, lambda z: roc_auc_score(labels, z), "auc"),
        (loss, lambda z: log_loss(labels, expit(z)), "log_loss"),
    ):
        assert found.metric == of
        one, other = (np.array([metric(z) for z in method]) for method in (first, second))
        np.testing.assert_allclose(found.first, one)
        np.testing.assert_allclose(found.second, other)
        test = stats.ttest_rel(one, other)
        assert found.p_value == pytest.approx(test.pvalue)
        interval = test.confidence_interval(0.95)
        assert (found.over_seeds.low, found.over_seeds.high) == pytest.approx((interval.low, interval.high))
        assert found.over_rows.value == found.over_seeds.value == pytest.approx((one - other).mean())


def test_over_rows_it_is_delongs_interval_and_that_of_a_mean_loss() -> None:
    labels, first, second = drawn()
    # With networks that are all the same, the interval is that of two models.
    alike = compare_methods(labels, first[[0, 0]], second[[0, 0]])[0]
    of_two = compare(auc, labels, first[0], second[0]).difference
    assert (alike.over_rows.low, alike.over_rows.high) == pytest.approx((of_two.low, of_two.high))
    assert alike.over_seeds.low == alike.over_seeds.high == alike.over_seeds.value
    loss = compare_methods(labels, first, second)[1]
    losses = [-(labels * np.log(p) + (1 - labels) * np.log(1 - p)) for p in map(expit, (first, second))]
    mean = (losses[0] - losses[1]).mean(axis=0)  # of each row, over the seeds
    half = 1.96 * mean.std(ddof=1) / np.sqrt(ROWS)
    assert loss.over_rows.high - loss.over_rows.value == pytest.approx(half, rel=1e-3)


def test_groups_and_weights_count() -> None:
    labels, first, second = drawn()
    groups = np.repeat(np.arange(ROWS // 5), 5)
    twice = [np.repeat(one, 2, axis=-1) for one in (labels, first, second)]
    copied = compare_methods(*twice, groups=np.repeat(np.arange(ROWS), 2))
    weighted = compare_methods(labels, first, second, weight=np.full(ROWS, 2.0))
    for one, other in zip(copied, weighted, strict=True):
        assert one.over_rows.low == pytest.approx(other.over_rows.low, rel=1e-3)
    assert compare_methods(labels, first, second, groups)[0].over_rows != weighted[0].over_rows


def test_methods_that_are_alike_are_rarely_told_apart_and_better_ones_are() -> None:
    def told(better: float, seed: int) -> bool:
        found: MethodDifference = compare_methods(*drawn(better, seed=seed))[0]
        return "cannot be told apart" not in found.sentence

    assert sum(told(0.0, seed) for seed in range(60)) <= 8
    assert sum(told(0.6, seed) for seed in range(20)) >= 18
    area, loss = compare_methods(*drawn(0.6))
    assert area.sentence == "This method has the better auc, beyond the noise of seeds and of rows."
    assert loss.sentence.startswith("This method has the better log_loss")
    labels, first, second = drawn(0.6)
    assert compare_methods(labels, second, first)[1].sentence.startswith("The other method has the better")
