"""`ctrkit calibrate`: fits calibrators on held-out rows, for an artifact or for a table of scores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from ctrkit.api.calibration.of_model import calibrate_model
from ctrkit.api.calibration.of_scores import apply_calibrator, calibrate_scores, calibrate_table
from ctrkit.api.calibration.result import CalibrateConfig, CalibrationResult
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model
from ctrkit.api.run_folder import run_folder
from ctrkit.api.scores.calibrator import ScoreCalibrator
from ctrkit.api.scores.columns import ScoreColumns
from ctrkit.config import ConfigLike, settings_of
from ctrkit.errors import ConfigError
from ctrkit.tables import TableLike

__all__ = ["calibrate", "calibrate_scores"]


@takes_settings(CalibrateConfig)
def calibrate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    scores: TableLike | None = None,
    calibrator: str | os.PathLike[str] | ScoreCalibrator | None = None,
    apply: TableLike | None = None,
    to: str | os.PathLike[str] | None = None,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> CalibrationResult:
    """Fit one calibrator per task on held-out rows, and store them in the artifact or in a file.

    With the table that the model was trained on, calibrators are fitted on its validation rows and judged on
    its test rows. Any other table is split as the model's config says: one part for the fit, one to judge.
    A task is calibrated on the rows where it can happen (conversions on clicked rows) or, if the settings say
    so, on all impressions. Expected values are multiplied by one factor, from the converted rows.

    A table of scores, of a model of any kind, is divided in the same way: by time if it has times, else at
    random, with the rows of a user together. Its calibrators are kept in a file of their own, which
    `ScoreCalibrator.load` reads and `ctrkit.simulate_bidding` takes; see also `ctrkit.calibrate_scores`.

    Args:
        model: the path of an artifact, or a model in memory, which is calibrated in place.
        data: a labelled table; by default the table that the model was trained on.
        scores: a table of scores, calibrated in place of a model.
        calibrator: a calibrator of an earlier table of scores, or its file, to apply.
        apply: a table to which the calibrator of `scores`, or `calibrator`, is applied; calibrated
            probabilities are written beside its columns.
        to: the file for that table; by default its name with `.calibrated` before the ending.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        save: the path of the calibrated artifact, by default the path given as `model`; with `scores`, the
            path of the calibrator, by default none.
        out: the run folder; None for none.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr").trained
        >>> result = ctrkit.calibrate(model, rows[5_000:15_000], method="platt")
        >>> result.tasks["click"].choice.method
        'platt'
    """
    settings = settings_of(CalibrateConfig, config, overrides, keywords)
    with run_folder(out, "calibrate") as run:
        if scores is None and calibrator is None:
            if apply is not None:
                raise ConfigError("there is no calibrator to apply", hint="Give `scores` or `calibrator`")
            result = calibrate_model(model, data, settings, save)
        else:
            result = _of_scores(scores, calibrator, data, apply, to, settings, save)
        run.write(settings, result)
    return result


def _of_scores(
    scores: TableLike | None,
    calibrator: str | os.PathLike[str] | ScoreCalibrator | None,
    data: TableLike | None,
    apply: TableLike | None,
    to: str | os.PathLike[str] | None,
    settings: CalibrateConfig,
    save: str | os.PathLike[str] | None,
) -> CalibrationResult:
    """A new calibrator from a table of scores or an earlier one, and its use on another table."""
    if data is not None:
        raise ConfigError("scores and data are both given", hint="Give the table of scores alone")
    if scores is not None and calibrator is not None:
        raise ConfigError("scores and a calibrator are both given", hint="Leave one of them out")
    if scores is None and apply is None:
        raise ConfigError("there is no table to apply the calibrator to", hint="Give it as `apply`")
    if scores is not None:
        result = calibrate_table(scores, settings, save)
    else:
        held = calibrator if isinstance(calibrator, ScoreCalibrator) else None
        held = held or ScoreCalibrator.load(cast("str | os.PathLike[str]", calibrator))
        result = CalibrationResult(None, {}, (), calibrator=held)
    if apply is not None and result.calibrator is not None:
        # The new table has no labels, and may have other names for the rest.
        columns = ScoreColumns(map=settings.roles, logits=settings.logits)
        written = tuple(apply_calibrator(result.calibrator, apply, columns, to))
        result = replace(result, written=written)
    return result
