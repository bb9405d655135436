"""Training of boosted trees: early stopping on the validation rows, which also choose the settings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctrkit.arrays import Integers
from ctrkit.data.encoded import EncodedTable
from ctrkit.data.split import Split
from ctrkit.models.lightgbm import LightGBM
from ctrkit.nn.batches import batches_of
from ctrkit.progress import OnStep, silent
from ctrkit.training.linear_start import possible_rows
from ctrkit.training.loop import TrainingHistory, weighted

# Trees between two entries of the history.
_EVERY = 10


def fit_trees(
    model: LightGBM, data: EncodedTable, split: Split, *, seed: int, on_step: OnStep = silent
) -> TrainingHistory:
    """Train the trees of every task, in place.

    A task is trained on the rows where it can happen, weighted. A task without training or validation rows of
    both labels keeps its base rate. For each pair of settings that the config lists, trees are added until
    the validation loss has not fallen for a while; the pair with the lowest loss is kept.

    Args:
        model: the model.
        data: the encoded rows.
        split: which rows are for training and for validation.
        seed: random seed.
        on_step: called after every tree.

    Returns:
        The losses of the first task by the number of trees.

    Raises:
        DataError: no training row or no validation row has a positive weight.
    """
    rows, valid = weighted(split.train, data, "training"), weighted(split.valid, data, "validation")
    columns = {part: columns_of(model, data, chosen) for part, chosen in (("train", rows), ("valid", valid))}
    events: list[dict[str, Any]] = []
    notes = []
    for task, name in enumerate(model.feature_map.tasks):
        training = _Side.of(data, rows, columns["train"], task)
        validation = _Side.of(data, valid, columns["valid"], task)
        if min(np.unique(side.labels).size for side in (training, validation)) < 2:
            notes.append(f"{name}: there are too few rows to train trees on, so it keeps its base rate.")
            if not task:
                events = [{"trees": 0, "validation_loss": _loss(validation, model.logits[0])}]
            continue
        best, losses = _grown(model, training, validation, name, seed, on_step)
        model.take_trained(task, best, len(losses))
        if not task:
            every = [*range(_EVERY, len(losses), _EVERY), len(losses)]
            events = [{"trees": number, "validation_loss": losses[number - 1]} for number in every]
    return TrainingHistory(events, "log_loss", False, tuple(notes), "trees")


@dataclass(frozen=True)
class _Side:
    """Rows where a task can happen.

    Attributes:
        columns: what trees read, `[n, C]`.
        labels: 0 or 1, `[n]`.
        weight: `[n]`, above 0.
    """

    columns: NDArray[np.float32]
    labels: NDArray[np.float32]
    weight: NDArray[np.float32]

    @classmethod
    def of(cls, data: EncodedTable, rows: Integers, columns: NDArray[np.float32], task: int) -> _Side:
        at = possible_rows(data, rows, task)
        return cls(columns[at], data.labels[rows[at], task], data.weight[rows[at]])


def _grown(
    model: LightGBM, training: _Side, validation: _Side, task: str, seed: int, on_step: OnStep
) -> tuple[Any, list[float]]:
    """The best booster, and its loss on the validation rows by the number of trees, up to the lowest."""
    config, library = model.config, model.library
    few = [place for place, size in enumerate(model.sizes) if size < config.few_values]
    settings = {
        "objective": "binary", "metric": "binary_logloss", "learning_rate": config.learning_rate,
        "min_data_in_leaf": config.rows_of_leaf, "bagging_fraction": config.row_share, "bagging_freq": 1,
        "feature_fraction": config.column_share, "seed": seed, "deterministic": True,
        "force_row_wise": True, "num_threads": torch.get_num_threads(), "verbose": -1,
    }  # fmt: skip
    found = []
    for as_categories, leaves in product(config.categories, config.leaves):
        losses: dict[str, dict[str, list[float]]] = {}

        def step(state: Any, leaves: int = leaves) -> None:
            on_step(state.iteration + 1, config.rounds, f"{task}: trees of {leaves} leaves")

        rows, held_out = (
            library.Dataset(
                side.columns,
                side.labels,
                weight=side.weight,
                categorical_feature=few if as_categories else [],
                params=settings,
            )
            for side in (training, validation)
        )
        booster = library.train(
            {**settings, "num_leaves": leaves},
            rows,
            config.rounds,
            valid_sets=[held_out.set_reference(rows)],
            callbacks=[
                library.early_stopping(config.patience, verbose=False),
                library.record_evaluation(losses),
                step,
            ],
        )
        of_rounds = losses["valid_0"]["binary_logloss"][: booster.best_iteration]
        found.append((of_rounds[-1], booster, of_rounds))
    _, booster, of_rounds = min(found, key=lambda one: one[0])
    return booster, of_rounds


def _loss(side: _Side, logit: float) -> float:
    """The log loss of one logit for all rows."""
    return float(np.average(np.logaddexp(0.0, logit) - side.labels * logit, weights=side.weight))


def columns_of(model: LightGBM, data: EncodedTable, rows: Integers) -> NDArray[np.float32]:
    """What trees read of some rows, `[n, columns]`."""
    columns = np.empty((rows.size, model.columns), dtype=np.float32)
    for part, batch in batches_of(data, rows):
        columns[part] = model.read(batch, batch.sequences).numpy()
    return columns
