"""The predictions of a model on labelled rows, for an evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from ctrkit.api.evaluation.judging import Predictions, clicks_and_money, gate_names
from ctrkit.api.evaluation.methods import compare_trainings, is_config
from ctrkit.api.evaluation.result import EvaluateConfig
from ctrkit.api.evaluation.rows import (
    HeldOut,
    by_task,
    divisions_of,
    drift_since_training,
    held_out_rows,
    seen_by_other,
    unknown_since_training,
)
from ctrkit.api.evaluation.value import GATED, evaluate_values
from ctrkit.api.models.labelled import columns_of
from ctrkit.api.models.model import Model, load
from ctrkit.api.scores.columns import rows_not_scores
from ctrkit.config import Config
from ctrkit.errors import ConfigError, DataError
from ctrkit.evaluation.gates import need_known
from ctrkit.progress import OnStep
from ctrkit.schema import require_columns
from ctrkit.tables import TableLike

_ARTIFACTS = (
    "The differences are those of two artifacts, not of two methods: two trainings of one method with other "
    "seeds differ too, often with a small p-value."
)
_ADD_SEEDS = "To compare the methods, add `--seeds 5`."
_METHODS = (
    "Both methods were trained {seeds} times, each time with another seed, on the model's training rows. The "
    "interval over seeds is for other seeds and the same test rows; the interval over rows is for other test "
    "rows and the same networks. Neither is for other training rows. Metrics are those before calibration."
)

# An artifact or, with `seeds`, also a training config: its path, or in memory.
Against: TypeAlias = "str | os.PathLike[str] | Model | Config | Mapping[str, Any] | None"


def model_predictions(
    model: str | os.PathLike[str] | Model,
    data: TableLike | None,
    against: Against,
    settings: EvaluateConfig,
    on_step: OnStep,
) -> Predictions:
    """The predictions of a model on its test rows or on a table, and of the model to compare with.

    Args:
        model: an artifact's path, or a model in memory.
        data: a labelled table; None for the test rows of the training table.
        against: what to compare with.
        settings: how to evaluate.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: unknown metrics in gates, or `seeds` and `against` that do not go together.
        DataError: a faulty table, or a second model with other tasks.
    """
    settings.need_scores()
    loaded = model if isinstance(model, Model) else load(model)
    _check_seeds(settings, against)
    second = _opened(against)
    if second is not None and second.tasks != loaded.tasks:
        raise DataError(
            f"the model predicts {', '.join(loaded.tasks)}, and the one to compare with predicts"
            f" {', '.join(second.tasks)}",
            hint="Compare models with the same tasks",
        )
    of_value = () if loaded.spec.value is None else GATED
    need_known(settings.gates, [*gate_names(loaded.tasks, second is not None), *of_value])
    methods = None
    if settings.seeds is not None and against is not None:
        seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
        other = against if second is None else second
        methods = compare_trainings(loaded, other, data, seeds, settings.confidence, on_step)
    on_step(0, len(loaded.tasks) + 3, "reading")
    with rows_not_scores(data):
        rows = held_out_rows(loaded, data)
    fields = settings.fields or tuple(feature.name for feature in loaded.spec.categorical)
    require_columns(rows.table, fields, rows.file)
    money, immature = money_of(loaded, rows, settings.columns)
    drifts, undrifted = drift_since_training(loaded, rows)
    unknown = unknown_since_training(loaded, rows)
    divisions, uncounted = divisions_of(loaded, rows, settings.parts)
    leaked = () if second is None else seen_by_other(second, rows.table, rows.file)
    compared = [_ARTIFACTS] if second is not None else []
    if methods is not None:
        compared.append(_METHODS.format(seeds=settings.seeds))
    elif second is not None and loaded.network.trained_here and second.network.trained_here:
        compared.append(_ADD_SEEDS)
    return Predictions(
        name_of_model(model),
        None if second is None else name_of_model(against),
        rows.file,
        loaded.spec.labels,
        by_task(loaded, second, rows, fields, divisions),
        columns_of(loaded),
        money,
        (*rows.notes, *immature, *compared, *leaked, *undrifted, *uncounted),
        drifts,
        unknown,
        rows.leaks,
        evaluate_values(loaded, rows, settings.confidence),
        methods,
        rows.seen,
        sampled=rows.sampled,
    )


def money_of(
    model: Model, rows: HeldOut, columns: Mapping[str, str]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Clicks and money of the rows whose labels are all known, and a note if some are not.

    So a click that may still convert lowers no rate, and an event after its window counts as none.

    Args:
        model: the model.
        rows: the rows.
        columns: the log's names of money and counts.
    """
    spec, known = model.spec, np.asarray(~np.isnan(rows.labels).any(axis=1))
    labels = zip(spec.labels.values(), rows.labels.T, strict=True)
    table = rows.table.with_columns(pl.Series(name, of_task) for name, of_task in labels)
    values = None if rows.values is None else rows.values[known]
    money = clicks_and_money(
        table.filter(known), spec.labels, columns, rows.weight[known], spec.value, values
    )
    told = (
        f"Clicks and money are those of {known.sum():,} of {known.size:,} rows: the others have not matured."
    )
    return money, () if known.all() else (told,)


def _check_seeds(settings: EvaluateConfig, against: Against) -> None:
    """Check that seeds come with another method, and a config as the other method with seeds."""
    if settings.seeds is not None and against is None:
        raise ConfigError(
            "seeds are for the comparison of two methods, and there is one",
            hint="Name the other artifact, or its config, as --against",
        )
    if settings.seeds is None and is_config(against):
        raise ConfigError(
            "the other model is given as a config, which has no predictions",
            hint="Add --seeds 5, to train both methods and compare them, or give an artifact",
        )


def _opened(against: Against) -> Model | None:
    """The other artifact; None where there is none, or where the other method is a config."""
    if isinstance(against, Model):
        return against
    return load(against) if isinstance(against, str | os.PathLike) and not is_config(against) else None


def name_of_model(model: Against) -> str:
    """A model's path, for reports."""
    return os.fspath(model) if isinstance(model, str | os.PathLike) else "a model in memory"
