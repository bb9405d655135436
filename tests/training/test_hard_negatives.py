"""Hard negatives: chances by score, and sums over what is read that are those of all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

import ctrkit
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.sampling import HardNegativesConfig
from ctrkit.data.split import Split
from ctrkit.errors import ConfigError
from ctrkit.models import CtrModel
from ctrkit.training import predict
from ctrkit.training.epoch_rows import HardNegatives, chances, systematic
from tests.training.sampled_clicks import FEATURES, clicks, trained


@pytest.mark.parametrize("count", [0, 1, 37, 199, 200])
def test_chances_are_in_proportion_to_sizes_up_to_one(count: int) -> None:
    """Against the root of Σ min(1, c · size) = count."""
    sizes = np.random.default_rng(0).lognormal(sigma=1.5, size=200)
    found = chances(sizes, count)
    if 0 < count < 200:
        factor = brentq(lambda c: np.minimum(1.0, c * sizes).sum() - count, 0.0, 1e6)
        np.testing.assert_allclose(found, np.minimum(1.0, factor * sizes), rtol=1e-9)
    assert found.sum() == pytest.approx(count)
    assert (found <= 1.0).all()


def test_systematic_draws_have_a_fixed_size_and_the_chances_given() -> None:
    rng = np.random.default_rng(0)
    wanted = chances(rng.lognormal(size=50), 12)
    drawn = [systematic(wanted, 12, rng) for _ in range(4_000)]
    assert {np.unique(one).size for one in drawn} == {12}
    found = np.bincount(np.concatenate(drawn), minlength=50) / 4_000
    assert np.abs(found - wanted).max() < 4.5 * np.sqrt(0.25 / 4_000)
    assert (found[wanted == 1.0] == 1.0).all()


@pytest.mark.parametrize("pool", [0.6, 1.0])
def test_sums_over_an_epoch_estimate_those_of_all_rows(
    data: EncodedTable, split: Split, new_model: Callable[[], CtrModel], pool: float
) -> None:
    """The log loss of another model than the one that gave the scores, and the number of negatives."""
    model, config = new_model(), HardNegativesConfig(kept=0.2, random=0.3, pool=pool)
    with torch.no_grad():
        model.embedding.weight *= 20.0
    rows = split.train
    labels, p = data.labels[:, 0], expit(2.0 * data.numeric[:, 0].astype(np.float64))
    losses = -np.where(labels == 1, np.log(p), np.log1p(-p)) * data.weight
    found = []
    for seed in range(150):
        reading = HardNegatives(data, rows, None, seed, config)
        read = reading.order(0, model)
        assert read.size == reading.size == np.unique(read).size
        assert np.isin(rows[labels[rows] == 1], read).all()
        counts = reading.batch(read).weight.double().numpy() / data.weight[read]
        np.testing.assert_allclose(counts[labels[read] == 1], 1.0)
        found.append([losses[read] @ counts, counts[labels[read] == 0].sum()])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    truth = [losses[rows].sum(), (labels[rows] == 0).sum()]
    assert (np.abs(mean - truth) < 4.0 * error).all()
    # Without the counts, what is read is far from it: it has the harder negatives.
    scores = predict(model, data).logits[:, 0]
    negatives = read[labels[read] == 0]
    assert scores[negatives].mean() > scores[rows[labels[rows] == 0]].mean() + 0.05


def test_scores_are_kept_for_some_epochs(
    data: EncodedTable, split: Split, new_model: Callable[[], CtrModel]
) -> None:
    model = new_model()
    reading = HardNegatives(data, split.train, data.groups, 0, HardNegativesConfig(refresh=2))
    scored = []
    for epoch in range(4):
        read = reading.order(epoch, model)
        groups = data.groups[read]  # type: ignore[index]
        assert np.count_nonzero(np.diff(groups)) + 1 == np.unique(groups).size
        scored.append(reading.state_dict()["chances"].numpy())
        with torch.no_grad():
            model.embedding.weight += 0.5 * torch.randn(30, 4)
    assert np.array_equal(scored[0], scored[1])
    assert np.array_equal(scored[2], scored[3])
    assert not np.array_equal(scored[0], scored[2])


def test_few_rows_or_one_label_are_read_as_they_are(
    data: EncodedTable, split: Split, new_model: Callable[[], CtrModel]
) -> None:
    for label in (0.0, 1.0):
        same = replace(data, labels=np.full_like(data.labels, label))
        for rows in (split.train[:1], split.train[:3]):
            reading = HardNegatives(same, rows, None, 0, HardNegativesConfig(kept=0.3))
            assert reading.order(0, new_model()).size == (1 if label == 0.0 else rows.size)


def test_a_trained_model_predicts_all_rows() -> None:
    """Without the weights the PCOC of the click would be about 4."""
    result = trained(clicks(), FEATURES, {"hard_negatives": {"kept": 0.15}}, train=0.4)
    assert result.metrics["click"]["pcoc"] == pytest.approx(1.0, abs=0.12)
    assert result.metrics["click"]["auc"] > 0.7
    assert any("drawn by their scores" in note for note in result.notes)


@pytest.mark.parametrize(
    ("network", "sampling", "message"),
    [
        ("lightgbm", {}, "is not trained in epochs"),
        ("lr", {}, "is not trained in epochs"),
        ("dnn", {"kept": 0.5, "pool": 0.3}, "kept must not be above pool"),
        ("dnn", {"kept": 0.0}, "must be above 0"),
        ("dnn", {"random": 0.0}, "must be above 0"),
        ("dnn", {"refresh": 0}, "must be at least 1"),
        ("dnn", {"keep": 0.5}, "Did you mean 'kept'"),
    ],
)
def test_faulty_settings_are_named(network: str, sampling: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ctrkit.train(
            data=clicks(100), features=FEATURES, network=network, sampling={"hard_negatives": sampling}
        )
