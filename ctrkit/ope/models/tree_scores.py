"""Sums of boosted trees for many candidates of a row, much faster than by walking through the trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Booleans, Floats, Integers
from ctrkit.compiled import kernel
from ctrkit.ope.models.reward_features import Features

Bytes = NDArray[np.uint8]

LEAVES = 8
# Number of rows for which the tables are compared with sklearn's own predictions.
CHECKED_ROWS = 500


@dataclass(frozen=True)
class _Feature:
    """One feature as all trees see it.

    Attributes:
        known: the thresholds of the nodes, or the codes of known categories, ascending.
        allowed: [values + 1, T] the leaves that a value allows in each tree, a bit each. A value's
            line is the interval between known numbers that it lies in, or its category; the last line is for
            missing values.
    """

    known: Floats
    is_categorical: bool
    allowed: Bytes

    def line_of(self, values: Floats) -> Integers:
        """The line of `allowed` for each value, [M]."""
        line = np.searchsorted(self.known, values)
        if not self.is_categorical:
            there = ~np.isnan(values)
        elif len(self.known):
            there = self.known[np.minimum(line, len(self.known) - 1)] == values
        else:
            there = np.zeros(len(values), dtype=np.bool_)
        return np.where(there, line, len(self.allowed) - 1)


@dataclass(frozen=True)
class TreeScores:
    """Trees of up to eight leaves as tables of bits: each value of a feature says which leaves it allows.

    After QuickScorer (Lucchese et al., SIGIR 2015). A value of a feature decides every node that tests the
    feature, and so rules out the leaves on the other sides of these nodes. In each tree exactly one leaf is
    allowed by all features, because any two leaves separate at some node. So a candidate's score needs one
    AND for each feature and tree, and the leaves that the context allows are computed once for each row.
    sklearn has no public access to its trees. The tables are read from its private parts and compared with
    its own predictions; where they differ, no tables are made.

    Attributes:
        features: [D] the tables of the features.
        leaves: [T, 256] the value of the leaf that a byte with a single bit stands for.
        baseline: the constant that starts every score.
    """

    features: tuple[_Feature, ...]
    leaves: Floats
    baseline: float

    @classmethod
    def of(cls, model: Any, fitted_on: Features) -> TreeScores | None:
        """The tables of a fitted sklearn histogram model; None where they do not give its predictions."""
        few = fitted_on.of_rows(np.arange(len(fitted_on.context)) < CHECKED_ROWS)
        try:
            found = cls._read(model, fitted_on)
            scores = found(few)
        # A part is missing or renamed, or has another type, shape or field name.
        except (AttributeError, LookupError, TypeError, ValueError):
            return None
        expected = getattr(model, "decision_function", model.predict)(few.matrix)
        return found if np.allclose(scores, expected) else None

    @classmethod
    def _read(cls, model: Any, fitted_on: Features) -> TreeScores:
        trees = [tree for (tree,) in model._predictors]
        below = [_leaves_below(tree.nodes) for tree in trees]
        every = np.array([leaves.max() for leaves in below], dtype=np.uint8)  # the root's
        # sklearn orders categorical features first.
        flags = fitted_on.is_categorical
        order = sorted(range(len(flags)), key=lambda feature_index: not flags[feature_index])
        features = []
        for feature_index, categorical in enumerate(flags):
            column = order.index(feature_index)
            asking = [
                np.flatnonzero((tree.nodes["is_leaf"] == 0) & (tree.nodes["feature_idx"] == column))
                for tree in trees
            ]
            if categorical:
                seen = fitted_on.matrix[:, feature_index]
                known = np.unique(seen[~np.isnan(seen)])
                lines = len(known) + 1
            else:
                asked = [
                    tree.nodes["num_threshold"][nodes] for tree, nodes in zip(trees, asking, strict=True)
                ]
                known = np.unique(np.concatenate([np.empty(0), *asked]))
                lines = len(known) + 2
            allowed = np.tile(every, (lines, 1))
            for number, (tree, nodes) in enumerate(zip(trees, asking, strict=True)):
                for node in tree.nodes[nodes]:
                    left = np.append(_goes_left(tree, node, known), node["missing_go_to_left"] == 1)
                    ruled_out = np.where(left, below[number][node["right"]], below[number][node["left"]])
                    allowed[:, number] &= ~ruled_out.astype(np.uint8)
            features.append(_Feature(known, categorical, allowed))
        leaves = np.zeros((len(trees), 256))
        for number, tree in enumerate(trees):
            leaf = tree.nodes["is_leaf"] == 1
            leaves[number, below[number][leaf]] = tree.nodes["value"][leaf]
        return cls(tuple(features), leaves, float(np.ravel(model._baseline_prediction)[0]))

    def __call__(self, features: Features) -> Floats:
        """Raw scores [M]: log-odds of a classifier, means of a regressor."""
        width = features.context.shape[1]
        context = self._allowed(features.context, self.features[:width])
        # The candidate's features, except its id (the last), need a line of bits for each candidate.
        listed = features.own.shape[1] > 1
        rest = self._allowed(features.own[:, :-1], self.features[width:-1]) if listed else context[:0]
        last = self.features[-1]
        scores = np.full(len(features), self.baseline)
        line = last.line_of(features.own[:, -1])
        _sum_leaves(context, features.row, rest, last.allowed, line, self.leaves, scores)
        return scores

    def _allowed(self, matrix: Floats, features: tuple[_Feature, ...]) -> Bytes:
        """The leaves that all of these features allow, [M, T]."""
        allowed = np.full((len(matrix), len(self.leaves)), 255, dtype=np.uint8)
        for column, feature in zip(matrix.T, features, strict=True):
            allowed &= feature.allowed[feature.line_of(column)]
        return allowed


def _goes_left(tree: Any, node: Any, known: Floats) -> Booleans:
    """Which known values go left at a node, without the missing value: [values]."""
    if node["is_categorical"]:
        bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
        # sklearn stores a category by its rank among the categories of the training data.
        rank = np.arange(len(known))
        return np.asarray((bits[rank // 32] >> (rank % 32).astype(np.uint32)) & 1 == 1)
    return np.asarray(np.arange(len(known) + 1) <= np.searchsorted(known, node["num_threshold"]))


def _leaves_below(nodes: Any) -> Integers:
    """The leaves below each node of a tree, one bit for each leaf."""
    below = np.zeros(len(nodes), dtype=np.int64)
    leaf = nodes["is_leaf"] == 1
    if leaf.sum() > LEAVES:
        raise ValueError(f"a tree has {leaf.sum()} leaves, more than the {LEAVES} that a byte holds")
    below[leaf] = 1 << np.arange(leaf.sum())
    # Children come after their parents.
    for node in reversed(np.flatnonzero(~leaf)):
        below[node] = below[nodes["left"][node]] | below[nodes["right"][node]]
    return below


@kernel(
    "void(u1[:,::1], i8[::1], u1[:,::1], u1[:,::1], i8[::1], f8[:,::1], f8[::1])",
    "leaves: T 256; scores: M; row: M; line: M; context: B T; table: V T; rest?: M T",
)
def _sum_leaves(
    context: Bytes, row: Integers, rest: Bytes, table: Bytes, line: Integers, leaves: Floats, scores: Floats
) -> None:
    """Add to scores [M] the values of the leaves that all features allow.

    Args:
        context: [B, T] leaves that the context allows.
        row: [M] index of each candidate's row.
        rest: [M, T] leaves that the candidates' other features allow; empty if there are none.
        table: [values, T] leaves that the values of the last feature allow.
        line: [M] index into `table` of each candidate.
        leaves: [T, 256] values of the leaves.
        scores: [M] changed in place.
    """
    more = rest.shape[0] > 0
    for m in range(scores.shape[0]):
        total = 0.0
        b, v = row[m], line[m]
        if more:
            for t in range(leaves.shape[0]):
                total += leaves[t, context[b, t] & table[v, t] & rest[m, t]]
        else:
            for t in range(leaves.shape[0]):
                total += leaves[t, context[b, t] & table[v, t]]
        scores[m] += total
