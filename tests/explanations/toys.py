"""Networks and rows small enough to be explained by brute force."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ctrkit.data.encoded import EncodedTable
from ctrkit.data.feature_map import Bag, FeatureMap, VectorField
from ctrkit.data.vectors import Vectors
from ctrkit.models import CtrModel, build_model, model_config
from ctrkit.nn.embedding import FeatureEmbedding
from tests.models.settings import SETTINGS
from tests.padded import histories

FULL = FeatureMap(
    tables={"user": 30, "item": 40, "category": 9},
    categorical={"user": "user", "item": "item", "category": "category"},
    numeric=("price", "age"),
    sequences={"seen_items": "item", "seen_categories": "category"},
    max_length=5,
    target=("item", "category"),
    profile=("user", "age"),
    tasks=("click", "conversion"),
)
MAPS = {
    "full": FULL,
    "no history": replace(FULL, sequences={}, max_length=0, target=(), profile=()),
    "bags": replace(
        FULL, bags={"tags": Bag("item", 3, "mean", True), "kinds": Bag("category", 2, "max")}, sequences={}
    ),
    "vectors": replace(
        FULL,
        bags={"tags": Bag("item", 3)},
        vectors={"image": VectorField(3), "text": VectorField(2, "text", 6)},
        sequences={},
    ),
    "no numeric": replace(FULL, numeric=(), profile=()),
    "no categorical": replace(
        FULL, categorical={}, tables={"item": 40, "category": 9}, target=(), profile=("age",)
    ),
}


def make(content: dict[str, Any], feature_map: FeatureMap = FULL, seed: int = 0) -> CtrModel:
    """A network in evaluation mode with embeddings as large as training makes them: its logits differ by
    whole units, and what is attributed is no rounding error."""
    torch.manual_seed(seed)
    if content["name"] == "lr":  # with weights of its own, as linear terms are 0 until they are fitted
        content = {**SETTINGS["lr"][0], **content}
    network = build_model(model_config(content), feature_map)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, FeatureEmbedding):
                for parameter in module.parameters():
                    parameter *= 5.0
        for layer in network.task_layers:
            layer.weight *= 5.0
    return network.eval()


def rows(feature_map: FeatureMap = FULL, count: int = 7, seed: int = 1) -> EncodedTable:
    """Random rows with histories of every length from none to all of it."""
    generator = np.random.default_rng(seed)
    length = feature_map.max_length
    present = np.arange(length - 1, -1, -1) < (np.arange(count) % (length + 1))[:, None]
    tables = feature_map.tables
    columns = [generator.integers(1, tables[table], count) for table in feature_map.categorical.values()]
    click = generator.integers(0, 2, count)
    labels = np.stack([click, click * generator.integers(0, 2, count)], axis=1)
    return EncodedTable(
        np.stack(columns, axis=1).astype(np.int32) if columns else np.zeros((count, 0), dtype=np.int32),
        generator.normal(size=(count, len(feature_map.numeric))).astype(np.float32),
        {
            name: histories(
                (generator.integers(1, tables[table], (count, length)) * present).astype(np.int32)
            )
            for name, table in feature_map.sequences.items()
        },
        labels[:, : len(feature_map.tasks)].astype(np.float32),
        np.ones(count, dtype=np.float32),
        bags={
            name: generator.integers(0, tables[bag.table], (count, bag.length)).astype(np.int32)
            for name, bag in feature_map.bags.items()
        },
        bag_weights={
            name: generator.random((count, bag.length)).astype(np.float32)
            for name, bag in feature_map.bags.items()
            if bag.weighted
        },
        vectors={
            name: Vectors(generator.normal(size=(count, one.width)).astype(np.float32))
            if one.table is None
            else Vectors(
                generator.normal(size=(one.rows, one.width)).astype(np.float32),
                generator.integers(0, one.rows, count).astype(np.int32),
            )
            for name, one in feature_map.vectors.items()
        },
    )
