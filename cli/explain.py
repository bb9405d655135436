"""`ctrkit explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def explain(
    model: Annotated[Path, typer.Argument(help="Artifact to explain.")] = Path("model.pt"),
    data: Annotated[
        Path | None,
        typer.Argument(help="Table, with labels unless --row is given (default: the training table)."),
    ] = None,
    row: Annotated[
        list[int] | None,
        typer.Option(
            "--row", metavar="N", help="Index of a row to explain (the first row is 0); repeatable."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Attribution method: ig, deepshap or shap.", show_default="ig")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task to explain.", show_default="the first")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            metavar="NAME",
            help="Feature to show the partial dependence on; repeatable.",
            show_default="the most important",
        ),
    ] = None,
    out: common.RunFolder = Path("runs/explain"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Show what a model relies on or, with --row, which features and past events made a row's probability."""

    def work(progress: OnStep) -> Result:
        import ctrkit

        return ctrkit.explain(
            model,
            data,
            rows=row or (),
            config=config,
            overrides=overrides or (),
            out=out,
            on_step=progress,
            **common.given(seed=seed, method=method, task=task, features=feature or None),
        )

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=(data,),
        models=(model,),
        config=config,
    )
