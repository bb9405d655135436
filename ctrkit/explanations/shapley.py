"""Shapley values of a row's features, estimated with the package shap."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ctrkit.arrays import Floats, Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.histories import Histories
from ctrkit.explanations.attributions import Attributions
from ctrkit.explanations.extra import require
from ctrkit.explanations.features import assemble
from ctrkit.models import Scorer
from ctrkit.training import predict

EstimatorName: TypeAlias = Literal["permutation", "sampling"]


def shapley_values(
    network: Scorer,
    data: EncodedTable,
    background: EncodedTable,
    *,
    task: int = 0,
    estimator: EstimatorName = "permutation",
    permutations: int = 10,
    seed: int = 0,
) -> Attributions:
    """Shapley values of a task's logit.

    Source: "A Unified Approach to Interpreting Model Predictions" (Lundberg and Lee, NeurIPS 2017). The
    players are the static fields and the history as a whole. The value of a set S of players is the mean
    logit, over the background rows b, of a row with S from the explained row and the rest from b.

    "permutation" is shap's `PermutationExplainer`: it goes through orders of the players forwards and
    backwards, and is exact if features interact at most in pairs. Its shares add up for any number of orders.
    "sampling" is shap's `SamplingExplainer` (Štrumbelj and Kononenko, 2010); shap then adjusts its shares
    so that they add up.

    Args:
        network: the network.
        data: n rows to explain.
        background: the rows to compare with, a few dozen.
        task: the index of the task.
        estimator: "permutation" or "sampling".
        permutations: the number of orders of the players, for each row.
        seed: seed of the orders.

    Raises:
        ConfigError: shap is not installed.
    """
    shap = require("shap", "SHAP")
    fields = data.fields
    players = fields + bool(data.sequences)
    n, others = len(data), len(background)
    both = _stacked(data, background)

    # For shap, a row is the list of the positions of the rows that its units are taken from.
    def logit(index: NDArray[Any]) -> Floats:
        return predict(network, assemble(both, np.asarray(index).astype(np.int64))).logits[:, task]

    rows = np.repeat(np.arange(n)[:, None], players, axis=1)
    behind = np.repeat(np.arange(n, n + others)[:, None], players, axis=1)
    explain = _permutation if estimator == "permutation" else _sampling
    with _left_as_it_was():
        shares = explain(shap, logit, behind, rows, permutations, seed)
    history = shares[:, fields] if players > fields else np.zeros(n)
    base = np.full(n, logit(behind).mean())
    return Attributions(
        shares[:, :fields], history, None, base, predict(network, data).logits[:, task], "shap"
    )


def _permutation(
    shap: Any,
    logit: Callable[..., Floats],
    background: Integers,
    rows: Integers,
    permutations: int,
    seed: int,
) -> Floats:
    """`[n, players]`."""
    masker = shap.maskers.Independent(background, max_samples=len(background))
    explainer = shap.PermutationExplainer(logit, masker, seed=seed)
    evaluations = permutations * (2 * rows.shape[1] + 1)
    return np.asarray(explainer(rows, max_evals=evaluations, silent=True).values, dtype=np.float64)


def _sampling(
    shap: Any,
    logit: Callable[..., Floats],
    background: Integers,
    rows: Integers,
    permutations: int,
    seed: int,
) -> Floats:
    """`[n, players]`."""
    np.random.seed(seed)  # noqa: NPY002  shap draws from numpy's global generator
    explainer = shap.SamplingExplainer(logit, background)
    # An order costs two evaluations per player.
    evaluations = 2 * permutations * rows.shape[1] * len(background)
    found = explainer.shap_values(rows, nsamples=evaluations, silent=True)
    return np.asarray(found, dtype=np.float64)


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """Restore what shap changes in the process: numpy's global generator, warnings and its log level."""
    state = np.random.get_state()  # noqa: NPY002
    log = logging.getLogger("shap")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
        np.random.set_state(state)  # noqa: NPY002


def _stacked(first: EncodedTable, second: EncodedTable) -> EncodedTable:
    """The rows of one table above those of another; labels are left out."""
    return EncodedTable(
        np.concatenate([first.categorical, second.categorical]),
        np.concatenate([first.numeric, second.numeric]),
        {name: Histories.joined([one, second.sequences[name]]) for name, one in first.sequences.items()},
        np.empty((len(first) + len(second), 0), dtype=np.float32),
        np.concatenate([first.weight, second.weight]),
        bags={name: np.concatenate([ids, second.bags[name]]) for name, ids in first.bags.items()},
        bag_weights={
            name: np.concatenate([weights, second.bag_weights[name]])
            for name, weights in first.bag_weights.items()
        },
        vectors={name: one.followed_by(second.vectors[name]) for name, one in first.vectors.items()},
    )
