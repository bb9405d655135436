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
        Path | None, typer.Argument(help="Parquet or CSV table, or a source's folder; else the sample.")
    ] = None,
    config: common.ConfigFile = None,
    model: Annotated[Path, typer.Option(help="Where the artifact goes.")] = Path("model.pt"),
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/train"),
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Train a click and conversion model; a killed run goes on where it was when started again."""

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
