"""The `ctrkit` command: one file a command, each thin: parse, call, print.

Commands import what they need inside, so that `ctrkit --help` answers at once.
"""

from __future__ import annotations

import typer

from ctrkit.cli import (
    calibrate,
    evaluate,
    explain,
    models,
    ope,
    sample_logs,
    simulate_bidding,
    summary,
    train,
)

app = typer.Typer(
    name="ctrkit",
    help="From ad logs to ad decisions: train, calibrate, evaluate policies offline, bid.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("ope")(ope.ope)
app.command("simulate-bidding")(simulate_bidding.simulate_bidding)
app.command("sample-logs")(sample_logs.sample_logs)
app.command("models")(models.models)
app.command("summary")(summary.summary)


def main() -> None:
    """Entry point of the console script."""
    app()
