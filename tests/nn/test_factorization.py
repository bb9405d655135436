from __future__ import annotations

from itertools import combinations

import pytest
import torch

from ctrkit.errors import ConfigError
from ctrkit.nn.factorization import check_pairs, of_like_length, pair_products


@pytest.mark.parametrize("vectors", [2, 3, 6])
def test_products_are_those_of_all_pairs(vectors: int) -> None:
    torch.manual_seed(0)
    v = torch.randn(4, vectors, 5, dtype=torch.float64)
    expected = torch.zeros(4, 5, dtype=torch.float64)
    for i, j in combinations(range(vectors), 2):
        expected += v[:, i] * v[:, j]
    torch.testing.assert_close(pair_products(v), expected)


def test_sum_of_products_equals_a_peer() -> None:
    interaction = pytest.importorskip("deepctr_torch.layers.interaction")
    torch.manual_seed(0)
    v = torch.randn(7, 5, 3)
    torch.testing.assert_close(pair_products(v).sum(dim=1, keepdim=True), interaction.FM()(v))


def test_normalised_readings_get_the_length_one_and_fields_keep_theirs() -> None:
    torch.manual_seed(0)
    fields = torch.randn(6, 3, 16)
    readings = torch.nn.functional.layer_norm(torch.randn(6, 2, 16), (16,))
    vectors = of_like_length(fields, readings)
    assert torch.equal(vectors[:, :3], fields)
    torch.testing.assert_close(vectors[:, 3:].norm(dim=2), torch.ones(6, 2), rtol=1e-3, atol=0)


@pytest.mark.parametrize("vectors", [0, 1])
def test_pairs_need_two(vectors: int) -> None:
    with pytest.raises(
        ConfigError, match=f"FM multiplies pairs of features, but the number of features is {vectors}"
    ):
        check_pairs("FM", vectors)
    check_pairs("FM", 2)
