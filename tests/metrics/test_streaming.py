"""Sketches against the exact metrics on all rows, and merges of any parts in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrkit import metrics
from ctrkit.errors import ArtifactError, ConfigError, DataError
from ctrkit.metrics.ranking import auc
from ctrkit.metrics.streaming import StreamingAuc, StreamingCalibration

SKETCHES = [StreamingAuc, StreamingCalibration]


def log(rows: int, mean: float = -3.0, spread: float = 1.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logit = random.normal(mean, spread, rows)
    labels = random.random(rows) < 1 / (1 + np.exp(-logit))
    return labels.astype(float), 1 / (1 + np.exp(-1.3 * logit - 0.2))


def fed(sketch, *parts):  # type: ignore[no-untyped-def]
    for part in parts:
        sketch.update(*part)
    return sketch


@pytest.mark.parametrize(
    ("mean", "spread"), [(-3, 1.2), (-7, 0.5), (0, 3)], ids=["ads", "a rate of 0.1 %", "sure"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_agree_with_the_exact_metrics(mean: float, spread: float, weighted: bool) -> None:
    labels, probabilities = log(200_000, mean, spread)
    weight = np.random.default_rng(1).exponential(size=200_000) if weighted else None
    parts = [slice(start, start + 30_000) for start in range(0, 200_000, 30_000)]
    chunks = [(labels[p], probabilities[p], None if weight is None else weight[p]) for p in parts]
    found = fed(StreamingAuc(), *chunks).result()
    exact = auc(labels, probabilities, weight)
    assert abs(found.value - exact) <= found.error_bound <= 1e-4
    assert found.value == pytest.approx(exact, abs=1e-5)
    assert found.rows == 200_000
    mass = np.ones(200_000) if weight is None else weight
    assert found.positives == pytest.approx(mass @ labels, rel=1e-12)
    assert found.positives + found.negatives == pytest.approx(mass.sum(), rel=1e-12)
    summary = fed(StreamingCalibration(), *chunks).result()
    for name in ("log_loss", "brier", "pcoc", "normalized_entropy"):
        exact = getattr(metrics, name)(labels, probabilities, weight=weight)
        assert getattr(summary, name) == pytest.approx(exact, rel=1e-7), name
    for strategy in ("mass", "width"):
        exact = metrics.ece(labels, probabilities, strategy=strategy, weight=weight)
        tolerance = 1e-5 if strategy == "mass" else 1e-11
        assert getattr(summary, f"ece_{strategy}") == pytest.approx(exact, abs=tolerance)


def test_few_distinct_probabilities_are_kept_apart() -> None:
    random = np.random.default_rng(2)
    probabilities = random.choice([0.0, 1e-6, 0.001, 0.0011, 0.2, 0.5, 1.0], 5000)
    labels = (random.random(5000) < np.clip(probabilities, 0.05, 0.9)).astype(int)
    found = fed(StreamingAuc(), (labels, probabilities)).result()
    assert found.value == pytest.approx(auc(labels, probabilities), abs=1e-12)
    summary = fed(StreamingCalibration(bins=5), (labels, probabilities)).result()
    for strategy in ("mass", "width"):
        exact = metrics.ece(labels, probabilities, bins=5, strategy=strategy)
        assert getattr(summary, f"ece_{strategy}") == pytest.approx(exact, abs=1.6e-5)
    assert summary.log_loss == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-10)


def test_the_bound_is_half_the_share_of_tied_pairs() -> None:
    # Two bins, split at a probability of 1/2; one of the two positives ties with one of the two negatives.
    found = fed(StreamingAuc(bins=2), ([1, 1, 0, 0], [0.9, 0.2, 0.1, 0.6])).result()
    assert found.value == (1 + 0.5 + 0.5 + 0) / 4
    assert found.error_bound == (1 + 1) / 2 / 4
    labels, probabilities = log(4000)
    for bins in (2, 3, 10, 100, 1000):
        found = fed(StreamingAuc(bins), (labels, probabilities)).result()
        assert abs(found.value - auc(labels, probabilities)) <= found.error_bound + 1e-15


ROWS = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40
)


@pytest.mark.parametrize("kind", SKETCHES)
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, shuffle=st.randoms(use_true_random=False))
def test_parts_merge_to_the_very_same_in_any_order(kind, rows, shuffle) -> None:  # type: ignore[no-untyped-def]
    # Small histograms, so that many examples are quick.
    def empty():  # type: ignore[no-untyped-def]
        return kind(bins=7) if kind is StreamingAuc else kind(bins=3, histogram_bins=64)

    sketches, whole = [empty() for _ in range(4)], empty()
    for number, sketch in enumerate(sketches):
        chosen = [row for row in rows if row[3] == number]
        if chosen:
            # One row more of weight 1, as weights of 0 alone are refused.
            labels, probabilities, weights, _ = zip(*chosen, (False, 0.5, 1, 0), strict=True)
            sketch.update(labels, probabilities, weights)
            whole.update(labels, probabilities, weights)
    shuffle.shuffle(sketches)
    first, second, third, fourth = sketches
    # ((1 + 2) + (3 + 4)), each in any order.
    first.merge(second)
    third.merge(fourth)
    first.merge(third)
    merged, expected = first.state(), whole.state()
    assert merged.keys() == expected.keys()
    for name in merged:
        assert np.array_equal(merged[name], expected[name]), name


@pytest.mark.parametrize("kind", SKETCHES)
def test_merging_leaves_the_other_as_it_is_and_equals_seeing_all(kind) -> None:  # type: ignore[no-untyped-def]
    labels, probabilities = log(3000)
    first, second = (fed(kind(), (labels[p], probabilities[p])) for p in (slice(1000), slice(1000, None)))
    before = second.result()
    first.merge(second)
    assert second.result() == before
    assert first.result() == fed(kind(), (labels, probabilities)).result()
    second.update([1], [0.5])  # what was merged is not shared
    assert first.result().rows == 3000


@pytest.mark.parametrize("kind", SKETCHES)
def test_state_round_trip(kind) -> None:  # type: ignore[no-untyped-def]
    sketch = fed(kind(), log(500))
    state = sketch.state()
    again = kind.from_state(state)
    assert again.result() == sketch.result()
    again.update([1], [0.5])
    assert sketch.result().rows == 500  # nothing is shared with the state
    assert set(sketch.result().to_dict()) >= {"rows", "positives"}
    assert all(isinstance(values, np.ndarray) for values in state.values())
    with pytest.raises(ArtifactError, match="damaged"):
        kind.from_state({name: values for name, values in state.items() if name != "positives"})
    with pytest.raises(ArtifactError, match="other shapes"):
        kind.from_state(state | {"negatives": np.zeros(3)})
    with pytest.raises(ArtifactError, match="negative or not finite"):
        kind.from_state(state | {"rows": np.array([-1.0])})


def test_undefined_and_bad_input() -> None:
    with pytest.raises(DataError, match=r"AUC needs rows of both classes.*no positive"):
        fed(StreamingAuc(), ([0, 0], [0.1, 0.2])).result()
    with pytest.raises(DataError, match="no row was seen"):
        StreamingCalibration().result()
    summary = fed(StreamingCalibration(), ([0, 0], [0.1, 0.2])).result()
    assert (summary.pcoc, summary.normalized_entropy) == (None, None)
    assert summary.ece_width == pytest.approx(0.15, rel=1e-10)
    for kind in SKETCHES:
        sketch = fed(kind(), ([0, 1], [0.1, 0.2]))
        before = sketch.result()
        with pytest.raises(DataError, match="argument `probabilities`, row 1"):
            sketch.update([0, 1], [0.1, 1.2])
        assert sketch.result() == before
        with pytest.raises(ConfigError, match="differ in kind or number of bins"):
            sketch.merge(StreamingAuc(bins=5))
        with pytest.raises(ConfigError, match="bins must be at least"):
            kind(bins=0)
    with pytest.raises(ConfigError, match="differ"):
        StreamingCalibration().merge(StreamingCalibration(bins=10))
