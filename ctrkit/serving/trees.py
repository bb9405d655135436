"""Boosted trees as one operator of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.extras import require
from ctrkit.models.tree_text import Tree
from ctrkit.serving.sessions import EXTRA

# The operator's domain, and the first version in which it has 64 bits and sets of categories.
DOMAIN, VERSION = "ai.onnx.ml", 5
# How a node asks: whether a number is at most the threshold, or whether it is in a set.
_AT_MOST, _IN_SET = 0, 6
_NONE = np.empty(0, np.int64)
# For a task without trees.
_NOTHING = Tree(_NONE, np.empty(0), {}, np.empty(0, np.bool_), _NONE, _NONE, leaves=np.zeros(1))


def tree_graph(trees: Sequence[Sequence[Tree]], logits: Sequence[float], opset: int) -> Any:
    """An ONNX model from `columns`, float32 `[n, C]`, to `found`, the logits float64 `[n, T]`.

    Numbers have 64 bits in it, as in LightGBM: sums of thousands of trees would lose digits in 32, and a
    number that equals a threshold could take the other way.

    Args:
        trees: the trees of each of T tasks.
        logits: what the trees of a task add to, or the logit of a task without trees, [T].
        opset: version of ONNX's own operators.
    """
    onnx = require("onnx", "an export to ONNX", EXTRA)
    helper, kinds = onnx.helper, onnx.TensorProto
    attributes = {
        name: onnx.numpy_helper.from_array(value, name) if isinstance(value, np.ndarray) else value
        for name, value in _attributes(trees).items()
    }
    nodes = [
        helper.make_node("Cast", ["columns"], ["wide"], to=kinds.DOUBLE),
        helper.make_node("TreeEnsemble", ["wide"], ["sums"], domain=DOMAIN, **attributes),
        helper.make_node("Add", ["sums", "base"], ["found"]),
    ]
    base = onnx.numpy_helper.from_array(np.asarray(logits, np.float64), "base")
    columns = helper.make_tensor_value_info("columns", kinds.FLOAT, ["n", None])
    found = helper.make_tensor_value_info("found", kinds.DOUBLE, ["n", len(trees)])
    versions = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)]
    graph = helper.make_graph(nodes, "trees", [columns], [found], [base])
    return helper.make_model(graph, opset_imports=versions)


def _attributes(trees: Sequence[Sequence[Tree]]) -> dict[str, Any]:
    """The attributes of the operator `TreeEnsemble`: tensors as arrays, and lists of whole numbers.

    The nodes of all trees stand one after the other, and so do the leaves.
    """
    tasks = [task for task, own in enumerate(trees) for _ in own or [_NOTHING]]
    each = [_rooted(tree) for own in trees for tree in own or [_NOTHING]]
    first_node = [*accumulate((tree.column.size for tree in each), initial=0)][:-1]
    first_leaf = [*accumulate((tree.leaves.size for tree in each), initial=0)][:-1]

    def joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([*parts])

    def children(sides: Sequence[Integers]) -> dict[str, list[int]]:
        """The children of all nodes as positions, and which of them are leaves."""
        starts = zip(sides, first_node, first_leaf, strict=True)
        places = (np.where(side < 0, leaf - 1 - side, node + side) for side, node, leaf in starts)
        return {"nodeids": joined(places).tolist(), "leafs": (joined(sides) < 0).astype(int).tolist()}

    sets = [tree.categories[node] for tree in each for node in sorted(tree.categories)]
    left, right = children([tree.left for tree in each]), children([tree.right for tree in each])
    found: dict[str, Any] = {
        "n_targets": len(trees),
        "tree_roots": first_node,
        "nodes_featureids": joined([tree.column for tree in each]).tolist(),
        "nodes_modes": joined([_modes(tree) for tree in each]),
        "nodes_splits": joined([tree.threshold for tree in each]),
        "nodes_missing_value_tracks_true": joined([tree.missing_left for tree in each]).astype(int).tolist(),
        **{f"nodes_true{what}": values for what, values in left.items()},
        **{f"nodes_false{what}": values for what, values in right.items()},
        "leaf_weights": joined([tree.leaves for tree in each]),
        "leaf_targetids": np.repeat(tasks, [tree.leaves.size for tree in each]).tolist(),
    }
    if sets:
        found["membership_values"] = joined([np.append(one.astype(np.float64), np.nan) for one in sets])
    return found


def _rooted(tree: Tree) -> Tree:
    """The tree, with a node in front of a single leaf, as the operator needs one."""
    if tree.column.size:
        return tree
    to_leaf, no = np.array([-1]), np.zeros(1, np.bool_)
    return replace(
        tree, column=to_leaf + 1, threshold=np.zeros(1), missing_left=no, left=to_leaf, right=to_leaf
    )


def _modes(tree: Tree) -> NDArray[np.uint8]:
    modes = np.full(tree.column.size, _AT_MOST, np.uint8)
    modes[list(tree.categories)] = _IN_SET
    return modes
