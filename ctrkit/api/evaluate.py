"""`ctrkit evaluate`: how good a model is on labelled rows, where it fails, and whether one can bid on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

from ctrkit.api.evaluation.judging import judged
from ctrkit.api.evaluation.of_model import Against, model_predictions
from ctrkit.api.evaluation.of_scores import score_predictions
from ctrkit.api.evaluation.result import EvaluateConfig, EvaluationResult
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model
from ctrkit.api.run_folder import run_folder
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import ConfigError
from ctrkit.progress import OnStep, silent
from ctrkit.tables import TableLike


@takes_settings(EvaluateConfig)
def evaluate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    scores: TableLike | None = None,
    against: Against | TableLike = None,
    segments: Sequence[str] | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    gate: bool = False,
    on_step: OnStep = silent,
    **keywords: Any,
) -> EvaluationResult:
    """Evaluate a model on labelled rows, or a table of scores that any model gave.

    Of the table that the model was trained on, the test rows are evaluated; of any other table, all rows.
    Each task is measured on the rows where it can happen (conversions on clicked rows), and the product of
    all tasks on all rows. Expected values are measured on converted rows, and those of an impression on all
    rows. Rows of one group are treated as dependent.

    A table of scores holds a label and a probability in each row, and where they are known the user, a weight
    and any other columns; a second task has the columns `conversion` and `pcvr`. All its rows are evaluated,
    in the same way. What only a model can tell, such as drift since its training, is left out.

    Args:
        model: an artifact's path, or a model in memory.
        data: a labelled table; by default the table that the model was trained on.
        scores: a table of scores, evaluated in place of a model.
        against: a second artifact, compared with the first on the same rows. The difference is that of two
            artifacts: two trainings of one method differ too. With `seeds` both methods are trained again and
            compared, and a training config will do. With `scores` it is a second table of scores of the same
            rows, or another column of probabilities in the first.
        segments: columns by whose values calibration is shown; by default the setting `fields`.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        out: the run folder; None for none.
        gate: whether the config must have gates; `result.broken` holds those that broke.
        on_step: called with (steps done, number of steps, what is being done).

    Raises:
        ConfigError: unknown metrics in gates, `gate` is set and the config has no gates, `seeds` without
            `against`, or a config as `against` without `seeds`.
        DataError: a faulty table, one class only, a second model with other tasks, or, with `seeds`, a table
            that is not the training table.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> result = ctrkit.evaluate(model, rows[5_000:15_000], gates={"auc": {"minimum": 0.5}}, draws=50)
        >>> [gate.held for gate in result.gates]
        [True]
        >>> shown = {"clicked": [0, 1, 0, 1] * 50, "p": [0.2, 0.7, 0.4, 0.3] * 50}
        >>> found = ctrkit.evaluate(scores=shown, draws=20).tasks["click"]
        >>> found.measured.intervals["auc"].value
        0.75
    """
    settings = settings_of(EvaluateConfig, config, overrides, keywords)
    if gate and not settings.gates:
        raise ConfigError(
            "there are no gates to hold the model against",
            hint="Add for example --set gates.auc.minimum=0.6, or `gates` in the config",
        )
    if segments is not None:
        settings = settings.model_copy(update={"fields": tuple(segments)})
    with run_folder(out, "evaluate") as run:
        if scores is None:
            of = model_predictions(model, data, cast(Against, against), settings, on_step)
        elif data is not None:
            raise ConfigError("scores and data are both given", hint="Give the table of scores alone")
        else:
            of = score_predictions(scores, against, settings.fields or (), settings, on_step)
        result = judged(of, settings, on_step)
        run.write(settings, result)
    return result
