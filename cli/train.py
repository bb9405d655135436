"""`ctrkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Table, or the folder of `ctrkit prepare` or of a data source (default: the sample log)."
        ),
    ] = None,
    config: common.ConfigFile = None,
    model: Annotated[Path, typer.Option(help="File for the artifact.")] = Path("model.pt"),
    out: common.RunFolder = Path("runs/train"),
    prepare_data: Annotated[
        bool,
        typer.Option(
            "--prepare-data", help="Prepare the data in the run folder, even if that was done before."
        ),
    ] = False,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate: train and test a model for each of so many folds.")
    ] = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Train a click and conversion model. A killed run continues when it is started again."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.train(
            config,
            data,
            model=model,
            out=out,
            prepare_data=prepare_data,
            overrides=overrides or (),
            on_step=progress,
            **common.given(seed=seed, folds=folds),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"model: {model}   report: {out / 'report.html'}",
        tables=(data,),
        config=config,
    )
