"""Calibration and its metrics: speed beside other libraries, and truth on a market that knows it.

    python benchmarks/calibration.py fits        isotonic, Platt and temperature beside scikit-learn and scipy
    python benchmarks/calibration.py metrics     AUC, GAUC and ECE at ten million rows
    python benchmarks/calibration.py market      calibrated probabilities beside the true ones
    python benchmarks/calibration.py coverage    how often 95 % intervals hold the truth

GAUC is compared with FuxiCTR's where that is installed (`pip install ".[peers]"`).
"""

from __future__ import annotations

from statistics import median
from typing import Annotated

import typer
from calibration_coverage import coverage as coverages
from calibration_fits import fits as all_fits
from calibration_metrics import metrics as all_metrics
from calibration_truth import distances
from rich.console import Console
from rich.table import Table

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()

Rows = Annotated[int, typer.Option(help="Rows.")]
Repetitions = Annotated[int, typer.Option(help="Of which the median is shown.")]


@app.callback()
def main() -> None:
    """Measurements of calibrators and metrics."""


@app.command()
def fits(rows: Rows = 10_000_000, repetitions: Repetitions = 3) -> None:
    """Fits of the same rows, in turn with the peer."""
    shown = Table("calibrator", "ctrkit, s", "peer", "peer, s", "ctrkit is", "log loss less the peer's")
    shown.title = f"fits of {rows:,} rows, medians of {repetitions}"
    for one in all_fits(rows, repetitions):
        own, peer = median(one.own_seconds), median(one.peer_seconds)
        difference = f"{one.own_loss - one.peer_loss:+.1e}"
        shown.add_row(one.what, f"{own:.2f}", one.peer, f"{peer:.2f}", f"{peer / own:.1f} x", difference)
    console.print(shown)


@app.command()
def metrics(
    rows: Rows = 10_000_000,
    peer_rows: Annotated[
        int, typer.Option(help="Rows of the comparison with FuxiCTR; 0 for none.")
    ] = 200_000,
    repetitions: Repetitions = 3,
) -> None:
    """Seconds, and how far the values are from those of others."""
    shown = Table("metric", "rows", "ctrkit, s", "beside", "ctrkit is", "difference")
    shown.title = f"medians of {repetitions}"
    for one in all_metrics(rows, peer_rows, repetitions):
        ratio = f"{one.ratio:,.1f} x" if one.ratio else ""
        difference = "" if one.difference is None else f"{one.difference:.1e}"
        shown.add_row(one.what, f"{one.rows:,}", f"{one.seconds:.3f}", one.beside, ratio, difference)
    console.print(shown)


@app.command()
def market(
    rows: Rows = 400_000,
    kept: Annotated[float, typer.Option(help="Share of the negatives that is trained on.")] = 0.1,
    seed: int = 0,
) -> None:
    """Mean absolute error of probabilities against the true ones, by calibrator."""
    shown = Table("task", "calibrator", "mean error", "of the uncalibrated", "PCOC by the truth")
    shown.title = f"{rows:,} impressions, trained with {kept:.0%} of the negatives"
    for one in distances(rows, kept, seed, ("temperature", "platt", "beta", "isotonic", "venn-abers")):
        error, share = f"{one.error:.5f}", f"{one.of_uncalibrated:.1%}"
        shown.add_row(one.task, one.method, error, share, f"{one.pcoc:.3f}")
    console.print(shown)


@app.command()
def coverage(
    draws: Annotated[int, typer.Option(help="Of rows and labels.")] = 1000, rows: Rows = 20_000, seed: int = 0
) -> None:
    """The share of 95 % intervals that hold the truth."""
    found = {each: coverages(draws, rows, each, seed) for each in (1, 10)}
    shown = Table("interval of", "independent rows", "ten rows a user, by user")
    shown.title = f"coverage of 95 % intervals, {draws} draws of {rows:,} rows"
    for name, value in found[1].items():
        shown.add_row(name, f"{value:.1%}", f"{found[10][name]:.1%}")
    console.print(shown)


if __name__ == "__main__":
    app()
