"""`ctrkit calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def calibrate(
    model: Annotated[Path, typer.Argument(help="Artifact to calibrate.")] = Path("model.pt"),
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
        str | None, typer.Option(help="Categorical feature whose values may each get their own correction.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", hidden=True, help="The old name of `ctrkit recalibrate`.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="File for the calibrated artifact (default: replace the model).")
    ] = None,
    out: common.RunFolder = Path("runs/calibrate"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Fit calibrators on held-out rows, and show calibration before and after on other held-out rows."""

    def work(progress: OnStep) -> Result:
        import ctrkit
        from ctrkit.errors import ConfigError

        options: dict[str, Any] = {
            "config": config, "overrides": overrides or (), "save": save, "out": out,
            **common.given(seed=seed, method=method, field=field),
        }  # fmt: skip
        if not update:
            return ctrkit.calibrate(model, data, **options)
        common.tell_renamed("recalibrate")
        if data is None:
            raise ConfigError("--update needs new rows", hint="Give a labelled table as DATA")
        return ctrkit.recalibrate(model, data, **options)

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"model: {save or model}   report: {out / 'report.html'}",
        tables=(data,),
        models=(model,),
        config=config,
    )
