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
    model: Annotated[Path, typer.Argument(help="The artifact.")] = Path("model.pt"),
    data: Annotated[
        Path | None, typer.Argument(help="A table, labelled without --row; else the training table.")
    ] = None,
    row: Annotated[
        list[int] | None,
        typer.Option("--row", metavar="N", help="Explain this row of the table, from 0; repeatable."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Of attributions: ig, deepshap or shap.", show_default="ig")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task to explain.", show_default="the first")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            "--feature",
            metavar="NAME",
            help="Show partial dependence on it; repeatable.",
            show_default="the most important",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/explain"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Show what a model goes by or, with --row, which features and past events made a row's probability."""

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
