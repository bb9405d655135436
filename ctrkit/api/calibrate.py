"""`ctrkit calibrate`: fits calibrators on held-out rows and stores them in the artifact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ctrkit.api.calibration.of_model import calibrate_model
from ctrkit.api.calibration.result import CalibrateConfig, CalibrationResult
from ctrkit.api.keywords import takes_settings
from ctrkit.api.models.model import Model
from ctrkit.api.run_folder import run_folder
from ctrkit.config import ConfigLike, settings_of
from ctrkit.tables import TableLike


@takes_settings(CalibrateConfig)
def calibrate(
    model: str | os.PathLike[str] | Model = "model.pt",
    data: TableLike | None = None,
    *,
    config: ConfigLike = None,
    overrides: Sequence[str] = (),
    save: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    **keywords: Any,
) -> CalibrationResult:
    """Fit one calibrator per task on held-out rows and store the calibrators in the artifact.

    With the table that the model was trained on, calibrators are fitted on its validation rows and judged on
    its test rows. Any other table is split as the model's config says: one part for the fit, one to judge.
    A task is calibrated on the rows where it can happen (conversions on clicked rows) or, if the settings say
    so, on all impressions. Expected values are multiplied by one factor, from the converted rows.

    Args:
        model: the path of an artifact, or a model in memory, which is calibrated in place.
        data: a labelled table; by default the table that the model was trained on.
        config: a config file, or settings as a mapping.
        overrides: settings as `key=value`, which replace those of the config.
        save: the path of the calibrated artifact; by default the path given as `model`.
        out: the run folder; None for none.

    Example:
        >>> import ctrkit, polars
        >>> rows = polars.read_parquet(ctrkit.sample_logs().files[-1])  # impressions
        >>> model = ctrkit.train(data=rows[:5_000], network="lr", training={"epochs": 1}).trained
        >>> result = ctrkit.calibrate(model, rows[5_000:15_000], method="platt")
        >>> result.tasks["click"].choice.method
        'platt'
    """
    settings = settings_of(CalibrateConfig, config, overrides, keywords)
    with run_folder(out, "calibrate") as run:
        result = calibrate_model(model, data, settings, save)
        run.write(settings, result)
    return result
