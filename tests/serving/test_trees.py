"""The operator of boosted trees gives what LightGBM gives."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ctrkit.models.tree_text import check_trees, only_trees, trees_of
from ctrkit.serving.trees import tree_graph

lightgbm = pytest.importorskip("lightgbm")
pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROWS = 3000


def columns(seed: int) -> np.ndarray:
    """Two categories, ids, a number, one that may be missing, and one that is missing in no training row."""
    random = np.random.default_rng(seed)
    some = random.normal(size=(3, ROWS))
    some[1, random.random(ROWS) < 0.2] = np.nan
    ids = [random.integers(0, most, ROWS) for most in (5, 63, 900)]
    return np.column_stack([*ids, *some]).astype(np.float32)


def grown(categories: list[int], **settings: Any) -> Any:
    x, random = columns(0), np.random.default_rng(1)
    z = np.isin(x[:, 1], [3, 8, 40, 62]) + x[:, 3] + np.nan_to_num(x[:, 4], nan=2.0)
    given = {"objective": "binary", "num_leaves": 15, "min_data_per_group": 1, "verbose": -1, **settings}
    y = random.random(ROWS) < 1 / (1 + np.exp(1 - z))
    return lightgbm.train(
        {**given, "num_threads": 1}, lightgbm.Dataset(x, y, categorical_feature=categories), 30
    )


def text_of(booster: Any) -> str:
    text = only_trees(booster.model_to_string())
    check_trees(text, 6)
    return text


def logits(trees: list[Any], base: list[float], x: np.ndarray) -> np.ndarray:
    model = tree_graph(trees, base, 18)
    model.ir_version = 10
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"columns": x})[0]
    return found


def test_logits_are_those_of_lightgbm() -> None:
    boosters = [grown([0, 1]), grown([])]
    trees = [trees_of(text_of(one)) for one in boosters]
    assert any(tree.categories for tree in trees[0])
    x = columns(2)
    x[:500][np.random.default_rng(3).random((500, 6)) < 0.3] = np.nan
    x[500:520, :2] = [-1.0, 700.0]  # categories that training did not see
    steps = np.concatenate([tree.threshold for tree in trees[1]]).astype(np.float32)
    x[600 : 600 + steps.size, 3] = steps[: ROWS - 600]  # at thresholds, rounded
    found = logits([*trees, []], [0.25, 0.0, -3.0], x)
    wanted = [one.predict(x, raw_score=True, num_threads=1) for one in boosters]
    np.testing.assert_allclose(found[:, 0], wanted[0] + 0.25, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], wanted[1], atol=1e-12)
    assert (found[:, 2] == -3.0).all()


def test_a_single_leaf_and_an_empty_set_of_categories() -> None:
    x = columns(4)
    leaf = text_of(grown([], min_data_in_leaf=ROWS))
    empty = re.sub(
        "(?m)(?<=^cat_threshold=).*", lambda sets: re.sub("[0-9]", "0", sets[0]), text_of(grown([0, 1]))
    )
    for text in (leaf, empty):
        wanted = lightgbm.Booster(model_str=text).predict(x, raw_score=True, num_threads=1)
        np.testing.assert_allclose(logits([trees_of(text)], [0.0], x)[:, 0], wanted, atol=1e-12)
    assert trees_of(leaf)[0].leaves.size == 1
    assert any((tree.threshold == -np.inf).any() for tree in trees_of(empty))


def test_trees_to_which_zeros_are_missing_are_refused() -> None:
    with pytest.raises(ValueError, match="zeros are missing numbers"):
        trees_of(text_of(grown([], zero_as_missing=True)))
