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
    model: Annotated[Path | None, typer.Argument(help="Artifact to evaluate (default: model.pt).")] = None,
    data: Annotated[
        Path | None, typer.Argument(help="Labelled table (default: the test rows of the training table).")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Second artifact or table of scores, compared on the same rows; with --seeds also a config."
        ),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN,...",
            help="Columns by whose values calibration is shown (default: the model's categorical features).",
        ),
    ] = None,
    scores: common.Scores = None,
    label: common.Label = None,
    probability: common.Probability = None,
    weight: common.Weight = None,
    logits: common.Logits = False,
    map: common.ColumnMap = None,
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
    """Measure a model on held-out rows, or a table of scores, and say whether it is fit to bid on."""
    broken: list[str] = []

    def work(progress: OnStep) -> Result:
        import ctrkit

        common.need_one(model, scores)
        result = ctrkit.evaluate(
            model or common.MODEL,
            data,
            scores=scores,
            against=against if against is None or scores is None else str(against),
            segments=common.listed(segments),
            config=config,
            overrides=overrides or (),
            out=out,
            gate=gate,
            on_step=progress,
            **common.given(seed=seed, seeds=seeds),
            **common.of_scores(label, probability, weight, map, logits=logits),
        )
        broken.extend(outcome.reason for outcome in result.broken)
        return result

    common.execute(
        common.Output(json, quiet, debug),
        work,
        where=f"report: {out / 'report.html'}",
        tables=(data, scores),
        models=(model or common.MODEL, against) if scores is None else (),
        config=config,
    )
    if gate:
        common.end_if_broken(broken)
