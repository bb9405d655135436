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
            help="Parquet or CSV table, or the folder of a data source (default: the sample log)."
        ),
    ] = None,
    config: common.ConfigFile = None,
    model: Annotated[Path, typer.Option(help="File for the artifact.")] = Path("model.pt"),
    out: common.RunFolder = Path("runs/train"),
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
            overrides=overrides or (),
            on_step=progress,
            **common.given(seed=seed),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"model: {model}   report: {out / 'report.html'}",
        tables=(data,),
        config=config,
    )
