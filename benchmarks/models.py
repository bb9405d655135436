"""ctrkit's models beside those of other libraries, and beside each other.

    python benchmarks/models.py peers --data FOLDER [--json FILE]
    python benchmarks/models.py sequence [--json FILE]

FOLDER holds `trivago_impressions.parquet` and `trivago_actions.parquet`. The libraries come with
`pip install ".[peers]"`; those that are not installed are left out. The scan alone, and Mamba beside a
transformer, are measured by `benchmarks/scan.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import typer
from peers import accuracy, speed
from peers.libraries import LIBRARIES, installed
from peers.tables import MODELS
from rich.console import Console
from rich.table import Table
from sequence import memories, memory_table, timing_table, timings
from torch import set_num_threads

Model = StrEnum("Model", list(MODELS))

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()
progress = Console(stderr=True)


@app.callback()
def main() -> None:
    """Measurements of ctrkit's models."""


@app.command()
def peers(
    data: Annotated[Path, typer.Option(help="Folder of the trivago files.", exists=True, file_okay=False)],
    seeds: Annotated[int, typer.Option(help="Trainings of each model for AUC; 0 leaves AUC out.")] = 3,
    repetitions: Annotated[int, typer.Option(help="Timed epochs of each model; 0 leaves speed out.")] = 5,
    jobs: Annotated[int, typer.Option(help="Trainings for AUC at a time.")] = 2,
    model: Annotated[list[Model] | None, typer.Option(help="Models to compare; all by default.")] = None,
    rows: Annotated[int, typer.Option(help="Training rows of an epoch that is timed.")] = 24_576,
    out: Annotated[Path | None, typer.Option("--json", help="Write what was measured here.")] = None,
) -> None:
    """AUC and speed of five models in FuxiCTR, DeepCTR-Torch and torch-rechub, beside ctrkit's."""
    libraries, models = installed(), tuple(one.value for one in model or Model)
    missing = ", ".join(name for name in LIBRARIES if name not in libraries)
    if missing:
        progress.print(f"Not installed, and left out: {missing}")
    scores: list[accuracy.Score] = []
    if seeds:
        for score in accuracy.scores(accuracy.runs(data, libraries, models, seeds), jobs):
            run = score.run
            progress.print(f"{run.data}, {run.model}, {run.library}, seed {run.seed}: {score.auc:.4f}")
            scores.append(score)
        console.print(_auc_table(scores, libraries))
    speeds: list[speed.Speed] = []
    timed = [name for name in speed.MODELS if name in models]
    if repetitions and timed:
        for ids, name in product(speed.IDS, timed):
            progress.print(f"timing {name} with {ids:,} ids")
            speeds += speed.speeds(libraries, ids, name, repetitions, rows, rows // 2)
        console.print(_speed_table(speeds))
    if out is not None:
        measured = {"auc": [_plain(score) for score in scores], "speed": [asdict(one) for one in speeds]}
        out.write_text(json.dumps(measured, indent=2) + "\n")


@app.command()
def sequence(
    repetitions: Annotated[int, typer.Option(help="Of each measurement, in turn.")] = 9,
    threads: Annotated[int, typer.Option(help="Of torch and of ctrkit's kernels.")] = 2,
    out: Annotated[Path | None, typer.Option("--json", help="Write what was measured here.")] = None,
) -> None:
    """Whole MDAF beside whole BST on the layout of Taobao's ad log."""
    set_num_threads(threads)
    found = timings(repetitions)
    console.print(timing_table(found))
    memory = memories()
    console.print(memory_table(memory))
    if out is not None:
        measured = {"seconds": [asdict(one) for one in found], "megabytes": memory}
        out.write_text(json.dumps(measured, indent=2) + "\n")


def _plain(score: accuracy.Score) -> dict[str, Any]:
    run = score.run
    what = {"data": run.data, "model": run.model, "library": run.library, "seed": run.seed}
    return {**what, "auc": score.auc, "parameters": score.parameters}


def _auc_table(scores: Sequence[accuracy.Score], libraries: Sequence[str]) -> Table:
    """ctrkit's mean over seeds, and by how much each other library's mean differs."""
    peers = [name for name in libraries if name != "ctrkit"]
    shown = Table("data", "model", "ctrkit", "± over seeds", *peers)
    shown.title = "test AUC, mean over seeds; of the other libraries the difference from ctrkit"
    aucs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for score in scores:
        of_model = aucs.setdefault((score.run.data, score.run.model), {})
        of_model.setdefault(score.run.library, []).append(score.auc)
    for (data, model), found in aucs.items():
        own = fmean(found["ctrkit"])
        deviation = f"{stdev(found['ctrkit']):.4f}" if len(found["ctrkit"]) > 1 else "—"
        differences = [f"{fmean(found[name]) - own:+.4f}" if name in found else "—" for name in peers]
        shown.add_row(data, model, f"{own:.4f}", deviation, *differences)
    return shown


def _speed_table(speeds: Sequence[speed.Speed]) -> Table:
    """Rows per CPU-second, and how many times its rows ctrkit's row-wise optimizer does."""
    shown = Table("ids", "model", "library", "train, rows/s", "ctrkit is", "inference, rows/s", "ctrkit is")
    shown.title = f"rows per second of CPU time, one thread; '{speed.ROWWISE}' over each"
    own = {(one.ids, one.model): one for one in speeds if one.library == speed.ROWWISE}
    for one in speeds:
        best = own[one.ids, one.model]
        shown.add_row(
            f"{one.ids / 1e6:.2f} M",
            one.model,
            one.library,
            f"{one.train:,.0f}",
            f"{best.train / one.train:.2f} x",
            f"{one.predict:,.0f}",
            f"{best.predict / one.predict:.2f} x",
        )
    return shown


if __name__ == "__main__":
    app()
