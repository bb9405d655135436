"""The text form of LightGBM's trees, checked before LightGBM reads it.

LightGBM trusts the text: a damaged one ends the process, and a node that is its own child is never left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrkit.arrays import Booleans, Floats, Integers

_END = "end of trees"
_HEADER = {"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective"}
_HEADER |= {"feature_names", "feature_infos", "tree_sizes"}
# Number of values for a tree of n leaves: n - 1 of each inner node, n of each leaf.
_OF_NODES = {"split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"}
_OF_NODES |= {"internal_value", "internal_weight", "internal_count"}
_OF_LEAVES = {"leaf_value", "leaf_weight", "leaf_count"}
_OF_CATEGORIES = {"cat_boundaries", "cat_threshold"}
_WHOLE = {"split_feature", "decision_type", "left_child", "right_child"} | _OF_CATEGORIES
# Bits of a decision's type: whether the node asks for categories; whether missing numbers go left; and two
# for what is missing: nothing (a NaN is read as 0), 0 or NaN.
_CATEGORICAL, _LEFT, _ZERO, _NAN = 1, 2, 4, 8


@dataclass(frozen=True)
class Tree:
    """A tree of n leaves. Node 0 is its root; a row goes left where the node's question is true.

    Attributes:
        column: column that each inner node asks for, [n - 1].
        threshold: the question of most nodes is whether a number is at most this, [n - 1].
        categories: inner node -> the whole numbers of which its column must be one, for the other nodes.
        missing_left: whether a missing number goes left, [n - 1]; one that is asked for categories does not.
        left: child of each inner node, where the question is true: an inner node, or -1 - i for leaf i.
        right: the other child.
        leaves: what each leaf adds to the logit, [n].
    """

    column: Integers
    threshold: Floats
    categories: dict[int, Integers]
    missing_left: Booleans
    left: Integers
    right: Integers
    leaves: Floats


def only_trees(text: str) -> str:
    """The text without its last part, the settings of the training, which predictions do not need."""
    return text[: text.index(_END)] + _END + "\n"


def check_trees(text: str, columns: int) -> None:
    """Check that a text from `only_trees` holds trees of one logit, whose nodes read known columns.

    Args:
        text: the text.
        columns: number of columns that the trees may read.

    Raises:
        ValueError: it does not; the text must not be given to LightGBM.
    """
    head, *trees = text.split("Tree=")
    first, _, content = head.partition("\n")
    header = _pairs(content)
    wanted = {"num_class": "1", "num_tree_per_iteration": "1", "max_feature_idx": str(columns - 1)}
    _need(first == "tree" and header.keys() == _HEADER, "its header is incomplete")
    _need(all(header[key] == value for key, value in wanted.items()), "it is of other columns or classes")
    _need(header["objective"] == "binary sigmoid:1", "it does not give a logit")
    for key in ("feature_names", "feature_infos"):
        _need(len(header[key].split(" ")) == columns, "it is of other columns")
    _need(bool(trees) and trees[-1].endswith(f"\n{_END}\n"), "its end is missing")
    trees[-1] = trees[-1].removesuffix(f"{_END}\n")
    sizes = [len("Tree=") + len(tree.encode()) for tree in trees]
    _need(header["tree_sizes"].split() == [str(size) for size in sizes], "its trees have other sizes")
    for number, tree in enumerate(trees):
        index, _, content = tree.partition("\n")
        _need(index == str(number), "its trees are not in order")
        try:
            _check_tree(_pairs(content), columns)
        except (KeyError, ValueError) as error:
            raise ValueError(f"tree {number} is damaged ({error})") from error


def trees_of(text: str) -> list[Tree]:
    """The trees of a text that `check_trees` has passed.

    Raises:
        ValueError: zeros are missing numbers to a tree, as training in ctrkit never has it.
    """
    _, *parts = text.removesuffix(f"{_END}\n").split("Tree=")
    return [_tree(_pairs(part.partition("\n")[2])) for part in parts]


def _tree(pairs: dict[str, str]) -> Tree:
    values = {name: _numbers(pairs[name], name) for name in _OF_NODES | {"leaf_value"}}
    nodes = values["leaf_value"].size - 1
    column, decision, left, right = (
        values[name][:nodes].astype(np.int64)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    _need_all(decision & _ZERO == 0, "zeros are missing numbers to it")
    threshold, of_sets = values["threshold"][:nodes], decision & _CATEGORICAL == 1
    at_zero = np.where(decision & _NAN == 0, threshold >= 0.0, decision & _LEFT != 0)
    categories = {}
    if of_sets.any():
        bounds, words = (_numbers(pairs[name], name).astype(np.int64) for name in sorted(_OF_CATEGORIES))
        for node in np.flatnonzero(of_sets).tolist():
            first, last = bounds[int(threshold[node]) :][:2]
            categories[node] = np.flatnonzero(words[first:last, None] >> np.arange(32) & 1)
            if not categories[node].size:  # which no number is in
                del categories[node]
                threshold[node] = -np.inf
    return Tree(column, threshold, categories, at_zero & ~of_sets, left, right, values["leaf_value"])


def _check_tree(tree: dict[str, str], columns: int) -> None:
    leaves, categories = int(tree.pop("num_leaves")), int(tree.pop("num_cat"))
    linear, shrinkage = tree.pop("is_linear"), float(tree.pop("shrinkage"))
    _need(leaves >= 1 and categories >= 0 and linear == "0" and np.isfinite(shrinkage), "its kind")
    values = {name: _numbers(text, name) for name, text in tree.items()}
    known = _OF_NODES | _OF_LEAVES | (_OF_CATEGORIES if categories else set())
    _need(values.keys() == known, "its fields")
    for names, count in ((_OF_NODES, leaves - 1), (_OF_LEAVES, leaves)):
        _need(all(values[name].size == count or (leaves == 1 and not values[name].size)
                  for name in names - {"leaf_value"}), "the number of its values")  # fmt: skip
    _need(values["leaf_value"].size == leaves, "the number of its leaves")
    nodes = np.arange(leaves - 1)
    for side in ("left_child", "right_child"):
        child = values[side]
        # LightGBM numbers a node after its parent; leaf i is written as -1 - i.
        _need_all((child > nodes) & (child < leaves - 1) | (child < 0) & (child >= -leaves), side)
    _need_all((values["split_feature"] >= 0) & (values["split_feature"] < columns), "split_feature")
    decisions = values["decision_type"]
    _need_all((decisions >= 0) & (decisions < 16), "decision_type")
    groups = values["threshold"][decisions.astype(np.int64) & _CATEGORICAL == 1]
    _need_all((groups >= 0) & (groups < categories) & (groups == groups.round()), "threshold")
    if categories:
        bounds, sets = values["cat_boundaries"], values["cat_threshold"]
        _need(bounds.size == categories + 1 and bounds[0] == 0 and bounds[-1] == sets.size, "cat_boundaries")
        _need_all(np.diff(bounds) >= 0, "cat_boundaries")
        _need_all((sets >= 0) & (sets < 2**32), "cat_threshold")


def _pairs(text: str) -> dict[str, str]:
    """The lines `key=value` of a text."""
    lines = [line.split("=", 1) for line in text.strip("\n").split("\n")]
    _need(all(len(line) == 2 for line in lines), "a line is no pair")
    found = {line[0]: line[1] for line in lines}
    _need(len(found) == len(lines), "a key occurs twice")
    return found


def _numbers(text: str, name: str) -> Floats:
    numbers = np.array(text.split(" ") if text else [], dtype=np.int64 if name in _WHOLE else np.float64)
    # A split of missing numbers from all others has the threshold inf.
    at_end = (numbers == np.inf) & (name == "threshold")
    _need_all(np.isfinite(numbers) | at_end, "a number that is not finite")
    return numbers.astype(np.float64)


def _need_all(valid: Booleans, what: str) -> None:
    _need(bool(np.all(valid)), what)


def _need(valid: bool, what: str) -> None:
    if not valid:
        raise ValueError(what)
