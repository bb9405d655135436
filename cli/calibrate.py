"""`ctrkit calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


_RUN, _CALIBRATOR = Path("runs/calibrate"), Path("calibrator.json")


def calibrate(
    model: Annotated[Path | None, typer.Argument(help="Artifact to calibrate (default: model.pt).")] = None,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled table (default: held-out rows of the training table).")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="auto, identity, temperature, platt, beta, isotonic, histogram, venn-abers, field-aware, …",
            show_default="auto",
        ),
    ] = None,
    field: Annotated[
        str | None,
        typer.Option(
            help="Categorical feature, or column of scores, whose values may get a correction each."
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="File for the calibrated artifact (default: replace the model).")
    ] = None,
    scores: common.Scores = None,
    label: common.Label = None,
    probability: common.Probability = None,
    weight: common.Weight = None,
    logits: common.Logits = False,
    map: common.ColumnMap = None,
    calibrator: common.CalibratorFile = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="A table of predictions to calibrate with the new calibrator, or that of --calibrator.",
            rich_help_panel=common.OF_SCORES,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="File for the calibrated table (default: the name of that table with .calibrated).",
            rich_help_panel=common.OF_SCORES,
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the report and the results of the run; with --scores also the file for the "
            "calibrator (default: calibrator.json)."
        ),
    ] = _RUN,
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Fit calibrators on held-out rows, and show calibration before and after on other held-out rows."""
    artifact, folder, kept = model or common.MODEL, out, save
    of_scores = scores is not None or calibrator is not None
    if scores is not None:
        # A path with an ending is a file: `--out calibrator.json`.
        folder = _RUN if save is None and out.suffix else out
        kept = save or (out if out.suffix else _CALIBRATOR if out == _RUN else out / _CALIBRATOR)
    where = f"calibrator: {kept}   " if scores is not None else f"model: {save or artifact}   "

    def work(progress: OnStep) -> Result:
        import ctrkit

        options: dict[str, Any] = {
            "config": config, "overrides": overrides or (), "save": kept, "out": folder,
            **common.given(seed=seed, method=method, field=field),
        }  # fmt: skip
        common.need_one(model, scores or calibrator)
        return ctrkit.calibrate(
            artifact, data, scores=scores, calibrator=calibrator, apply=apply, to=to, **options,
            **common.of_scores(label, probability, weight, map, logits=logits),
        )  # fmt: skip

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"{where if calibrator is None else ''}report: {folder / 'report.html'}",
        tables=(data, scores, apply),
        models=() if of_scores else (artifact,),
        config=config,
    )
