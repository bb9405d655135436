from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ctrkit.data.bins import Bins
from ctrkit.data.feature_map import FeatureMap
from ctrkit.models import build_model, model_config
from ctrkit.nn.batches import Batch
from ctrkit.nn.embedding import FeatureEmbedding
from ctrkit.nn.first_order import FirstOrder

# The second field has fewer bins than the first, the third none.
RNG = np.random.default_rng(0)
VALUES = np.stack([RNG.normal(size=4000), RNG.integers(0, 4, 4000), np.zeros(4000)], axis=1)
NAMES = ("price", "visits", "constant")
BINS = {name: Bins.fit(VALUES[:, at], np.ones(4000)) for at, name in enumerate(NAMES)}
MAP = FeatureMap(tables={}, categorical={}, numeric=NAMES, bins=BINS)


def rows(numbers: torch.Tensor) -> Batch:
    n = len(numbers)
    return Batch(torch.zeros(n, 0, dtype=torch.int32), numbers, {}, torch.zeros(n, 0), torch.ones(n))


def drawn(feature_map: FeatureMap = MAP, width: int = 5) -> FeatureEmbedding:
    torch.manual_seed(0)
    embedding = FeatureEmbedding(feature_map, width)
    with torch.no_grad():
        for weight in embedding.parameters():
            weight.normal_()
    return embedding


def test_vectors_are_interpolated_between_those_of_the_edges() -> None:
    """By numpy's interpolation, one field and dimension at a time; constant beyond the edges."""
    embedding = drawn()
    assert embedding.steps is not None
    numbers = torch.from_numpy(np.concatenate([VALUES[:50], 10 * VALUES[:50]])).float()
    found = embedding.fields(rows(numbers)).detach().numpy()
    direction, bias = embedding.direction.detach().numpy(), embedding.bias.detach().numpy()
    for field, name in enumerate(NAMES):
        v, edges = numbers[:, field].numpy(), BINS[name].edges
        for d in range(5):
            expected = v * direction[field, d] + bias[field, d]
            if edges:
                steps = embedding.steps.detach().numpy()[field, : len(edges) - 1, d]
                expected = expected + np.interp(v, edges, np.concatenate([[0.0], np.cumsum(steps)]))
            np.testing.assert_allclose(found[:, field, d], expected, rtol=1e-4, atol=1e-4)


def test_a_missing_number_is_the_mean_of_the_training_rows_plus_a_vector_of_its_own() -> None:
    numbers = torch.from_numpy(VALUES).float()
    means = dict(zip(NAMES, VALUES.mean(axis=0).tolist(), strict=True))
    embedding = drawn(replace(MAP, centres=means))
    assert embedding.missing is not None
    with torch.no_grad():
        mean = embedding.fields(rows(numbers)).mean(dim=0)
        gone = embedding.fields(rows(torch.full((1, 3), torch.nan)))[0]
        torch.testing.assert_close(gone, mean + embedding.missing, rtol=1e-4, atol=1e-4)


def test_one_missing_number_changes_no_other_vector_and_trains_its_own() -> None:
    embedding = drawn()
    numbers = torch.from_numpy(VALUES[:6]).float()
    whole = embedding.fields(rows(numbers))
    numbers = numbers.clone()
    numbers[2, 1] = torch.nan
    holed = embedding.fields(rows(numbers))
    changed = (whole != holed).any(dim=2)
    assert changed.nonzero().tolist() == [[2, 1]]
    holed.sum().backward()
    assert embedding.missing is not None
    assert embedding.missing.grad is not None
    assert embedding.missing.grad.tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5]
    assert all(
        bool(weight.grad.isfinite().all()) for weight in embedding.parameters() if weight.grad is not None
    )


def test_a_model_starts_as_one_without_bins() -> None:
    torch.manual_seed(0)
    with_bins = FeatureEmbedding(MAP, 4)
    torch.manual_seed(0)
    without = FeatureEmbedding(replace(MAP, bins={}), 4)
    batch = rows(torch.from_numpy(VALUES[:20]).float())
    torch.testing.assert_close(with_bins.fields(batch), without.fields(batch))


def test_without_bins_of_an_old_artifact_a_missing_number_is_the_mean_number() -> None:
    old = FeatureEmbedding(replace(MAP, bins={}), 4)
    assert set(old.state_dict()) == {"direction", "bias"}
    gone = old.fields(rows(torch.full((1, 3), torch.nan)))
    torch.testing.assert_close(gone, old.fields(rows(torch.zeros(1, 3))))


def test_first_order_terms_of_numbers_are_piecewise_linear() -> None:
    first_order = FirstOrder(MAP)
    assert first_order.weights.steps is not None
    torch.nn.init.normal_(first_order.weights.steps)
    edges = BINS["price"].edges
    inside = torch.tensor(edges[:-1]) + torch.tensor([[0.25], [0.5], [0.75]]) * torch.tensor(edges).diff()
    numbers = torch.zeros(inside.numel(), 3)
    numbers[:, 0] = inside.flatten()
    low, middle, high = first_order(rows(numbers), None)[:, 0].view(3, -1)
    torch.testing.assert_close(middle, (low + high) / 2, rtol=1e-4, atol=1e-4)
    assert bool(((high - low).diff().abs() > 1e-4).any())


@pytest.mark.parametrize(("most", "largest"), [(0, 0), (4, 4), (32, 16)])
@pytest.mark.parametrize("name", ["lr", "deepfm"])
def test_the_config_sets_the_bins_of_all_embeddings_of_a_model(name: str, most: int, largest: int) -> None:
    config = model_config({"name": name, "embedding": {"bins": most}})
    model = build_model(config, MAP)
    embeddings = [module for module in model.modules() if isinstance(module, FeatureEmbedding)]
    assert [one.numbers.steps for one in embeddings] == [largest] * len(embeddings)
    assert all(one.missing is not None for one in embeddings)
    batch = rows(torch.tensor([[0.5, torch.nan, 0.0]]))
    assert bool(model(batch).logits.isfinite().all())
