"""`ctrkit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctrkit.cli import common
from ctrkit.progress import OnStep

if TYPE_CHECKING:
    from ctrkit.api.results import Result


def evaluate(
    model: Annotated[Path, typer.Argument(help="Artifact to evaluate.")] = Path("model.pt"),
    data: Annotated[
        Path | None, typer.Argument(help="Labelled table (default: the test rows of the training table).")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Second artifact, compared with the first on the same rows; with --seeds also a config."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Train both methods again with so many seeds, and compare the methods."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Exit with code 1, after the report, if a gate of the config is broken."),
    ] = False,
    out: common.RunFolder = Path("runs/evaluate"),
    config: common.ConfigFile = None,
    overrides: common.Overrides = None,
    seed: common.Seed = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
    debug: common.Debug = False,
) -> None:
    """Measure a model on held-out rows, and say whether it is fit to bid on, and where it is not."""
    broken: list[str] = []

    def work(progress: OnStep) -> Result:
        import ctrkit

        result = ctrkit.evaluate(
            model,
            data,
            against=against,
            config=config,
            overrides=overrides or (),
            out=out,
            gate=gate,
            on_step=progress,
            **common.given(seed=seed, seeds=seeds),
        )
        broken.extend(outcome.reason for outcome in result.broken)
        return result

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=(data,),
        models=(model, against),
        config=config,
    )
    if gate and broken:
        for reason in broken:
            common.tell(f"gate broken: {reason}")
        raise typer.Exit(1)
