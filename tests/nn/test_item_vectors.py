from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ctrkit.data.feature_map import FeatureMap
from ctrkit.nn.item_vectors import WIDTH, ItemVectors

MAP = FeatureMap(
    tables={"user": 60, "item": 70, "kind": 12},
    categorical={"user": "user", "item": "item", "kind": "kind"},
    sequences={"items": "item", "kinds": "kind"},
    max_length=5,
    target=("item", "kind"),
)


def test_products_are_those_of_loops() -> None:
    items = ItemVectors(MAP)
    assert (items.pairs, items.sizes, items.outputs) == ({"items": 1}, (70,), WIDTH)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(70, WIDTH))
    vectors[:2] = 0.0
    items.vectors.copy_(torch.from_numpy(vectors))
    events = np.array([[0, 0, 0, 0, 0], [0, 0, 1, -9, 5], [7, 8, 9, 7, 8]])
    targets = np.stack([np.zeros(6), [5, 9, 5, -9, 8, 69], np.zeros(6)], axis=1)
    found = items({"items": torch.from_numpy(events)}, torch.from_numpy(targets).int())
    for row, (_, target, _) in enumerate(targets.astype(int)):
        known = [event for event in events[row // 2] if event >= 2]
        history = sum((vectors[event] for event in known), np.zeros(WIDTH)) / np.sqrt(max(len(known), 1))
        expected = history * (vectors[target] if target >= 2 else 0.0)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)


def test_small_tables_and_other_targets_have_none() -> None:
    none = ItemVectors(replace(MAP, sequences={"kinds": "kind"}))
    assert (none.outputs, none({}, torch.zeros(4, 3, dtype=torch.int32)).shape) == (0, (4, 0))
    assert ItemVectors(replace(MAP, target=("kind",))).outputs == 0
